//! Command line of QEMU without a run: what a run does before its launch, and the command line for a shell.

use std::path::Path;

use qemu_machine_blocking::Config;
use qemu_machine_blocking::core::CommandLine;

use crate::failure::Failure;
use crate::initramfs;
use crate::kernel_test::KernelTest;
use crate::output::check_outputs;
use crate::replace::write_output;
use crate::run::mark;
use crate::shares::Shares;

impl KernelTest {
    /// Does what a run does before its launch, and returns the command line of QEMU for a shell: with KVM if this host
    /// has it, or else TCG, and with directories shared by 9p. There the console is the terminal, and nothing is
    /// connected to the other serial ports and to the agent's: a shell serves no sockets. The initramfs is written to
    /// [`save_initramfs`](Self::save_initramfs). If that is `None`, the word `INITRAMFS` stands for its path.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`], if an argument is not valid, or a file is missing or cannot be written.
    pub fn command_line(&self) -> Result<CommandLine, Failure> {
        check_outputs(self.outputs())?;
        let shares = Shares::of_command_line(self)?;
        let archive = initramfs::build(self, &shares, &mark())?;
        if let Some(path) = &self.save_initramfs {
            write_output(path, &archive)?;
        }
        let initramfs = self.save_initramfs.as_deref().unwrap_or(Path::new("INITRAMFS"));
        let files = (!self.copies.is_empty()).then_some(Path::new("/dev/null"));
        let accel = if self.begins_with_kvm() { "kvm" } else { "tcg" };
        // Before the arguments that add serial ports.
        let ports = Config::new(self.qemu.as_encoded_bytes()).args(["-serial", "mon:stdio", "-serial", "null"]);
        let config = self.config(ports.without_monitor(), accel, initramfs, files, &shares);
        config.command_line().map_err(|misuse| Failure::Host(misuse.to_string().into()))
    }
}
