//! Tests of what goes into the guest and comes out of it: an initramfs of the user's, disks, modules, copies, a dump, gdb.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use qemu_machine_guest::{Archive, Modules, kernel_release};
use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::{Scratch, Watched};

use crate::run::{PATIENCE, Run, kernel, path, program, quietly, run, unpacked};

#[test]
fn files_and_directories_are_copied_out() {
    let scratch = Scratch::create();
    let [numbers, tree] = ["numbers", "tree.tar"].map(|name| path(&scratch, name));
    let options = ["--copy-out", &format!("/tmp/numbers:{numbers}"), "--copy-out", &format!(r"/tmp/a\: b:{tree}")];
    // All bytes, so that no layer between may change one; and more than the library keeps of a console.
    let script = "mkdir '/tmp/a: b'; echo hi >'/tmp/a: b/c'; seq 9999 >/tmp/numbers; printf '\\r\\n\\000\\377\\003' >>/tmp/numbers; exit 4";
    let run = quietly(&options, script);
    assert_eq!((run.code, &*run.stderr), (Some(4), ""), "{run:#?}");
    let expected: String = (1..=9999).map(|number| format!("{number}\n")).collect();
    let copied = fs::read(&numbers).unwrap();
    assert!(copied == [expected.as_bytes(), b"\r\n\0\xff\x03"].concat(), "{} bytes", copied.len());
    let tar = fs::read(&tree).unwrap();
    assert!(tar.windows(4).any(|part| part == b"./c\0") && tar.len() % 512 == 0, "{} bytes", tar.len());
    let mut left: Vec<_> = scratch.entries();
    left.sort();
    assert_eq!(left, ["numbers", "tree.tar"]);
    for file in [numbers, tree] {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_file_that_is_not_there_is_a_problem_of_the_guest() {
    let scratch = Scratch::create();
    let run = quietly(&["--copy-out", &format!("/nonexistent:{}", path(&scratch, "copy"))], "true");
    run.failed(125, "the guest: there is no file /nonexistent\n");
    assert_eq!(scratch.entries(), [""; 0]);
}

/// The user's archive is not compressed, and its length is no multiple of four, so the kernel would not find ours directly
/// after it.
#[test]
fn the_command_runs_in_an_initramfs_of_the_users() {
    let scratch = Scratch::create();
    let initramfs = path(&scratch, "initramfs");
    let mut archive = Archive::default();
    archive.file("etc/mine", 0o640, b"of the user\n").unwrap();
    archive.file("bin/hello", 0o755, b"#!/.kernel-test/bin/sh\necho hello from $0\n").unwrap();
    // The directory is there, with other permissions.
    archive.directory("etc", 0o700).unwrap();
    archive.symlink("/alias", "etc").unwrap();
    fs::write(&initramfs, [archive.finish(), vec![0]].concat()).unwrap();
    let run = quietly(&["--initrd", &initramfs], "cat /alias/mine; stat -c %a /etc /etc/mine; hello");
    assert_eq!((run.code, &*run.stdout), (Some(0), "of the user\n700\n640\nhello from /bin/hello\n"), "{run:#?}");
    fs::remove_file(initramfs).unwrap();
}

/// Debian's kernel has no driver for virtio disks built in: the modules are loaded.
#[test]
fn a_disk_is_there_and_changes_only_where_it_is_asked_for() {
    let scratch = Scratch::create();
    let [disk, kept] = ["a,b:rw", "kept"].map(|name| path(&scratch, name));
    for image in [&disk, &kept] {
        fs::write(image, [b"before".as_slice(), &[0; 1 << 20]].concat()).unwrap();
    }
    let script = "head -c 6 /dev/vda; echo; printf after_ >/dev/vda; printf after_ >/dev/vdb; sync";
    let escaped = disk.replace(":rw", r"\:rw");
    let run = quietly(&["--disk", &escaped, "--disk", &format!("{kept}:rw")], script);
    assert_eq!((run.code, &*run.stdout), (Some(0), "before\n"), "{run:#?}");
    assert_eq!(&fs::read(&disk).unwrap()[..6], b"before");
    assert_eq!(&fs::read(&kept).unwrap()[..6], b"after_");
    for image in [disk, kept] {
        fs::remove_file(image).unwrap();
    }
}

#[test]
fn modules_are_loaded_with_those_that_they_depend_on() {
    let run = quietly(&["--module", "virtio-rng"], "cut -d ' ' -f 1 /proc/modules | sort");
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(run.stdout.lines().any(|name| name == "virtio_rng") && run.stdout.contains("virtio_ring"), "{run:#?}");
    let run = quietly(&["--module", "nonexistent"], "true");
    run.failed(125, "the kernel has no module nonexistent, and it is not built in\n");
}

#[test]
fn compressed_modules_are_decompressed_and_unknown_ones_are_errors() {
    let release = kernel_release(&fs::read(kernel()).unwrap()).expect("a bzImage has its release");
    let tree = unpacked().join("lib/modules").join(release);
    let plain = Modules::read(&tree).unwrap().in_order(["virtio_console"]).unwrap();
    assert_eq!(plain.last().unwrap().name, "virtio_console");
    let scratch = Scratch::create();
    for (at, module) in plain.iter().enumerate() {
        // Each with another program, as far as the host has them.
        let (program, extension) = if at % 2 == 0 { ("xz", "ko.xz") } else { ("gzip", "ko.gz") };
        let file = path(&scratch, &module.name.replace('_', "-"));
        fs::write(&file, &module.content).unwrap();
        let packed = std::process::Command::new(program).args(["-c", "-1"]).arg(&file).output().unwrap();
        fs::write(format!("{file}.{extension}"), packed.stdout).unwrap();
        fs::remove_file(file).unwrap();
    }
    assert_eq!(Modules::read(scratch.path()).unwrap().in_order(["virtio-console"]).unwrap(), plain);
    let broken = path(&scratch, "broken.ko.xz");
    fs::write(&broken, b"nothing").unwrap();
    let error = Modules::read(scratch.path()).unwrap().in_order(["broken"]).unwrap_err().to_string();
    assert!(error.contains("with `xz`: xz: "), "{error}");
    fs::remove_file(broken).unwrap();
    for entry in scratch.entries() {
        fs::remove_file(scratch.path().join(entry)).unwrap();
    }
}

#[test]
fn a_panic_leaves_a_dump_of_the_memory() {
    let scratch = Scratch::create();
    let dump = path(&scratch, "core");
    let run = quietly(&["--dump", &dump], "echo c > /proc/sysrq-trigger");
    assert_eq!(run.code, Some(121), "{run:#?}");
    assert!(run.stderr.contains("the kernel panicked: sysrq triggered crash"), "{run:#?}");
    assert!(run.stderr.contains(&format!("kernel-test: the memory is in {dump}: crash vmlinux {dump}\n")), "{run:#?}");
    let mut begin = [0; 4];
    fs::File::open(&dump).unwrap().read_exact(&mut begin).unwrap();
    assert_eq!((&begin, fs::metadata(&dump).unwrap().len() > 200 << 20), (b"\x7fELF", true));
    // A search by grep, since one in code that is not optimised takes a minute.
    let found = std::process::Command::new("grep").args(["-aq", "sysrq triggered crash"]).arg(&dump).status().unwrap();
    assert!(found.success(), "the memory has the message of the panic");
    fs::remove_file(dump).unwrap();
}

#[test]
fn gdb_finds_the_guest_at_its_first_instruction() {
    bounded_by(PATIENCE, || {
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut process = program();
        process.args(["--quiet", "--timeout", "1", &format!("--gdb={port}"), "--", "sh", "-c", "exit 5"]);
        let mut child = process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let _killed_when_we_fail = Watched::new(child.id()).unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut note = String::new();
        stderr.read_line(&mut note).unwrap();
        assert!(note.contains(&format!("gdb vmlinux -ex 'target remote 127.0.0.1:{port}' -ex continue")), "{note}");
        let mut gdb = TcpStream::connect(("127.0.0.1", port)).unwrap();
        // The reason of the stop, and the first instruction: `pc` is 0xfff0 (Intel SDM, volume 3, 9.1.4).
        gdb.write_all(b"+$?#3f").unwrap();
        let mut reply = [0; 4];
        gdb.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+$T0");
        // Detaching continues the guest.
        gdb.write_all(b"+$D#44").unwrap();
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, &*rest), (Some(5), ""));
    });
}

/// The command line of a dry run boots in a shell, with the initramfs that the dry run has written.
#[test]
fn a_dry_run_with_a_saved_initramfs_boots_in_a_shell() {
    let scratch = Scratch::create();
    let saved = path(&scratch, "initramfs");
    let options = ["--accel", "tcg", "--quiet", "--save-initramfs", &saved, "--dry-run"];
    let shown = run(&options, &["sh", "-c", "echo booted; poweroff -f"]);
    let output = bounded_by(PATIENCE, move || {
        let mut shell = std::process::Command::new("sh");
        let limited = format!("timeout 240 {}", shown.stdout.trim_end());
        shell.args(["-c", &limited]).stdin(Stdio::null()).output().unwrap()
    });
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("booted"), "{output:#?}");
    fs::remove_file(saved).unwrap();
}
