//! Tests of output files that take their place when they are complete: a killed writer, links, permissions, files that are
//! written in place.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use qemu_machine_guest::write_output;
use qemu_machine_tests::leak_check::Scratch;
use rustix::process::geteuid;

use crate::run::{kernel, path, program, quietly};

/// A user without rights, whose number no other user has (Debian: `nobody`).
const NOBODY: u32 = 65534;

/// The initramfs has about 2 MB. The kernel ends a process that writes more to a file than it may (`setrlimit(2)`,
/// `RLIMIT_FSIZE`): here, 64 KiB.
#[test]
fn a_writer_that_is_killed_leaves_the_file_of_before() {
    let scratch = Scratch::create();
    let saved = path(&scratch, "initramfs");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -f 128; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_kernel-test"), "-k", &kernel()]);
    limited.args(["--unpacked", crate::run::unpacked().to_str().unwrap(), "--dry-run", "--save-initramfs", &saved]);
    limited.args(["--", "true"]);
    for before in [None, Some("before")] {
        before.iter().for_each(|before| fs::write(&saved, before).unwrap());
        let ended = limited.output().unwrap();
        // SIGXFSZ (`signal(7)`).
        assert_eq!(ended.status.signal(), Some(25), "{ended:#?}");
        assert_eq!(fs::read_to_string(&saved).ok().as_deref(), before);
        assert_eq!(scratch.entries().len(), before.iter().count());
    }
    fs::remove_file(saved).unwrap();
}

#[test]
fn a_file_is_replaced_by_one_with_its_permissions() {
    let scratch = Scratch::create();
    let [file, link, symbolic] = ["file", "link", "symbolic"].map(|name| scratch.path().join(name));
    fs::write(&file, "before").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&file, &link).unwrap();
    symlink("file", &symbolic).unwrap();
    if geteuid().is_root() {
        chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    write_output(&symbolic, b"after").unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!([read(&file), read(&link)], ["after", "before"]);
    let of = |path: &Path| fs::metadata(path).map(|of| (of.mode(), of.uid(), of.gid())).unwrap();
    assert_eq!((of(&file), fs::read_link(&symbolic).unwrap().to_str()), (of(&link), Some("file")));
    // A name that has no room for more.
    let long = scratch.path().join("n".repeat(255));
    write_output(&long, b"long").unwrap();
    assert_eq!(read(&long), "long");
    assert_eq!(scratch.entries().len(), 4);
}

/// A directory that permits no new file: the file in it is written where it is, by an ordinary user.
#[test]
fn a_file_is_written_in_place_where_no_other_can_be_created() {
    let scratch = Scratch::create();
    let directory = scratch.path().join("directory");
    let file = directory.join("file");
    fs::create_dir(&directory).unwrap();
    fs::write(&file, "before").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o555)).unwrap();
    let inode = fs::metadata(&file).unwrap().ino();
    let mut dry = program();
    dry.args(["--dry-run", "-k", &kernel(), "--save-initramfs"]).arg(&file).args(["--", "true"]);
    if geteuid().is_root() {
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
        dry.uid(NOBODY);
    }
    let ended = dry.output().unwrap();
    assert!(ended.status.success(), "{ended:#?}");
    // The magic number of an initramfs (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).
    assert!(fs::read(&file).unwrap().starts_with(b"070701"));
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(directory).unwrap();
}

/// In a user namespace an owner without a number there cannot be given to another file (`user_namespaces(7)`), and without
/// `/proc` a file without a name gets none.
#[test]
fn a_file_is_written_in_a_namespace_without_its_owner_and_without_proc() {
    let mut alone = Command::new("unshare");
    alone.args(["--user", "--map-root-user", "--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"]);
    let is_permitted = alone.arg("true").status().is_ok_and(|status| status.success());
    if !is_permitted || !geteuid().is_root() {
        let line = "NOT PROVEN: files whose owner has no number: a user namespace with files of others needs root\n";
        // The test harness captures what `eprintln!` writes in a test that passes.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let scratch = Scratch::create();
    let [new, there] = ["new", "there"].map(|name| scratch.path().join(name));
    fs::write(&there, "before").unwrap();
    fs::set_permissions(&there, Permissions::from_mode(0o666)).unwrap();
    chown(&there, Some(NOBODY), Some(NOBODY)).unwrap();
    let inode = fs::metadata(&there).unwrap().ino();
    for file in [&new, &there] {
        let mut dry = Command::new("unshare");
        dry.args(alone.get_args().take_while(|argument| *argument != "true")).arg(env!("CARGO_BIN_EXE_kernel-test"));
        dry.arg("--unpacked").arg(crate::run::unpacked()).args(["--dry-run", "-k", &kernel(), "--save-initramfs"]);
        let ended = dry.arg(file).args(["--", "true"]).output().unwrap();
        assert!(ended.status.success(), "{ended:#?}");
        assert!(fs::read(file).unwrap().starts_with(b"070701"));
    }
    assert_eq!(fs::metadata(&there).unwrap().ino(), inode);
    assert_eq!(scratch.entries().len(), 2);
    [new, there].iter().for_each(|file| fs::remove_file(file).unwrap());
}

#[test]
fn devices_pipes_and_descriptors_are_written_in_place() {
    let scratch = Scratch::create();
    write_output(Path::new("/dev/null"), b"gone").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    write_output(Path::new(&format!("/dev/fd/{}", writer.as_raw_fd())), b"through a pipe").unwrap();
    drop(writer);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read, "through a pipe");
    // Standard output that is a file has the output of the guest, and then the results.
    let printed = scratch.path().join("printed");
    let mut process = program();
    process.args(["--accel", "tcg", "--quiet", "--timeout", "240", "--junit", "/dev/stdout", "--", "echo", "hello"]);
    let ended = process.stdout(File::create(&printed).unwrap()).stderr(Stdio::inherit()).status().unwrap();
    let text = fs::read_to_string(&printed).unwrap();
    assert!(ended.success() && text.starts_with("hello\n<?xml") && text.ends_with("</testsuites>\n"), "{text}");
    fs::remove_file(printed).unwrap();
}

/// Both are written by the run, which ends with a panic.
#[test]
fn a_dump_and_results_take_the_place_of_earlier_ones() {
    let scratch = Scratch::create();
    let names = ["core", "junit.xml"].map(|name| path(&scratch, name));
    let links = names.clone().map(|name| name + ".before");
    for (name, link) in names.iter().zip(&links) {
        fs::write(name, "before").unwrap();
        fs::hard_link(name, link).unwrap();
    }
    let run = quietly(&["--dump", &names[0], "--junit", &names[1]], "echo c > /proc/sysrq-trigger");
    assert_eq!(run.code, Some(121), "{run:#?}");
    for (name, begin) in names.iter().zip(["\x7fELF", "<?xml"]) {
        let mut read = vec![0; begin.len()];
        File::open(name).unwrap().read_exact(&mut read).unwrap();
        assert_eq!(read, begin.as_bytes(), "{name}");
    }
    for link in &links {
        assert_eq!(fs::read_to_string(link).unwrap(), "before");
    }
    assert_eq!(scratch.entries().len(), 4);
    names.iter().chain(&links).for_each(|file| fs::remove_file(file).unwrap());
}
