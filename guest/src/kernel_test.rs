//! Description of a run: the kernel, the command, and everything that can be chosen about the guest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A kernel, and a command to run in it.
///
/// ```no_run
/// use qemu_machine_guest::{KernelTest, Printed};
///
/// let mut test = KernelTest::new("arch/x86/boot/bzImage", ["sh", "-c", "uname -r; exit 7"]);
/// test.append.push("slub_debug=FZP".into());
/// let report = test.run(&mut |printed| {
///     if let Printed::Console(bytes) = printed {
///         print!("{}", String::from_utf8_lossy(bytes));
///     }
/// });
/// assert!(matches!(report.exit, Ok(7)));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KernelTest {
    /// The name in reports. By default, that of the kernel's file.
    pub name: String,
    /// The kernel: an image that QEMU boots (bzImage), with drivers for the serial port and for an initramfs built in.
    pub kernel: PathBuf,
    /// The command and its arguments. No shell reads them.
    pub command: Vec<OsString>,
    /// The program of QEMU. Default: `qemu-system-x86_64`.
    pub qemu: OsString,
    /// The accelerator. Default: [`Accel::Auto`].
    pub accel: Accel,
    /// The time limit of the boot and the command together, without the check of KVM. Default: a minute.
    pub timeout: Duration,
    /// The memory of the guest, as QEMU reads it. Default: `256M`.
    pub memory: OsString,
    /// The number of processors. Default: 1.
    pub cpus: u32,
    /// More parameters for the kernel.
    pub append: Vec<String>,
    /// More arguments for QEMU.
    pub qemu_args: Vec<OsString>,
    /// Whether the kernel's messages are not printed, except for errors and everything from a crash on. The tests in them
    /// are read all the same.
    pub quiet: bool,
    /// An initramfs in which the command runs. `None` means one with nothing but busybox.
    pub initrd: Option<PathBuf>,
    /// A directory in which packages were unpacked, whose files are preferred to those of this host: `bin/busybox`,
    /// `lib/modules` and `usr/sbin/qemu-ga`.
    pub unpacked: Option<PathBuf>,
    /// A busybox without shared libraries. `None` means that of `unpacked`, or one of this host.
    pub busybox: Option<PathBuf>,
    /// Modules to load before the command, by their names. Those that they depend on are added.
    pub modules: Vec<String>,
    /// The directory of the kernel's modules. `None` means `lib/modules/RELEASE` in `unpacked`, or on this host.
    pub module_tree: Option<PathBuf>,
    /// Whether the guest agent runs the command, so that stdout and stderr are separate; they are printed at its end.
    pub agent: bool,
    /// Disk images: `/dev/vda`, `/dev/vdb`, … in the guest.
    pub disks: Vec<Disk>,
    /// Directories of this host to mount in the guest.
    pub shares: Vec<Share>,
    /// The file system of the shared directories. Default: [`ShareBy::Auto`].
    pub share_by: ShareBy,
    /// The file server for virtiofs. `None` means that of this host.
    pub virtiofsd: Option<PathBuf>,
    /// Files to copy out of the guest after the command.
    pub copies: Vec<CopyOut>,
    /// The file for the memory of the guest, as an ELF core, if the kernel panics.
    pub dump: Option<PathBuf>,
    /// The TCP port of this host on which QEMU waits for gdb. The guest is held until gdb continues it, and there is no
    /// time limit.
    pub gdb: Option<u16>,
    /// The file to which the initramfs is written. `None` means that it has no file.
    pub save_initramfs: Option<PathBuf>,
    /// The most memory of the record of the machine ([`Report::record`](crate::Report::record)), in bytes. Of a longer run,
    /// it has the beginning, in a quarter of that, and the end. `None` means that the machine is not recorded.
    pub record_limit: Option<usize>,
}

/// The accelerator of QEMU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accel {
    /// KVM, if a guest that counts to a hundred million with it is done within five seconds, and otherwise TCG: on some
    /// hosts KVM emulates or hangs, mostly on hosts that are guests themselves. With gdb, TCG.
    #[default]
    Auto,
    /// KVM.
    Kvm,
    /// TCG, an emulation.
    Tcg,
}

/// A disk image. Its format is qcow2 if its name ends so, and otherwise raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub image: PathBuf,
    /// Whether the image changes. Otherwise, QEMU drops what the guest wrote.
    pub is_persistent: bool,
}

/// The file system by which the guest mounts directories of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareBy {
    /// virtiofs where the kernel has it and this host has a virtiofsd that works, and otherwise 9p. A directory for
    /// reading only is offered by virtiofs only if the virtiofsd refuses changes (`--readonly`).
    #[default]
    Auto,
    /// virtiofs: the kernel needs `virtiofs`, and the host a virtiofsd. The memory of the guest is shared with it.
    Virtiofs,
    /// 9p: the kernel needs `9p` and `9pnet_virtio`. QEMU serves the files.
    NineP,
}

/// A directory of this host that is mounted in the guest. What the guest writes is in the directory at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The directory of this host.
    pub directory: PathBuf,
    /// The directory of the guest, an absolute path, which is created.
    pub guest: String,
    /// Whether the guest can only read: this host refuses changes, also by a guest that mounts it otherwise.
    pub is_read_only: bool,
}

/// A file to copy out of the guest. It comes over a serial port, so large files take time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOut {
    /// The file of the guest. A directory becomes a tar archive.
    pub guest: String,
    /// The file of this host, which is replaced.
    pub host: PathBuf,
}

/// Output of a run, in the order in which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Printed<'a> {
    /// Bytes of the console: of the kernel, and of the command except with the agent.
    Console(&'a [u8]),
    /// The command's output, from the agent.
    Stdout(&'a [u8]),
    /// The command's errors, from the agent.
    Stderr(&'a [u8]),
    /// A message about the run, for the user.
    Note(&'a str),
}

impl KernelTest {
    /// The limit of the record with `--report`: 64 MiB, about 300,000 lines. QEMU passes the bytes of a serial port on one by
    /// one, or some together, and each piece has one line to four; so these are 100 KB to 2 MB of the console (measured with
    /// QEMU 7.2.22, TCG), and a page of 14 MB, which a browser shows.
    pub const RECORD_LIMIT: usize = 64 << 20;

    /// Describes a run with the defaults, of this kernel with this command.
    #[must_use]
    pub fn new<A: Into<OsString>>(kernel: impl Into<PathBuf>, command: impl IntoIterator<Item = A>) -> Self {
        let kernel = kernel.into();
        let name = kernel.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            name,
            kernel,
            command: command.into_iter().map(Into::into).collect(),
            qemu: "qemu-system-x86_64".into(),
            accel: Accel::Auto,
            timeout: Duration::from_secs(60),
            memory: "256M".into(),
            cpus: 1,
            append: Vec::new(),
            qemu_args: Vec::new(),
            quiet: false,
            initrd: None,
            unpacked: None,
            busybox: None,
            modules: Vec::new(),
            module_tree: None,
            agent: false,
            disks: Vec::new(),
            shares: Vec::new(),
            share_by: ShareBy::Auto,
            virtiofsd: None,
            copies: Vec::new(),
            dump: None,
            gdb: None,
            save_initramfs: None,
            record_limit: None,
        }
    }

    /// Returns the files of this host that a run may write: the copies, the dump, and the initramfs.
    pub fn outputs(&self) -> impl Iterator<Item = &Path> {
        let copies = self.copies.iter().map(|copy| &*copy.host);
        copies.chain(self.dump.as_deref()).chain(self.save_initramfs.as_deref())
    }
}
