//! Files of this host that a guest is made of: a static busybox, the modules of a kernel, the agent, a default kernel.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::kernel::parts;

/// The names of a static busybox: in Debian and most distributions, in Arch, in Alpine.
const BUSYBOX: [&str; 3] = ["busybox", "busybox-static", "busybox.static"];

/// The directories with the modules of kernels, and with images in some distributions (Fedora, Arch). Both are one where
/// `/lib` is a link to `/usr/lib`, which a package that is unpacked alone does not have.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Directories that are searched after those of `PATH`, which has no `sbin` for ordinary users of Debian.
const DIRECTORIES: [&str; 4] = ["/bin", "/usr/bin", "/sbin", "/usr/sbin"];

/// The program header that names a dynamic loader (`elf(5)`, `PT_INTERP`).
const INTERPRETER: u32 = 3;

/// Returns the kernel to test if none is given: the newest of the unpacked packages, or the one that runs on this host.
///
/// # Errors
///
/// [`Failure::Host`] with the places that were searched. Packages without a kernel do not mean that of this host.
pub fn default_kernel(unpacked: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(root) = unpacked else { return running_kernel() };
    let mut kernels = Vec::new();
    for entry in entries(&root.join("boot")) {
        if let Some(release) = entry.file_name().to_string_lossy().strip_prefix("vmlinuz-") {
            kernels.push((parts(release), entry.path()));
        }
    }
    for tree in MODULES {
        for entry in entries(&root.join(tree)) {
            kernels.push((parts(&entry.file_name().to_string_lossy()), entry.path().join("vmlinuz")));
        }
    }
    // A link may point to a place where the packages are not installed.
    let newest = kernels.into_iter().filter(|(_, path)| path.is_file()).max().map(|(_, path)| path);
    newest.ok_or_else(|| {
        let why = "no kernel is there: not in boot/vmlinuz-RELEASE, lib/modules/RELEASE/vmlinuz or \
                   usr/lib/modules/RELEASE/vmlinuz";
        Failure::file(root, fs::read_dir(root).err().map_or(why.to_owned(), |error| error.to_string()))
    })
}

/// Returns the image of the kernel that runs on this host.
fn running_kernel() -> Result<PathBuf, Failure> {
    let file = Path::new("/proc/sys/kernel/osrelease");
    let release = fs::read_to_string(file).map_err(|error| Failure::file(file, error))?;
    let release = release.trim();
    let mut places = vec![format!("/boot/vmlinuz-{release}")];
    places.extend(MODULES.map(|tree| format!("/{tree}/{release}/vmlinuz")));
    let mut reasons = Vec::new();
    for place in places {
        match fs::File::open(&place) {
            Ok(_) => return Ok(place.into()),
            Err(error) => reasons.push(format!("{place}: {error}")),
        }
    }
    Err(Failure::Host(format!("the kernel of this host cannot be read: {}", reasons.join("; ")).into()))
}

/// Returns the entries of a directory. One that cannot be read has none.
fn entries(directory: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok)
}

/// Returns the first of these files that the unpacked packages have.
fn unpacked_file(unpacked: Option<&Path>, places: [&str; 2]) -> Option<PathBuf> {
    let root = unpacked?;
    places.iter().map(|place| root.join(place)).find(|path| path.exists())
}

/// Returns the content of a busybox without shared libraries.
pub(crate) fn busybox(chosen: Option<&Path>, unpacked: Option<&Path>) -> Result<Vec<u8>, Failure> {
    let read = |path: &Path| fs::read(path).map_err(|error| Failure::file(path, error));
    if let Some(path) = chosen {
        let content = read(path)?;
        let why = "it has shared libraries, and the guest has none: choose a busybox that is linked statically";
        return if is_static(&content) { Ok(content) } else { Err(Failure::file(path, why)) };
    }
    let own = unpacked_file(unpacked, ["bin/busybox", "usr/bin/busybox"]);
    let found = own.into_iter().chain(BUSYBOX.iter().flat_map(|name| on_path(name)));
    found.filter_map(|path| fs::read(path).ok()).find(|content| is_static(content)).ok_or_else(|| {
        let why = "no static busybox is found: install the package busybox-static, or choose one with --busybox";
        Failure::Host(why.into())
    })
}

/// Returns the guest agent, and its shared libraries and their loader, by their paths in the guest.
pub(crate) fn agent(unpacked: Option<&Path>) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let own = unpacked_file(unpacked, ["usr/sbin/qemu-ga", "usr/bin/qemu-ga"]);
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
    roots.flat_map(|root| MODULES.map(|tree| root.join(tree).join(release))).find(|tree| tree.is_dir())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use qemu_machine_tests::leak_check::Scratch;

    use super::{default_kernel, module_tree, unpacked_file};

    #[test]
    fn the_newest_kernel_of_the_packages_is_found_in_each_layout() {
        let scratch = Scratch::create();
        let root = scratch.path().join("parts");
        let place = |path: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        let error = default_kernel(Some(&root)).unwrap_err().to_string();
        assert!(error.ends_with("parts: No such file or directory (os error 2)"), "{error}");
        fs::create_dir_all(root.join("boot")).unwrap();
        let error = default_kernel(Some(&root)).unwrap_err().to_string();
        assert!(error.contains("parts: no kernel is there: not in boot/vmlinuz-RELEASE, lib/modules"), "{error}");
        // Each is newer than those before.
        for path in
            ["boot/vmlinuz-6.9.0", "boot/vmlinuz-6.10.0", "lib/modules/6.11.0/vmlinuz", "usr/lib/modules/7.0.0/vmlinuz"]
        {
            let path = place(path);
            assert_eq!(default_kernel(Some(&root)).unwrap(), path);
        }
        // A link that points nowhere.
        std::os::unix::fs::symlink("/nonexistent", root.join("boot/vmlinuz-8.0.0")).unwrap();
        assert!(default_kernel(Some(&root)).unwrap().ends_with("7.0.0/vmlinuz"));
        assert!(module_tree(Some("7.0.0"), Some(&root)).unwrap().ends_with("usr/lib/modules/7.0.0"));
        let busybox = place("usr/bin/busybox");
        assert_eq!(unpacked_file(Some(&root), ["bin/busybox", "usr/bin/busybox"]), Some(busybox));
        fs::remove_dir_all(root).unwrap();
    }
}
