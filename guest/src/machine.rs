//! Configuration of QEMU for a run, and its launch with KVM or TCG.

use std::path::{Path, absolute};
use std::time::{Duration, Instant};

use qemu_machine_blocking::{Config, LaunchCause, LaunchError, Limits, Mark, Misuse, Vm};

use crate::failure::Failure;
use crate::initramfs::INIT;
use crate::kernel_test::{Accel, Disk, KernelTest, Printed};
use crate::kvm::{self, Refusal};
use crate::qemu_option::escaped;
use crate::quiet;
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

/// The least time in which QEMU must start.
const LAUNCH_WITHIN: Duration = Duration::from_secs(30);

/// The bytes that are kept of a console until they are read, and to find a panic or a stall in. A busy host reads late.
const KEPT: usize = 16 << 20;

impl KernelTest {
    /// Launches the guest with an accelerator that works. Returns the machine when QEMU runs, and the time of its launch: the
    /// check of KVM is not part of the run.
    pub(crate) fn launch(
        &self,
        initramfs: &Path,
        files: Option<&Path>,
        shares: &Shares,
        print: &mut dyn FnMut(Printed<'_>),
    ) -> Result<(Vm, Instant), Failure> {
        let start = |accel, shares: &Shares| {
            let ports = Config::new(self.qemu.as_encoded_bytes()).serial(CONSOLE).serial(REPORT);
            let begin = Instant::now();
            Vm::launch(self.config(ports, accel, initramfs, files, shares)).map(|vm| (vm, begin)).map_err(Box::new)
        };
        let launch = |accel, print: &mut dyn FnMut(Printed<'_>)| {
            start(accel, shares).or_else(|error| {
                let mut last = None;
                let ways = if lacks_kvm(&error) { Vec::new() } else { shares.fewer() };
                for (fewer, way) in ways {
                    match start(accel, &fewer) {
                        Ok(started) => {
                            print(Printed::Note(&format!("{}: sharing by {way}", shares::reason(&error))));
                            return Ok(started);
                        }
                        // Another way to share does not change this.
                        Err(error) if lacks_kvm(&error) => return Err(error),
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.unwrap_or(error))
            })
        };
        if self.accel == Accel::Kvm {
            return launch("kvm", print).map_err(Failure::NotStarted);
        }
        if self.accel == Accel::Auto && self.gdb.is_none() {
            let why = match kvm::check(&self.qemu, self.timeout.max(LAUNCH_WITHIN)) {
                Ok(()) => match launch("kvm", print) {
                    Ok(started) => return Ok(started),
                    Err(error) => match error.launch_cause() {
                        cause @ (LaunchCause::KvmMissing
                        | LaunchCause::KvmDenied
                        | LaunchCause::KvmUnsupported
                        | LaunchCause::UnsupportedCpu
                        | LaunchCause::Other(_)) => Some(cause.to_string()),
                        // TCG would not change this.
                        _ => return Err(Failure::NotStarted(error)),
                    },
                },
                Err(Refusal::Host(failure)) => return Err(failure),
                Err(Refusal::Fails(why)) => Some(why),
                Err(Refusal::NotStarted(error)) => match error.launch_cause() {
                    // A host without KVM needs no note, and a program that the host cannot run fails again below.
                    LaunchCause::KvmMissing | LaunchCause::Host(_) => None,
                    cause => Some(cause.to_string()),
                },
            };
            if let Some(why) = why {
                print(Printed::Note(&format!("KVM does not work here ({why}): using TCG")));
            }
        }
        launch("tcg", print).map_err(Failure::NotStarted)
    }

    /// Reports whether a run uses KVM, or would if it works, where `/dev/kvm` exists.
    pub(crate) fn begins_with_kvm(&self) -> bool {
        let may_try = self.accel == Accel::Auto && self.gdb.is_none();
        self.accel == Accel::Kvm || may_try && Path::new("/dev/kvm").exists()
    }

    /// Returns the configuration of QEMU. `ports` has the program, and the first two serial ports.
    pub(crate) fn config(
        &self,
        ports: Config,
        accel: &str,
        initramfs: &Path,
        files: Option<&Path>,
        shares: &Shares,
    ) -> Config {
        let mut limits = Limits::default();
        limits.console = KEPT;
        limits.record = self.record_limit.unwrap_or(limits.record);
        let mut config = if self.agent { ports.guest_agent() } else { ports };
        if self.record_limit.is_some() {
            config = config.recorded();
        }
        config = config
            .limits(limits)
            .launch_within(self.timeout.max(LAUNCH_WITHIN))
            .args(["-accel", accel, "-cpu", cpu(accel), "-nodefaults", "-no-user-config", "-no-reboot", "-m"])
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
    /// Results of KUnit are messages of the level `info`, which a kernel may be built not to print (`loglevel=7`).
    fn kernel_parameters(&self) -> String {
        let panic = if self.dump.is_some() { "panic=0" } else { "panic=-1" };
        let mut words = vec!["console=ttyS0 loglevel=7 oops=panic no_timer_check", panic];
        words.extend(self.quiet.then_some(quiet::PARAMETERS));
        // gdb has the addresses of the kernel's ELF file.
        words.extend(self.gdb.map(|_| "nokaslr"));
        words.extend(self.append.iter().map(String::as_str));
        words.extend(INIT);
        words.join(" ")
    }
}

/// Returns the CPU model: all that the accelerator has, since programs for x86-64-v2 and -v3 do not run on the default of
/// QEMU, `qemu64`. TCG walks page tables in software: with their fifth level (`la57`), a shell that starts 1500 programs
/// takes a fifth longer (measured with QEMU 7.2.22). A later `-cpu` of the caller replaces it.
fn cpu(accel: &str) -> &'static str {
    if accel == "kvm" { "max" } else { "max,la57=off" }
}

/// Reports whether a launch failed because QEMU cannot use KVM.
fn lacks_kvm(error: &LaunchError) -> bool {
    matches!(error.launch_cause(), LaunchCause::KvmMissing | LaunchCause::KvmDenied | LaunchCause::KvmUnsupported)
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

/// Returns the whole text that is kept of a console.
pub(crate) fn printed(vm: &Vm, console: &str) -> Result<String, Misuse> {
    Ok(String::from_utf8_lossy(&vm.console(console, &Mark::default())?).into_owned())
}
