//! Decides what can be said on our command line.

use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::failure::EXIT_CODES;

/// Runs a command in a Linux guest, shows what the guest prints while it runs, and exits with the command's code
#[derive(Debug, Parser)]
#[command(name = "kernel-test", after_help = EXIT_CODES)]
pub(crate) struct Options {
    /// The kernel to boot, with its serial console and its initramfs built in [default: Debian's, from tests/setup]
    #[arg(long, value_name = "PATH")]
    pub(crate) kernel: Option<PathBuf>,

    /// How long the boot and the command may take together
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,

    /// Does not show what the kernel says, unless it is an error: only what the command prints
    #[arg(long)]
    pub(crate) quiet: bool,

    /// Has the guest agent run the command: its stdout and stderr come apart, and at its end
    #[arg(long)]
    pub(crate) agent: bool,

    /// What runs the guest: KVM where it brings the guest to its init within seconds, else TCG; or only one of them
    #[arg(long, value_enum, default_value_t)]
    pub(crate) accel: Accel,

    /// One more parameter for the kernel, as often as needed
    #[arg(long, value_name = "PARAMETER", allow_hyphen_values = true)]
    pub(crate) append: Vec<String>,

    /// One more argument for QEMU, as often as needed: --qemu-arg=-m --qemu-arg=1G
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub(crate) qemu_arg: Vec<String>,

    /// What to run, of busybox's commands; `sh -c '…'` for more than one
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
    /// What we were called with. Ends the process when that is wrong, and when it asks for help.
    pub(crate) fn read() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            // Without a terminal there is nobody to tell.
            let _ = error.print();
            exit(if error.use_stderr() { 125 } else { 0 })
        })
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
