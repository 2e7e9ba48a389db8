//! The guest: its kernel, its initramfs, and its launch with KVM or TCG.

use std::env::current_exe;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use qemu_machine_blocking::{Config, Found, Mark, Vm, Wait};
use qemu_machine_tests::cpio::Archive;
use qemu_machine_tests::linux::Parts;

use crate::failure::Failure;
use crate::options::{Accel, Options};

/// The first serial port, on which the kernel and the command print.
pub(crate) const CONSOLE: &str = "console";

/// The second serial port, on which the guest reports.
pub(crate) const REPORT: &str = "report";

/// The time in which a guest on KVM must reach its init: it takes a second. On some hosts KVM hangs, mostly on hosts
/// that are guests themselves.
const KVM_WITHIN: Duration = Duration::from_secs(5);

/// A guest, as files on the host.
pub(crate) struct Guest {
    kernel: PathBuf,
    initramfs: File,
}

impl Guest {
    pub(crate) fn build(options: &Options) -> Result<Self, Failure> {
        let parts = parts().ok_or_else(|| Failure::Host("no Linux is unpacked here: run tests/setup".into()))?;
        let kernel = options.kernel.clone().unwrap_or_else(|| parts.kernel());
        let initramfs = initramfs(&parts, options).map_err(|error| Failure::Host(format!("initramfs: {error}")))?;
        Ok(Self { kernel, initramfs })
    }

    /// Launches the guest with an accelerator that works, and returns when QEMU runs.
    ///
    /// # Errors
    ///
    /// [`Failure::NotStarted`].
    pub(crate) fn launch(&self, options: &Options) -> Result<Vm, Failure> {
        if options.accel == Accel::Kvm || (options.accel == Accel::Auto && Path::new("/dev/kvm").exists()) {
            let vm = Vm::launch(self.config("kvm", options));
            if options.accel == Accel::Kvm || vm.as_ref().is_ok_and(gets_on) {
                return vm.map_err(Failure::NotStarted);
            }
            eprintln!("kernel-test: KVM does not work here, or is too slow: using TCG");
        }
        Vm::launch(self.config("tcg", options)).map_err(Failure::NotStarted)
    }

    fn config(&self, accel: &str, options: &Options) -> Config {
        // The kernel resets when it panics (`panic=-1`), and QEMU ends when the guest resets (`-no-reboot`). The check
        // of the timer fails on busy hosts.
        let mut append = vec!["console=ttyS0 panic=-1 oops=panic no_timer_check"];
        append.extend(options.quiet.then_some("quiet"));
        append.extend(options.append.iter().map(String::as_str));
        // The file has no name, so QEMU opens it through this process (`proc(5)`).
        let initramfs = format!("/proc/{}/fd/{}", process::id(), self.initramfs.as_raw_fd());
        let config = Config::new("qemu-system-x86_64")
            .args(["-accel", accel, "-nodefaults", "-no-user-config", "-no-reboot", "-m", "256M"])
            .arg("-kernel")
            .arg(&self.kernel)
            .args(["-initrd", &initramfs, "-append", &append.join(" ")])
            .args(options.qemu_arg.iter().map(String::as_str))
            .serial(CONSOLE)
            .serial(REPORT);
        if options.agent { config.guest_agent() } else { config }
    }
}

/// Reports whether a guest reaches its init in time. If it does not because of its kernel, TCG fails as well, and that
/// failure is reported.
fn gets_on(vm: &Vm) -> bool {
    let hit = vm.wait_any(&Mark::default(), [Wait::text(REPORT, "ready."), Wait::end()], KVM_WITHIN);
    hit.is_ok_and(|hit| matches!(hit.found, Found::Text(_)))
}

/// Returns the files that `tests/setup` unpacked. They are in cargo's target directory, as is this program. `None`
/// means that nothing was unpacked.
fn parts() -> Option<Parts> {
    current_exe().ok()?.ancestors().find_map(|directory| Parts::below(&directory.join("tmp")))
}

/// Writes an initramfs with busybox, the command, and an init that runs it. The file has no name, so nothing is left of
/// it however this program ends.
fn initramfs(parts: &Parts, options: &Options) -> io::Result<File> {
    let command = shlex::try_join(options.command.iter().map(String::as_str)).map_err(io::Error::other)?;
    let mut archive = Archive::default();
    for path in ["dev", "proc", "run", "sys", "tmp", "var/run"] {
        archive.directory(path);
    }
    archive.file("init", include_bytes!("init.sh"));
    archive.file("command", format!("#!/bin/sh\nexec {command}\n").as_bytes());
    parts.add_busybox(&mut archive);
    if options.agent {
        parts.add_agent(&mut archive);
    }
    let mut file = tempfile::tempfile()?;
    file.write_all(&archive.finish())?;
    Ok(file)
}
