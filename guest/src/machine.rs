//! Configuration of QEMU for a run, and its launch with KVM or TCG.

use std::path::{Path, absolute};
use std::time::Duration;

use qemu_machine_blocking::core::CommandLine;
use qemu_machine_blocking::{Config, Found, Limits, Mark, Misuse, Vm, Wait};

use crate::failure::Failure;
use crate::initramfs::INIT;
use crate::kernel_test::{Accel, Disk, KernelTest, Printed};
use crate::qemu_option::escaped;
use crate::shares::{self, Shares};

/// The first serial port, on which the kernel and the command print.
pub(crate) const CONSOLE: &str = "console";

/// The second serial port, on which the guest reports.
pub(crate) const REPORT: &str = "report";

/// The chardev of the third serial port, on which files come. It is a file, and not a console with a log: QEMU logs a byte
/// twice that the socket of a console does not accept at once (QEMU, `chardev/char.c`, `qemu_chr_write_buffer`; measured
/// with QEMU 7.2.22).
const FILES: &str = "files";

/// The beginning of the kernel's message about a panic (the kernel's `kernel/panic.c`, `panic`).
pub(crate) const PANIC: &str = "Kernel panic - not syncing: ";

/// The time in which a guest on KVM must reach its init: it takes a second. On some hosts KVM hangs, mostly on hosts
/// that are guests themselves.
const KVM_WITHIN: Duration = Duration::from_secs(5);

/// The bytes that are kept of a console until they are read, and to find a panic or a stall in. A busy host reads late.
const KEPT: usize = 16 << 20;

impl KernelTest {
    /// Returns the command line of QEMU, for a shell: the console is the terminal there, and there is no monitor. The
    /// initramfs is that of [`save_initramfs`](Self::save_initramfs), or else the word `INITRAMFS`.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`], if an argument is not valid.
    pub fn command_line(&self) -> Result<CommandLine, Failure> {
        let initramfs = self.save_initramfs.clone().unwrap_or_else(|| "INITRAMFS".into());
        let accel = if self.accel == Accel::Kvm { "kvm" } else { "tcg" };
        let config = self.config(accel, &initramfs, None, &Shares::of_command_line(self)?).without_monitor();
        let config = config.args(["-serial", "mon:stdio", "-serial", "null", "-serial", "null"]);
        config.command_line().map_err(|misuse| Failure::Host(misuse.to_string().into()))
    }

    /// Launches the guest with an accelerator that works, and returns when QEMU runs.
    pub(crate) fn launch(
        &self,
        initramfs: &Path,
        files: Option<&Path>,
        shares: &Shares,
        print: &mut dyn FnMut(Printed<'_>),
    ) -> Result<Vm, Failure> {
        let start = |accel, shares: &Shares| {
            let config = self.config(accel, initramfs, files, shares).serial(CONSOLE).serial(REPORT);
            Vm::launch(if self.agent { config.guest_agent() } else { config })
        };
        let launch = |accel, print: &mut dyn FnMut(Printed<'_>)| {
            start(accel, shares).or_else(|error| {
                let mut last = None;
                for (fewer, way) in shares.fewer() {
                    match start(accel, &fewer) {
                        Ok(vm) => {
                            print(Printed::Note(&format!("{}: sharing by {way}", shares::reason(&error))));
                            return Ok(vm);
                        }
                        Err(error) => last = Some(error),
                    }
                }
                Err(Failure::NotStarted(Box::new(last.unwrap_or(error))))
            })
        };
        let tries_kvm = self.accel == Accel::Auto && self.gdb.is_none() && Path::new("/dev/kvm").exists();
        if self.accel == Accel::Kvm || tries_kvm {
            let vm = launch("kvm", print);
            if !tries_kvm || vm.as_ref().is_ok_and(gets_on) {
                return vm;
            }
            print(Printed::Note("KVM does not work here, or is too slow: using TCG"));
        }
        launch("tcg", print)
    }

    fn config(&self, accel: &str, initramfs: &Path, files: Option<&Path>, shares: &Shares) -> Config {
        let mut limits = Limits::default();
        limits.console = KEPT;
        let mut config = Config::new(self.qemu.as_encoded_bytes())
            .limits(limits)
            .args(["-accel", accel, "-nodefaults", "-no-user-config", "-no-reboot", "-m"])
            .arg(self.memory.as_encoded_bytes())
            .args(["-smp", &self.cpus.to_string(), "-kernel"])
            .arg(self.kernel.as_os_str().as_encoded_bytes())
            .arg("-initrd")
            .arg(initramfs.as_os_str().as_encoded_bytes())
            .args(["-append", &self.kernel_parameters()]);
        for (disk, number) in self.disks.iter().zip(0..) {
            let device = format!("virtio-blk-pci,drive=disk{number}");
            config = config.arg("-drive").arg(drive(disk, number)).args(["-device", &device]);
        }
        config = shares.add_to(self, config);
        if let Some(path) = files {
            let file = [format!("file,id={FILES},path=").into_bytes(), escaped(path)].concat();
            config = config.arg("-chardev").arg(file).args(["-serial", &format!("chardev:{FILES}")]);
        }
        if let Some(port) = self.gdb {
            config = config.args(["-S", "-gdb", &format!("tcp:127.0.0.1:{port}")]);
        }
        config.args(self.qemu_args.iter().map(|argument| argument.as_encoded_bytes()))
    }

    /// Returns the parameters of the kernel. It resets when it panics (`panic=-1`), and QEMU ends when the guest resets
    /// (`-no-reboot`), except for a dump: then it stays in the panic. The check of the timer fails on busy hosts.
    fn kernel_parameters(&self) -> String {
        let panic = if self.dump.is_some() { "panic=0" } else { "panic=-1" };
        let mut words = vec!["console=ttyS0 oops=panic no_timer_check", panic];
        words.extend(self.quiet.then_some("quiet"));
        // gdb has the addresses of the kernel's ELF file.
        words.extend(self.gdb.map(|_| "nokaslr"));
        words.extend(self.append.iter().map(String::as_str));
        words.extend(INIT);
        words.join(" ")
    }
}

/// Returns the value of `-drive` for a disk image.
fn drive(disk: &Disk, number: usize) -> Vec<u8> {
    let is_qcow2 = disk.image.extension().is_some_and(|extension| extension == "qcow2");
    let format = if is_qcow2 { "qcow2" } else { "raw" };
    let snapshot = if disk.is_persistent { "off" } else { "on" };
    let mut value = format!("if=none,id=disk{number},format={format},snapshot={snapshot},file=").into_bytes();
    // QEMU reads what is before a colon as a protocol, unless a slash comes first (QEMU, `block.c`, `path_has_protocol`).
    value.extend(escaped(&absolute(&disk.image).unwrap_or_else(|_| disk.image.clone())));
    value
}

/// Reports whether a guest reaches its init in time, or a panic. If it does not because of its kernel, TCG fails as well,
/// and that failure is reported.
fn gets_on(vm: &Vm) -> bool {
    let signs = [Wait::output(REPORT), Wait::text(CONSOLE, "kernel-test-"), Wait::text(CONSOLE, PANIC), Wait::end()];
    let hit = vm.wait_any(&Mark::default(), signs, KVM_WITHIN);
    hit.is_ok_and(|hit| matches!(hit.found, Found::Text(_)))
}

/// Returns the whole text that is kept of a console.
pub(crate) fn printed(vm: &Vm, console: &str) -> Result<String, Misuse> {
    Ok(String::from_utf8_lossy(&vm.console(console, &Mark::default())?).into_owned())
}
