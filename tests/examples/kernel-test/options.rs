//! Command line of `kernel-test`.

use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::failure::EXIT_CODES;

/// Runs a command in a Linux guest, prints the guest's console meanwhile, and exits with the command's code
#[derive(Debug, Parser)]
#[command(name = "kernel-test", after_help = EXIT_CODES)]
pub(crate) struct Options {
    /// Kernel to boot, with drivers for the serial port and initramfs built in [default: Debian's, from tests/setup]
    #[arg(long, value_name = "PATH")]
    pub(crate) kernel: Option<PathBuf>,

    /// Time that the boot and the command may take together
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,

    /// Print only the output of the command, and errors of the kernel
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Run the command through the guest agent: its stdout and stderr are separate, and printed at its end
    #[arg(long)]
    pub(crate) agent: bool,

    /// Accelerator; `auto` is KVM if the guest reaches its init within seconds, and otherwise TCG
    #[arg(long, value_enum, default_value_t)]
    pub(crate) accel: Accel,

    /// Additional parameter for the kernel; may be repeated
    #[arg(long, value_name = "PARAMETER", allow_hyphen_values = true)]
    pub(crate) append: Vec<String>,

    /// Additional argument for QEMU; may be repeated: --qemu-arg=-m --qemu-arg=1G
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub(crate) qemu_arg: Vec<String>,

    /// Command of busybox to run; `sh -c '…'` for more than one
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Accel {
    #[default]
    Auto,
    Kvm,
    Tcg,
}

impl Options {
    /// Reads the options. Exits if they are not valid, and after `--help`.
    pub(crate) fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            // If this fails, the exit code remains.
            let _ = error.print();
            exit(if error.use_stderr() { 125 } else { 0 })
        })
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
