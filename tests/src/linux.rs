//! Decides what our Linux guest is: Debian's kernel, and an initramfs with busybox, Debian's qemu-ga, and an init of ours.
//!
//! `tests/setup` unpacks the parts; what is made of them stands beside them. Its serial console is `tty`. What its agent
//! tells of the system (`guest-get-osinfo`) is a line that is typed there: until then the agent hangs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use qemu_machine_core::Config;

use crate::cpio::Archive;

/// The line that the guest prints when its init runs.
pub const INIT: &str = "linux: init";

/// The line when the agent was started: it answers soon.
pub const AGENT: &str = "linux: agent";

/// The line before a power-off.
pub const POWERING_OFF: &str = "linux: powering off";

/// What the agent prints when it knows that a program has ended which it had executed.
pub const PROGRAM_ENDED: &str = "guest_exec_child_watch called";

/// The programs of busybox that the guest has.
const APPLETS: [&str; 12] =
    ["cat", "echo", "insmod", "kill", "mdev", "mkfifo", "mount", "poweroff", "sh", "stty", "test", "true"];

/// What we want of the kernel, with all that it depends on: the port of the agent.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_console"];

/// `mdev` tells of the port of the agent.
const MDEV: &str = "vport.* 0:0 600 @echo $MDEV >/run/port\n";

/// What the agent executes to power off.
const SHUTDOWN: &str = "#!/bin/sh\nkill -USR1 1\n";

/// The guest, as files on the host.
#[derive(Clone, Debug)]
pub struct Linux {
    kernel: PathBuf,
    initramfs: PathBuf,
}

/// Debian's packages, unpacked below one directory: what guests are made of.
#[derive(Clone, Debug)]
pub struct Parts(PathBuf);

impl Linux {
    /// The guest whose parts are in this directory of cargo's (`CARGO_TARGET_TMPDIR`). Its initramfs is made there, if
    /// it is not as it should be already.
    ///
    /// # Panics
    ///
    /// When `tests/setup` has not unpacked the parts.
    #[must_use]
    pub fn in_directory(tmp: &str) -> Self {
        let parts = Parts::unpacked(tmp);
        let initramfs = Path::new(tmp).join("linux-initramfs");
        keep(&initramfs, &parts.initramfs());
        Self { kernel: parts.kernel(), initramfs }
    }

    /// How it is launched, with the port of its agent and with the console `tty`.
    #[must_use]
    pub fn config(&self) -> Config {
        self.appending("")
    }

    /// As [`config`](Self::config), but nobody listens at the port of the agent.
    #[must_use]
    pub fn config_without_agent(&self) -> Config {
        self.appending(" without-agent")
    }

    /// The kernel's check of its timer fails on a host that is busy, and then it panics.
    ///
    /// TCG, also where there is KVM: a guest takes two or three seconds there, and what some hosts offer for KVM hangs in
    /// the first steps of this kernel.
    fn appending(&self, more: &str) -> Config {
        let [kernel, initramfs] = [&self.kernel, &self.initramfs].map(|path| path.to_str().expect("a path in UTF-8"));
        let append = format!("console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check{more}");
        Config::new(crate::qemu())
            .args(["-accel", "tcg", "-nodefaults", "-no-user-config", "-no-reboot", "-m", "128M"])
            .args(["-kernel", kernel, "-initrd", initramfs, "-append", &append])
            .serial("tty")
            .guest_agent()
    }
}

/// Debian's qemu-ga as a program of this host: its libraries are those that QEMU needs.
///
/// # Panics
///
/// When `tests/setup` has not unpacked it.
#[must_use]
pub fn agent_program(tmp: &str) -> PathBuf {
    Parts::unpacked(tmp).agent()
}

/// Has this content in this file. Other threads and processes may be at it as well: none sees half of it.
fn keep(path: &Path, content: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    if fs::read(path).is_ok_and(|there| there == content) {
        return;
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("new-{}-{count}", std::process::id()));
    let kept = fs::write(&new, content).and_then(|()| fs::rename(&new, path));
    if let Err(error) = kept {
        // There may be nothing to remove.
        let _ = fs::remove_file(&new);
        panic!("cannot write {}: {error}", path.display());
    }
}

impl Parts {
    /// Those in this directory of cargo's, if `tests/setup` has unpacked them there.
    #[must_use]
    pub fn below(tmp: &Path) -> Option<Self> {
        Some(Self(tmp.join("linux-parts"))).filter(|parts| parts.0.is_dir())
    }

    fn unpacked(tmp: &str) -> Self {
        Self::below(Path::new(tmp)).unwrap_or_else(|| panic!("{tmp}/linux-parts is missing: tests/setup unpacks it"))
    }

    fn agent(&self) -> PathBuf {
        self.0.join("usr/sbin/qemu-ga")
    }

    fn read(&self, path: &str) -> Vec<u8> {
        read(&self.0.join(path))
    }

    /// The kernel.
    ///
    /// # Panics
    ///
    /// When it is missing among the parts; so do the others.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        only(&self.0.join("boot"), "vmlinuz-")
    }

    fn initramfs(&self) -> Vec<u8> {
        let mut archive = Archive::default();
        for path in ["dev", "proc", "run", "sys", "tmp", "var/run"] {
            archive.directory(path);
        }
        archive.file("init", include_bytes!("linux/init.sh"));
        archive.file("sbin/shutdown", SHUTDOWN.as_bytes());
        self.add_busybox(&mut archive);
        for applet in APPLETS {
            archive.symlink(&format!("bin/{applet}"), "busybox");
        }
        self.add_agent(&mut archive);
        archive.finish()
    }

    /// All commands in one program, `/bin/busybox`.
    pub fn add_busybox(&self, archive: &mut Archive) {
        archive.file("bin/busybox", &self.read("bin/busybox"));
    }

    /// The guest agent with its libraries, and what its port needs of the kernel: see `tests/src/linux/init.sh` for how
    /// it is started.
    pub fn add_agent(&self, archive: &mut Archive) {
        let agent = self.agent();
        archive.file("usr/sbin/qemu-ga", &read(&agent));
        for library in libraries(&agent) {
            archive.file(library.trim_start_matches('/'), &read(Path::new(&library)));
        }
        archive.file("etc/mdev.conf", MDEV.as_bytes());
        self.add_modules(archive);
    }

    /// The modules, and a list of them in the order of loading.
    fn add_modules(&self, archive: &mut Archive) {
        let tree = only(&self.0.join("lib/modules"), "");
        let built_in = String::from_utf8(read(&tree.join("modules.builtin"))).expect("a list of paths");
        let mut loaded = Vec::new();
        for module in MODULES {
            load(module, &tree, &built_in, &mut loaded);
        }
        let mut order = String::new();
        for (name, content) in loaded {
            let path = format!("lib/modules/{name}.ko");
            archive.file(&path, &content);
            order += &format!("/{path}\n");
        }
        archive.file("lib/modules/order", order.as_bytes());
    }
}

/// Adds a module behind those that it depends on. The package has no `modules.dep`, which is made when a kernel is
/// installed, so each is asked itself.
fn load(name: &str, tree: &Path, built_in: &str, loaded: &mut Vec<(String, Vec<u8>)>) {
    let file = format!("/{name}.ko");
    if loaded.iter().any(|(other, _)| other == name) || built_in.lines().any(|line| line.ends_with(&file)) {
        return;
    }
    let content = ["drivers/virtio", "drivers/char"]
        .iter()
        .find_map(|directory| fs::read(tree.join("kernel").join(directory).join(&file[1..])).ok())
        .unwrap_or_else(|| panic!("the kernel has no module {name}"));
    for needed in depends(&content) {
        load(&needed, tree, built_in, loaded);
    }
    loaded.push((name.to_owned(), content));
}

/// What a module says that it depends on: among its strings is `depends=a,b`, between zeros.
fn depends(module: &[u8]) -> Vec<String> {
    let fields = module.split(|byte| *byte == 0);
    let list = fields.filter_map(|field| field.strip_prefix(b"depends=")).next().expect("what a module depends on");
    let list = std::str::from_utf8(list).expect("names of modules");
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The shared libraries of a program, and what loads them, where this host has them.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd, a part of the C library");
    let listed = String::from_utf8(listed.stdout).expect("ldd prints text");
    assert!(!listed.contains("not found"), "the guest agent needs more libraries than QEMU:\n{listed}");
    // `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld.so (0x…)`; what is in no file has no path.
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(str::to_owned).collect()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// The only entry of a directory whose name begins like this.
fn only(directory: &Path, prefix: &str) -> PathBuf {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()));
    let mut found = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let matching =
        found.find(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes())));
    matching.unwrap_or_else(|| panic!("{} has no {prefix}…", directory.display()))
}
