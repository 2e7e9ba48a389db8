//! Writer of cpio archives that the kernel accepts as an initramfs.
//!
//! The format is "newc" (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel). An entry is a
//! header of hexadecimal numbers, a name and the content; name and content are padded to a multiple of four bytes. The
//! last entry is named `TRAILER!!!`. No crate is used: the format takes fewer lines than a call of one.

use std::collections::BTreeMap;

use qemu_machine_blocking::UntrustedText;

/// The type bits of a mode, and its types (`inode(7)`).
const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;

/// The permission bits of a mode, with set-user-id, set-group-id and sticky bit.
const PERMISSIONS: u32 = 0o7777;

/// The longest path and target of a link, and the longest name in a path (`pathconf(3)` on Linux). The kernel skips an entry
/// with a longer path without a message (`init/initramfs.c`, `do_header`).
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;

/// The path of the entry that ends an archive.
const END: &str = "TRAILER!!!";

/// A cpio archive that is being written. All its files belong to root and have the time 0, so that equal calls give
/// equal bytes.
///
/// Paths begin at the root of the guest, with a leading slash or without; empty names and `.` in them do not count. Missing
/// parent directories are added with mode 0755, because the kernel does not create them. The kernel reports no error when
/// it unpacks an initramfs: it skips what it cannot create. So each method returns an [`ArchiveError`] for that:
///
/// | call | result |
/// |---|---|
/// | a path with `..` or a NUL byte, an empty path, one that is too long, `TRAILER!!!` | [`ArchiveError::Path`] |
/// | a path that the archive has | [`ArchiveError::Exists`]. The kernel would keep the later file, but the earlier link or device |
/// | a path below a file, a device or a link of the archive | [`ArchiveError::NotADirectory`]. The kernel would replace a link by a directory |
/// | a directory that the archive has | its permissions become those of the latest call |
///
/// ```
/// use qemu_machine_guest::Archive;
///
/// let mut archive = Archive::default();
/// archive.file("/usr/bin/true", 0o755, b"...")?;
/// archive.symlink("bin", "usr/bin")?;
/// archive.character_device("dev/console", 0o600, 5, 1)?;
/// assert!(archive.file("bin/false", 0o755, b"...").is_err(), "write usr/bin/false");
/// let initramfs: Vec<u8> = archive.finish();
/// assert_eq!(&initramfs[..6], b"070701");
/// # Ok::<(), qemu_machine_guest::ArchiveError>(())
/// ```
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    /// The number of entries, which is also the inode number of the latest: equal inode numbers would make hard links.
    entries: u32,
    /// The entry of each path.
    known: BTreeMap<String, Written>,
}

/// An entry that was written.
#[derive(Clone, Copy, Debug)]
struct Written {
    mode: u32,
    /// The position of the digits of the mode.
    mode_at: usize,
}

/// The reason why a file cannot be added to an archive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// A file of 4 GiB or more, which the format cannot hold.
    #[error("{path}: a file of {size} bytes does not fit into an initramfs: the format has room for less than 4 GiB")]
    TooLarge {
        /// The path.
        path: UntrustedText,
        /// The size in bytes.
        size: usize,
    },
    /// The path, or the target of a link, is not valid.
    #[error("`{path}` cannot be in an initramfs: {why}")]
    Path {
        /// The path or target.
        path: UntrustedText,
        /// The reason.
        why: &'static str,
    },
    /// The archive has this path.
    #[error("{0} is in the initramfs twice")]
    Exists(UntrustedText),
    /// The path is below one that is no directory in the archive. If that is a link, use the path to which it points.
    #[error("{path} cannot be in the initramfs: {parent} is no directory there, but a {kind}")]
    NotADirectory {
        /// The path.
        path: UntrustedText,
        /// The path above it.
        parent: UntrustedText,
        /// The type of the path above it: `symbolic link`, `file` or `device`.
        kind: &'static str,
    },
}

impl Archive {
    /// Returns an archive that the kernel unpacks after another one. `before` is a complete initramfs, compressed or not,
    /// or several in a row. The kernel finds the next archive at a multiple of four bytes, and skips zeros before it
    /// (the kernel's `init/initramfs.c`, `unpack_to_rootfs`). Errors are only found within the new archive: where the
    /// earlier one has a link, the kernel replaces that by a directory or file, as `clean_path` there does.
    #[must_use]
    pub fn after(before: Vec<u8>) -> Self {
        let mut archive = Self { bytes: before, ..Self::default() };
        archive.fill();
        archive
    }

    /// Adds a file with these permissions.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`].
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<(), ArchiveError> {
        // The kernel reads the size from eight hexadecimal digits.
        if u32::try_from(content.len()).is_err() {
            return Err(ArchiveError::TooLarge { path: path.into(), size: content.len() });
        }
        self.add(path, FILE | (permissions & PERMISSIONS), content, [0, 0])
    }

    /// Adds a symbolic link. The target is not changed, and need not exist.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`].
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), ArchiveError> {
        valid(target, target)?;
        self.add(path, SYMLINK | 0o777, target.as_bytes(), [0, 0])
    }

    /// Adds a directory with these permissions, or sets those of a directory that the archive has.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`].
    pub fn directory(&mut self, path: &str, permissions: u32) -> Result<(), ArchiveError> {
        self.add(path, DIRECTORY | (permissions & PERMISSIONS), &[], [0, 0])
    }

    /// Adds the node of a character device, which needs no privileges on the host.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`].
    pub fn character_device(
        &mut self,
        path: &str,
        permissions: u32,
        major: u32,
        minor: u32,
    ) -> Result<(), ArchiveError> {
        self.add(path, CHARACTER_DEVICE | (permissions & PERMISSIONS), &[], [major, minor])
    }

    /// Adds the node of a block device.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`].
    pub fn block_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) -> Result<(), ArchiveError> {
        self.add(path, BLOCK_DEVICE | (permissions & PERMISSIONS), &[], [major, minor])
    }

    /// Returns the finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, &[], [0, 0]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, content: &[u8], device: [u32; 2]) -> Result<(), ArchiveError> {
        let path = normal(path)?;
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            match self.known.get(parent).map(|entry| entry.mode & TYPE) {
                Some(DIRECTORY) => {}
                Some(other) => {
                    let kind = kind(other);
                    return Err(ArchiveError::NotADirectory { path: (&*path).into(), parent: parent.into(), kind });
                }
                None => self.entry(parent, DIRECTORY | 0o755, &[], [0, 0]),
            }
        }
        match self.known.get_mut(&path) {
            Some(entry) if [entry.mode, mode].iter().all(|mode| mode & TYPE == DIRECTORY) => {
                // Changed in place: the kernel sets the mode of a directory that exists, but not every cpio does.
                entry.mode = mode;
                let digits = self.bytes.iter_mut().skip(entry.mode_at);
                digits.zip(format!("{mode:08x}").bytes()).for_each(|(old, new)| *old = new);
            }
            Some(_) => return Err(ArchiveError::Exists(path.into())),
            None => self.entry(&path, mode, content, device),
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8], device: [u32; 2]) {
        self.entries += 1;
        // `file` bounds the content, and `normal` the path.
        let [name, size] = [path.len() + 1, content.len()].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(b"070701");
        // The mode is behind the magic number and the inode.
        self.known.insert(path.to_owned(), Written { mode, mode_at: self.bytes.len() + 8 });
        // Inode, mode, uid, gid, links, mtime, size; major and minor of the file's device and of a device node; length
        // of the name, checksum.
        for field in [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device[0], device[1], name, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.fill();
        self.bytes.extend_from_slice(content);
        self.fill();
    }

    fn fill(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Returns a path without a leading slash, empty names and `.`.
fn normal(path: &str) -> Result<String, ArchiveError> {
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let invalid = |why| Err(ArchiveError::Path { path: path.into(), why });
    if names.contains(&"..") {
        return invalid("it has `..`");
    }
    if names.iter().any(|name| name.len() > LONGEST_NAME) {
        return invalid("a name has more than 255 bytes");
    }
    let normal = names.join("/");
    if normal == END {
        return invalid("it would end the archive");
    }
    valid(&normal, path)?;
    Ok(normal)
}

/// Checks what is common to paths and to targets of links. `shown` is the text of the caller's.
fn valid(text: &str, shown: &str) -> Result<(), ArchiveError> {
    let why = match text {
        "" => "it is empty",
        text if text.contains('\0') => "it has a NUL byte",
        text if text.len() > LONGEST_PATH => "it has more than 4095 bytes",
        _ => return Ok(()),
    };
    Err(ArchiveError::Path { path: shown.into(), why })
}

/// Returns the name of a type.
fn kind(mode: u32) -> &'static str {
    match mode {
        SYMLINK => "symbolic link",
        FILE => "file",
        _ => "device",
    }
}
