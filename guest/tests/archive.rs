//! Tests of the writer of archives: what it writes is read back, by a reader that follows the format's description.

use proptest::prelude::*;
use qemu_machine_guest::Archive;

/// An entry as it is read back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    path: String,
    mode: u32,
    device: (u32, u32),
    content: Vec<u8>,
}

/// Reads an archive as the kernel does (`init/initramfs.c`): zeros between entries are skipped, and an entry begins at a
/// multiple of four bytes. Returns the entries of all archives in a row, and asserts that inode numbers differ.
fn parsed(bytes: &[u8]) -> Vec<Node> {
    let (mut nodes, mut inodes, mut at) = (Vec::new(), Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == 0 {
            at += 1;
            continue;
        }
        assert!(at % 4 == 0 && bytes[at..].starts_with(b"070701"), "no header at {at}");
        let field = |index: usize| {
            let digits = &bytes[at + 6 + 8 * index..][..8];
            u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
        };
        let name_at = at + 110;
        let content_at = (name_at + field(11) as usize).next_multiple_of(4);
        let end = content_at + field(6) as usize;
        let name = bytes[name_at..][..field(11) as usize].strip_suffix(b"\0").unwrap();
        let path = String::from_utf8(name.to_vec()).unwrap();
        let content = bytes[content_at..end].to_vec();
        if path == "TRAILER!!!" {
            inodes.clear();
        } else {
            assert!(!inodes.contains(&field(0)), "{path} would be a hard link");
            inodes.push(field(0));
            nodes.push(Node { path, mode: field(1), device: (field(9), field(10)), content });
        }
        at = end.next_multiple_of(4);
    }
    nodes
}

fn node(path: &str, mode: u32, content: &[u8]) -> Node {
    Node { path: path.into(), mode, device: (0, 0), content: content.into() }
}

#[test]
fn each_kind_of_entry_is_read_back_after_its_directories() {
    let mut archive = Archive::default();
    archive.file("a/b", 0o4755, b"hello").unwrap();
    archive.symlink("a/c", "b");
    archive.directory("tmp", 0o1777);
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.block_device("dev/vda", 0o660, 254, 0);
    let expected = [
        node("a", 0o040_755, b""),
        node("a/b", 0o104_755, b"hello"),
        node("a/c", 0o120_777, b"b"),
        node("tmp", 0o041_777, b""),
        node("dev", 0o040_755, b""),
        Node { device: (5, 1), ..node("dev/console", 0o020_600, b"") },
        Node { device: (254, 0), ..node("dev/vda", 0o060_660, b"") },
    ];
    assert_eq!(parsed(&archive.finish()), expected);
}

#[test]
fn an_archive_after_another_one_begins_at_a_multiple_of_four() {
    for padding in 0..4 {
        let mut first = Archive::default();
        first.file("first", 0o644, b"1").unwrap();
        let mut before = first.finish();
        before.resize(before.len() + padding, 0);
        let mut second = Archive::after(before);
        second.file("second", 0o644, b"2").unwrap();
        let paths: Vec<_> = parsed(&second.finish()).into_iter().map(|node| node.path).collect();
        assert_eq!(paths, ["first", "second"], "{padding}");
    }
}

proptest! {
    #[test]
    fn files_of_any_names_and_contents_are_read_back(
        files in prop::collection::btree_map("[a-zA-Z0-9._ ü-]{1,9}", (0_u32..0o10000, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
    ) {
        let mut archive = Archive::default();
        for (path, (permissions, content)) in &files {
            archive.file(path, *permissions, content).unwrap();
        }
        let expected: Vec<_> =
            files.iter().map(|(path, (permissions, content))| node(path, 0o100_000 | permissions, content)).collect();
        prop_assert_eq!(parsed(&archive.finish()), expected);
    }
}
