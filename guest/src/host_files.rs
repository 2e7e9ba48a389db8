//! Files of this host that a guest is made of: a static busybox, the modules of a kernel, the agent, a default kernel.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;

/// The names of a static busybox: in Debian and most distributions, in Arch, in Alpine.
const BUSYBOX: [&str; 3] = ["busybox", "busybox-static", "busybox.static"];

/// Directories that are searched after those of `PATH`, which has no `sbin` for ordinary users of Debian.
const DIRECTORIES: [&str; 4] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin"];

/// The program header that names a dynamic loader (`elf(5)`, `PT_INTERP`).
const INTERPRETER: u32 = 3;

/// Returns the kernel to test if none is given: that in these unpacked packages, or the one that runs on this host.
/// `None` means that there is neither, or that it cannot be read.
#[must_use]
pub fn default_kernel(unpacked: Option<&Path>) -> Option<PathBuf> {
    let first = |directory: &Path| {
        let entries = fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        entries
            .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz-")))
            .max()
    };
    let running = || {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
        let release = release.trim();
        let places = [format!("/boot/vmlinuz-{release}"), format!("/lib/modules/{release}/vmlinuz")];
        places.into_iter().map(PathBuf::from).find(|path| fs::File::open(path).is_ok())
    };
    unpacked.and_then(|unpacked| first(&unpacked.join("boot"))).or_else(running)
}

/// Returns the content of a busybox without shared libraries.
pub(crate) fn busybox(chosen: Option<&Path>, unpacked: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let read = |path: &Path| fs::read(path).map_err(|error| Failure::file(path, error));
    if let Some(path) = chosen {
        let content = read(path)?;
        let why = "it has shared libraries, and the guest has none: choose a busybox that is linked statically";
        return if is_static(&content) { Ok(content) } else { Err(Failure::file(path, why)) };
    }
    let own = unpacked.map(|unpacked| unpacked.join("bin/busybox")).filter(|path| path.exists());
    let found = own.into_iter().chain(BUSYBOX.iter().flat_map(|name| on_path(name)));
    found.filter_map(|path| fs::read(path).ok()).find(|content| is_static(content)).ok_or_else(|| {
        let why = "no static busybox is found: install the package busybox-static, or choose one with --busybox";
        Failure::Host(why.into())
    })
}

/// Returns the guest agent, and its shared libraries and their loader, by their paths in the guest.
pub(crate) fn agent(unpacked: Option<&Path>) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let own = unpacked.map(|unpacked| unpacked.join("usr/sbin/qemu-ga")).filter(|path| path.exists());
    let program = own.or_else(|| on_path("qemu-ga").into_iter().find(|path| path.exists()));
    let missing = || Failure::Host("no qemu-ga is found: install the package qemu-guest-agent".into());
    let program = program.ok_or_else(missing)?;
    let mut files = vec![("usr/sbin/qemu-ga".to_owned(), program.clone())];
    files.extend(libraries(&program)?.into_iter().map(|path| (path.clone(), path.into())));
    let read = |(place, path): (String, PathBuf)| match fs::read(&path) {
        Ok(content) => Ok((place, content)),
        Err(error) => Err(Failure::file(&path, error)),
    };
    files.into_iter().map(read).collect()
}

/// Returns the tree of a kernel's modules. `None` means that there is none.
pub(crate) fn module_tree(release: Option<&str>, unpacked: Option<&Path>) -> Option<PathBuf> {
    let release = release?;
    let roots = unpacked.into_iter().chain([Path::new("/")]);
    roots.map(|root| root.join("lib/modules").join(release)).find(|tree| tree.is_dir())
}

/// Returns the paths at which a program may be.
pub(crate) fn on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(DIRECTORIES.map(PathBuf::from));
    directories.map(|directory| directory.join(name)).filter(|path| path.is_file()).collect()
}

/// Returns the paths on this host of a program's shared libraries and of their loader. `ldd` knows how the loader of this
/// host searches for them.
fn libraries(program: &Path) -> Result<Vec<String>, Failure> {
    let listed = Command::new("ldd").arg(program).output().map_err(|error| Failure::file(Path::new("ldd"), error))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    if let Some(line) = listed.lines().find(|line| line.contains("not found")) {
        return Err(Failure::file(program, format!("a shared library is missing on this host: {}", line.trim())));
    }
    // `libc.so.6 => /lib/libc.so.6 (0x…)` or `/lib64/ld.so (0x…)`; the vdso has no path.
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(str::to_owned).collect())
}

/// Reports whether a 64-bit ELF program runs without a dynamic loader. Fields are at the offsets of `Elf64_Ehdr` and
/// `Elf64_Phdr` (`elf(5)`), little-endian.
fn is_static(program: &[u8]) -> bool {
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(program.get(at..at + 2)?.try_into().ok()?)));
    let headers = || {
        let first = u64::from_le_bytes(program.get(32..40)?.try_into().ok()?);
        Some((usize::try_from(first).ok()?, half(54)?, half(56)?))
    };
    let is_elf = program.starts_with(b"\x7fELF\x02\x01");
    let Some((first, size, count)) = headers().filter(|_| is_elf) else { return false };
    (0..count).all(|index| {
        let at = size.checked_mul(index).and_then(|offset| first.checked_add(offset));
        let kind = at.and_then(|at| program.get(at..at.checked_add(4)?)).and_then(|bytes| bytes.try_into().ok());
        kind.is_some_and(|kind| u32::from_le_bytes(kind) != INTERPRETER)
    })
}
