//! Writer of cpio archives that the kernel accepts as an initramfs.
//!
//! The format is "newc" (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel). An entry is a
//! header of hexadecimal numbers, a name and the content; name and content are padded to a multiple of four bytes. The
//! last entry is named `TRAILER!!!`. No crate is used: the format takes fewer lines than a call of one.

use std::collections::BTreeSet;

/// The type bits of a mode (`inode(7)`).
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;

/// The permission bits of a mode, with set-user-id, set-group-id and sticky bit.
const PERMISSIONS: u32 = 0o7777;

/// The largest file: the kernel reads the size from eight hexadecimal digits.
const LARGEST: usize = u32::MAX as usize;

/// A cpio archive that is being written. All its files belong to root and have the time 0, so that equal calls give
/// equal bytes.
///
/// Paths have no leading slash. Missing parent directories are added with mode 0755, because the kernel does not create
/// them. A path that is added twice is written twice, and the kernel keeps the later one.
///
/// ```
/// use qemu_machine_guest::Archive;
///
/// let mut archive = Archive::default();
/// archive.file("bin/true", 0o755, b"...")?;
/// archive.symlink("init", "bin/true");
/// archive.character_device("dev/console", 0o600, 5, 1);
/// let initramfs: Vec<u8> = archive.finish();
/// assert_eq!(&initramfs[..6], b"070701");
/// # Ok::<(), qemu_machine_guest::TooLarge>(())
/// ```
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    /// The number of entries, which is also the inode number of the latest: equal inode numbers would make hard links.
    entries: u32,
    directories: BTreeSet<String>,
}

/// A file of 4 GiB or more, which the format cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file of {0} bytes does not fit into an initramfs: the format has room for less than 4 GiB")]
pub struct TooLarge(pub usize);

impl Archive {
    /// Returns an archive that the kernel unpacks after another one. `before` is a complete initramfs, compressed or not,
    /// or several in a row. The kernel finds the next archive at a multiple of four bytes, and skips zeros before it
    /// (the kernel's `init/initramfs.c`, `unpack_to_rootfs`).
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
    /// [`TooLarge`], for 4 GiB or more.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<(), TooLarge> {
        if content.len() > LARGEST {
            return Err(TooLarge(content.len()));
        }
        self.parents_of(path);
        self.entry(path, FILE | (permissions & PERMISSIONS), content, [0, 0]);
        Ok(())
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parents_of(path);
        self.entry(path, SYMLINK | 0o777, target.as_bytes(), [0, 0]);
    }

    /// Adds a directory with these permissions, unless the archive has it.
    pub fn directory(&mut self, path: &str, permissions: u32) {
        self.parents_of(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | (permissions & PERMISSIONS), &[], [0, 0]);
        }
    }

    /// Adds the node of a character device, which needs no privileges on the host.
    pub fn character_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.parents_of(path);
        self.entry(path, CHARACTER_DEVICE | (permissions & PERMISSIONS), &[], [major, minor]);
    }

    /// Adds the node of a block device.
    pub fn block_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) {
        self.parents_of(path);
        self.entry(path, BLOCK_DEVICE | (permissions & PERMISSIONS), &[], [major, minor]);
    }

    /// Returns the finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], [0, 0]);
        self.bytes
    }

    fn parents_of(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent, 0o755);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8], device: [u32; 2]) {
        self.entries += 1;
        // Content is bounded by `file`; names are far shorter.
        let [name, size] = [path.len() + 1, content.len()].map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(b"070701");
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
