//! Tests of the writer of archives: what it writes is read back, by a reader that follows the format's description.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use qemu_machine_guest::{Archive, ArchiveError};
use qemu_machine_tests::bounded;
use qemu_machine_tests::leak_check::Scratch;

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
    archive.symlink("a/c", "b").unwrap();
    archive.directory("tmp", 0o1777).unwrap();
    archive.character_device("dev/console", 0o600, 5, 1).unwrap();
    archive.block_device("dev/vda", 0o660, 254, 0).unwrap();
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

#[test]
fn a_path_begins_at_the_root_of_the_guest_however_it_is_written() {
    let mut archive = Archive::default();
    archive.file("/init", 0o755, b"1").unwrap();
    archive.file(".//sbin/./init", 0o755, b"2").unwrap();
    let paths: Vec<_> = parsed(&archive.finish()).into_iter().map(|node| node.path).collect();
    assert_eq!(paths, ["init", "sbin", "sbin/init"]);
}

#[test]
fn a_directory_that_is_added_again_gets_the_later_permissions() {
    let mut archive = Archive::default();
    archive.file("root/secret", 0o600, b"").unwrap();
    archive.directory("root", 0o700).unwrap();
    archive.directory("/root/", 0o700).unwrap();
    let expected = [node("root", 0o040_700, b""), node("root/secret", 0o100_600, b"")];
    assert_eq!(parsed(&archive.finish()), expected);
}

/// Each would be skipped by the kernel, or replaced, without a message. A call that fails adds nothing.
#[test]
fn what_the_kernel_cannot_create_is_an_error() {
    let mut archive = Archive::default();
    archive.symlink("lib", "usr/lib").unwrap();
    archive.file("etc/passwd", 0o644, b"").unwrap();
    archive.character_device("dev/null", 0o666, 1, 3).unwrap();
    let (long, longer) = ("n".repeat(256), "n/".repeat(2048) + "n");
    let cases = [
        ("../x", "`../x` cannot be in an initramfs: it has `..`"),
        ("a/../x", "`a/../x` cannot be in an initramfs: it has `..`"),
        ("", "`` cannot be in an initramfs: it is empty"),
        ("/.", "`/.` cannot be in an initramfs: it is empty"),
        ("a\0b", "`a\\0b` cannot be in an initramfs: it has a NUL byte"),
        ("TRAILER!!!", "`TRAILER!!!` cannot be in an initramfs: it would end the archive"),
        (&*long, "cannot be in an initramfs: a name has more than 255 bytes"),
        (&*longer, "cannot be in an initramfs: it has more than 4095 bytes"),
        ("lib", "lib is in the initramfs twice"),
        ("/etc/passwd", "etc/passwd is in the initramfs twice"),
        ("etc", "etc is in the initramfs twice"),
        ("/lib/a/b", "lib/a/b cannot be in the initramfs: lib is no directory there, but a symbolic link"),
        ("etc/passwd/x", "etc/passwd/x cannot be in the initramfs: etc/passwd is no directory there, but a file"),
        ("dev/null/x", "dev/null/x cannot be in the initramfs: dev/null is no directory there, but a device"),
    ];
    for (path, expected) in cases {
        let errors = [archive.file(path, 0o644, b"x"), archive.symlink(path, "x")];
        for error in errors.map(|result| result.unwrap_err().to_string()) {
            assert!(error.ends_with(expected), "{error}");
        }
    }
    assert!(matches!(archive.directory("lib", 0o755), Err(ArchiveError::Exists(_))));
    for target in ["", "a\0b", &longer] {
        assert!(matches!(archive.symlink("link", target), Err(ArchiveError::Path { .. })), "{target:?}");
    }
    let paths: Vec<_> = parsed(&archive.finish()).into_iter().map(|node| node.path).collect();
    assert_eq!(paths, ["lib", "etc", "etc/passwd", "dev", "dev/null"]);
}

/// A cpio of others: the busybox that `tests/setup` unpacked.
#[test]
fn a_cpio_unpacks_an_archive() {
    bounded(|| {
        let (scratch, input) = (Scratch::create(), Scratch::create());
        let mut archive = Archive::default();
        archive.file("/a/b c", 0o640, b"hello").unwrap();
        archive.symlink("a/link", "b c").unwrap();
        archive.directory("a", 0o750).unwrap();
        let packed = input.path().join("archive");
        fs::write(&packed, archive.finish()).unwrap();
        let busybox = Path::new(env!("CARGO_TARGET_TMPDIR")).join("linux-parts/bin/busybox");
        let cpio = |options: &[&str]| {
            let mut command = Command::new(&busybox);
            command.arg("cpio").args(options).current_dir(scratch.path());
            let output = command.stdin(Stdio::from(fs::File::open(&packed).unwrap())).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(cpio(&["-t"]), "a\na/b c\na/link\n");
        cpio(&["-i"]);
        let mode = |path: &str| fs::metadata(scratch.path().join(path)).unwrap().permissions().mode();
        assert_eq!([mode("a"), mode("a/b c")], [0o040_750, 0o100_640]);
        assert_eq!(fs::read(scratch.path().join("a/link")).unwrap(), b"hello");
        fs::remove_dir_all(scratch.path().join("a")).unwrap();
        fs::remove_file(packed).unwrap();
    });
}

proptest! {
    #[test]
    fn files_of_any_names_and_contents_are_read_back(
        files in prop::collection::btree_map("[a-zA-Z0-9._ ü-]{1,9}".prop_filter("a name", |name| !matches!(&**name, "." | "..")), (0_u32..0o10000, prop::collection::vec(any::<u8>(), 0..40)), 0..20),
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
