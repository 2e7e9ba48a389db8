//! Linux test guest: Debian's kernel, and an initramfs with busybox, Debian's qemu-ga and an init script.
//!
//! `tests/setup` unpacks the parts, and the initramfs is kept beside them. The serial console is `tty`. The agent
//! answers `guest-get-osinfo` from a line that is typed on this console, and hangs until then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use qemu_machine_core::Config;
use qemu_machine_guest::{Archive, ArchiveError, Modules};

/// The line that the guest prints when its init runs.
pub const INIT: &str = "linux: init";

/// The line after the start of the agent, which answers soon after.
pub const AGENT: &str = "linux: agent";

/// The line before a power-off.
pub const POWERING_OFF: &str = "linux: powering off";

/// The message of the agent when a program of `guest-exec` has ended.
pub const PROGRAM_ENDED: &str = "guest_exec_child_watch called";

/// The busybox applets of the guest.
const APPLETS: [&str; 13] =
    ["cat", "echo", "insmod", "kill", "mdev", "mkfifo", "mount", "poweroff", "reboot", "sh", "stty", "test", "true"];

/// The kernel modules for the port of the agent, and for a directory of the host; their dependencies are added.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_console", "virtiofs"];

/// A rule by which `mdev` writes the name of the agent's port to a pipe.
const MDEV: &str = "vport.* 0:0 600 @echo $MDEV >/run/port\n";

/// The program that the agent executes on `guest-shutdown`, with `-r` for a reboot (QEMU, `qga/commands-posix.c`,
/// `qmp_guest_shutdown`).
const SHUTDOWN: &str = "#!/bin/sh\ncase \" $* \" in *' -r '*) kill -USR2 1 ;; *) kill -USR1 1 ;; esac\n";

/// The guest, as files on the host.
#[derive(Clone, Debug)]
pub struct Linux {
    kernel: PathBuf,
    initramfs: PathBuf,
}

/// Debian's packages, unpacked below one directory, from which guests are made. Its methods panic if a part is missing.
struct Parts(PathBuf);

impl Linux {
    /// Returns the guest whose parts are in cargo's directory `tmp` (`CARGO_TARGET_TMPDIR`). Writes its initramfs
    /// there, unless the file is up to date.
    ///
    /// # Panics
    ///
    /// If `tests/setup` has not unpacked the parts.
    #[must_use]
    pub fn in_directory(tmp: &str) -> Self {
        let parts = Parts::unpacked(tmp);
        let initramfs = Path::new(tmp).join("linux-initramfs");
        keep(&initramfs, &parts.initramfs());
        Self { kernel: parts.kernel(), initramfs }
    }

    /// Returns the configuration that launches the guest, with a guest agent and the console `tty`.
    #[must_use]
    pub fn config(&self) -> Config {
        self.appending("")
    }

    /// As [`config`](Self::config), but the guest does not start its agent.
    #[must_use]
    pub fn config_without_agent(&self) -> Config {
        self.appending(" without-agent")
    }

    /// As [`config`](Self::config), but the guest runs a shell on its console instead of its init: there is no agent, and a
    /// shell that ends is a panic.
    #[must_use]
    pub fn config_with_shell(&self) -> Config {
        self.appending(" rdinit=/bin/sh")
    }

    /// As [`config_with_shell`](Self::config_with_shell), without memory (`-m`).
    #[must_use]
    pub fn config_without_memory(&self) -> Config {
        self.booting(" rdinit=/bin/sh")
    }

    /// As [`config`](Self::config), but the guest runs the init of busybox, which asks a user to press Enter, then runs a
    /// shell, and asks again when that ends. There is no agent.
    #[must_use]
    pub fn config_with_init(&self) -> Config {
        self.appending(" rdinit=/bin/busybox -- init")
    }

    /// Returns the configuration with more kernel arguments.
    fn appending(&self, more: &str) -> Config {
        self.booting(more).args(["-m", "128M"])
    }

    /// Returns the configuration without memory, with more kernel arguments.
    ///
    /// `no_timer_check` is there because the kernel's check of its timer fails on a busy host, and then the kernel
    /// panics. Without `cryptomgr.notests`, its tests of cryptography take a sixth of the boot. The accelerator is TCG
    /// even where KVM exists: with TCG a guest boots in two or three seconds, and with the KVM of some hosts this kernel
    /// hangs early.
    fn booting(&self, more: &str) -> Config {
        let [kernel, initramfs] = [&self.kernel, &self.initramfs].map(|path| path.to_str().expect("a path in UTF-8"));
        let append =
            format!("console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check cryptomgr.notests{more}");
        Config::new(crate::qemu())
            .args(["-accel", "tcg", "-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-kernel", kernel, "-initrd", initramfs, "-append", &append])
            .serial("tty")
            .guest_agent()
    }
}

/// Returns the path of Debian's qemu-ga, as a program for this host: QEMU needs the same libraries.
///
/// # Panics
///
/// If `tests/setup` has not unpacked it.
#[must_use]
pub fn agent_program(tmp: &str) -> PathBuf {
    Parts::unpacked(tmp).agent()
}

/// Writes this content to this file, unless the file has it. Other threads and processes may do the same: the rename
/// lets none of them read a partial file.
fn keep(path: &Path, content: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if fs::read(path).is_ok_and(|there| there == content) {
        return;
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("new-{}-{count}", std::process::id()));
    let kept = fs::write(&new, content).and_then(|()| fs::rename(&new, path));
    if let Err(error) = kept {
        // The file may not exist.
        let _ = fs::remove_file(&new);
        panic!("cannot write {}: {error}", path.display());
    }
}

impl Parts {
    fn unpacked(tmp: &str) -> Self {
        let parts = Path::new(tmp).join("linux-parts");
        assert!(parts.is_dir(), "{tmp}/linux-parts is missing: run tests/setup true");
        Self(parts)
    }

    fn agent(&self) -> PathBuf {
        self.0.join("usr/sbin/qemu-ga")
    }

    fn read(&self, path: &str) -> Vec<u8> {
        read(&self.0.join(path))
    }

    fn kernel(&self) -> PathBuf {
        only(&self.0.join("boot"), "vmlinuz-")
    }

    fn initramfs(&self) -> Vec<u8> {
        self.packed().expect("each path is valid, and added once")
    }

    fn packed(&self) -> Result<Vec<u8>, ArchiveError> {
        let mut archive = Archive::default();
        for path in ["dev", "proc", "run", "sys", "tmp", "var/run"] {
            archive.directory(path, 0o755)?;
        }
        archive.file("init", 0o755, include_bytes!("linux/init.sh"))?;
        archive.file("sbin/shutdown", 0o755, SHUTDOWN.as_bytes())?;
        archive.file("bin/busybox", 0o755, &self.read("bin/busybox"))?;
        for applet in APPLETS {
            archive.symlink(&format!("bin/{applet}"), "busybox")?;
        }
        self.add_agent(&mut archive)?;
        Ok(archive.finish())
    }

    /// Adds the guest agent with its libraries, and the kernel modules of its port. `tests/src/linux/init.sh` starts
    /// the agent.
    fn add_agent(&self, archive: &mut Archive) -> Result<(), ArchiveError> {
        let agent = self.agent();
        archive.file("usr/sbin/qemu-ga", 0o755, &read(&agent))?;
        for library in libraries(&agent) {
            archive.file(&library, 0o755, &read(Path::new(&library)))?;
        }
        archive.file("etc/mdev.conf", 0o755, MDEV.as_bytes())?;
        self.add_modules(archive)
    }

    /// Adds the modules, and a list of them in loading order.
    fn add_modules(&self, archive: &mut Archive) -> Result<(), ArchiveError> {
        let known = Modules::read(&only(&self.0.join("lib/modules"), "")).expect("the package has modules");
        let mut order = String::new();
        for module in known.in_order(MODULES).expect("the kernel has these modules") {
            let path = format!("lib/modules/{}.ko", module.name);
            archive.file(&path, 0o755, &module.content)?;
            order += &format!("/{path}\n");
        }
        archive.file("lib/modules/order", 0o755, order.as_bytes())
    }
}

/// Returns the paths on this host of a program's shared libraries and of their loader.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd, a part of the C library");
    let listed = String::from_utf8(listed.stdout).expect("ldd prints text");
    assert!(!listed.contains("not found"), "the guest agent needs more libraries than QEMU:\n{listed}");
    // `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld.so (0x…)`; the vdso has no path.
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(str::to_owned).collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Returns the entry of a directory whose name has this prefix. There should be only one.
fn only(directory: &Path, prefix: &str) -> PathBuf {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
    let mut found = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let matching =
        found.find(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes())));
    matching.unwrap_or_else(|| panic!("{} has no entry {prefix}…", directory.display()))
}
