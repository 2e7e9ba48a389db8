//! Writer of cpio archives that the kernel accepts as an initramfs.
//!
//! The format is "newc" (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel). An entry is a
//! header of hexadecimal numbers, a name and the content; name and content are padded to a multiple of four bytes. The
//! last entry is named `TRAILER!!!`.

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const SYMLINK: u32 = 0o120_777;

/// An archive that is being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    /// The number of entries, which is also the inode number of the latest: equal inode numbers would make hard links.
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds an executable file and its parent directories. The path has no leading slash.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.parents_of(path);
        self.entry(path, FILE, content);
    }

    /// Adds a symbolic link and its parent directories.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parents_of(path);
        self.entry(path, SYMLINK, target.as_bytes());
    }

    /// Adds a directory and its parent directories.
    pub fn directory(&mut self, path: &str) {
        self.parents_of(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, &[]);
        }
    }

    /// Returns the finished archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    /// Adds the parent directories of a path: the kernel does not create missing ones.
    fn parents_of(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let [links, name, size] = [1, path.len() + 1, content.len()].map(|number| u32::try_from(number).unwrap());
        self.bytes.extend_from_slice(b"070701");
        // Inode, mode, uid, gid, links, mtime, size; major and minor of the file's device and of a device node; length
        // of the name, checksum.
        for field in [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name, 0] {
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

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_entry_follows_its_directories_and_is_padded() {
        let mut archive = Archive::default();
        archive.file("a/b", b"hello");
        archive.symlink("a/c", "b");
        let bytes = archive.finish();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let names: Vec<&str> =
            text.split("070701").skip(1).map(|entry| entry[104..].split('\0').next().unwrap()).collect();
        assert_eq!(names, ["a", "a/b", "a/c", "TRAILER!!!"]);
        assert_eq!(bytes.len() % 4, 0);
        let file = &text[text.match_indices("070701").nth(1).unwrap().0..];
        // Mode, links and size; then the content, after the name.
        assert_eq!([&file[14..22], &file[38..46], &file[54..62]], ["000081ed", "00000001", "00000005"]);
        assert_eq!(&file[110..124], "a/b\0\0\0hello\0\0\0");
    }
}
