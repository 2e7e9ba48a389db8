//! Tests of files that are written: errors before a run, a killed run, the initramfs, JUnit XML of hostile text, dry runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use qemu_machine_guest::check_outputs;
use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::{Scratch, Watched, descendants, send};
use rustix::process::Signal;

use crate::kvm::KVM_IS_TCG;
use crate::run::{PATIENCE, kernel, path, program, quietly, run, suites, unpacked};

/// Runs with a QEMU that does not exist: an error that comes before is about the command line.
fn refused(options: &[&str], message: &str) {
    let run = run(&[options, &["--qemu", "/nonexistent/qemu"]].concat(), &["true"]);
    run.failed(125, message);
    assert_eq!(run.stderr.lines().count(), 1, "{run:#?}");
}

/// Returns the error for these files below a directory. It is empty if there is none.
fn output_error(scratch: &Scratch, names: &[&str]) -> String {
    let paths: Vec<_> = names.iter().map(|name| scratch.path().join(name)).collect();
    let error = check_outputs(paths.iter().map(|path| &**path)).err().map(|error| error.to_string());
    error.unwrap_or_default().replace(&format!("{}/", scratch.path().display()), "")
}

#[test]
fn files_that_cannot_be_written_are_errors_and_nothing_changes() {
    let scratch = Scratch::create();
    fs::write(scratch.path().join("file"), "content").unwrap();
    fs::create_dir(scratch.path().join("directory")).unwrap();
    for (target, link) in [("file", "link"), ("absent", "dangling"), ("gone/file", "lost"), ("loop", "loop")] {
        symlink(target, scratch.path().join(link)).unwrap();
    }
    assert_eq!(output_error(&scratch, &["file", "new", "directory/new", "dangling", "/dev/null", "/dev/null"]), "");
    for (name, expected) in [
        ("missing/new", "missing: No such file or directory"),
        ("file/new", "file/new: Not a directory"),
        ("directory", "directory: is a directory"),
        ("new/", "new/: is a directory"),
        ("lost", "gone: No such file or directory"),
        ("loop", "loop: Too many levels of symbolic links"),
        (&"n".repeat(256), &format!("{}: File name too long", "n".repeat(256))),
    ] {
        assert!(output_error(&scratch, &[name]).starts_with(expected), "{name}: {}", output_error(&scratch, &[name]));
    }
    for (first, second) in [("file", "link"), ("absent", "dangling"), ("new", "directory/../new"), ("new", "./new")] {
        assert_eq!(
            output_error(&scratch, &[first, "other", second]),
            format!("{second}: two outputs would be written to this file")
        );
    }
    assert_eq!(fs::read_to_string(scratch.path().join("file")).unwrap(), "content");
    assert_eq!(scratch.entries().len(), 6);
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_before_the_run() {
    let scratch = Scratch::create();
    let missing = path(&scratch, "missing/file");
    let message = format!("{}: No such file or directory", path(&scratch, "missing"));
    let copy = format!("/tmp:{missing}");
    let options = ["--junit", "--report", "--dump", "--save-initramfs"].map(|option| [option, &*missing]);
    for option in options.into_iter().chain([["--copy-out", &*copy]]) {
        refused(&option, &message);
        refused(&[&option[..], &["--dry-run"]].concat(), &message);
    }
    refused(&["--junit", &path(&scratch, "")], &format!("{}: is a directory", path(&scratch, "")));
    // A file with results of before stays until there are new ones.
    let junit = path(&scratch, "junit.xml");
    fs::write(&junit, "before").unwrap();
    refused(&["--junit", &junit, "--dump", &missing], &message);
    assert_eq!(fs::read_to_string(&junit).unwrap(), "before");
    fs::remove_file(junit).unwrap();
}

#[test]
fn an_output_that_another_one_would_replace_is_an_error_before_the_run() {
    let scratch = Scratch::create();
    let [file, link, copied] = ["file", "link", "file.a"].map(|name| path(&scratch, name));
    symlink("file", &link).unwrap();
    let kernel = kernel();
    let [a, b] = ["a", "b"].map(|name| format!("{name}={kernel}"));
    let twice = |path: &str| format!("{path}: two outputs would be written to this file");
    refused(&["--junit", &file, "--dump", &link], &twice(&file));
    refused(&["--junit", &file, "--report", &link], &twice(&link));
    refused(&["--copy-out", &format!("/a:{file}"), "--copy-out", &format!("/b:{file}")], &twice(&file));
    refused(&["-k", &a, "-k", &b, "--dump", &file, "--junit", &copied], &twice(&copied));
    fs::remove_file(link).unwrap();
}

#[test]
fn kernels_whose_files_would_have_one_name_are_refused() {
    let kernel = kernel();
    for [first, second, name] in [["k", "k", "k"], ["a/b", "a_b", "a_b"]] {
        let kernels = [first, second].map(|name| format!("{name}={kernel}"));
        let message = format!("two kernels have the name `{name}`: give each another one, as in -k NAME=FILE");
        refused(&["-k", &kernels[0], "-k", &kernels[1]], &message);
    }
}

#[test]
fn a_disk_that_changes_is_for_one_guest_at_a_time() {
    let kernel = kernel();
    let [a, b] = ["a", "b"].map(|name| format!("{name}={kernel}"));
    let message = "--disk IMAGE:rw is for one guest at a time: use --jobs 1, or leave out `:rw`";
    refused(&["-k", &a, "-k", &b, "-j", "2", "--disk", "/image:rw"], message);
    // These are tried.
    for options in [["-k", &b, "-j", "1", "--disk", "/image:rw"], ["-k", &b, "-j", "2", "--disk", "/image"]] {
        let run = run(&[&["-k", &a], &options[..], &["--qemu", "/nonexistent/qemu"]].concat(), &["true"]);
        assert_eq!(run.code, Some(123), "{run:#?}");
    }
}

#[test]
fn a_port_of_gdb_that_would_be_the_command_is_explained() {
    for word in ["1234", ":1234", "localhost:1234"] {
        refused(&["--gdb", word], "the port of --gdb follows a `=`: --gdb=1234");
    }
    refused(&["--gdb=0"], "0 is too few");
}

/// The command leaves a pipe that never ends, and prints when it is being copied.
#[test]
fn a_kill_while_files_are_copied_leaves_nothing() {
    bounded_by(PATIENCE, || {
        let scratch = Scratch::create();
        let temporary = Scratch::create();
        let mut process = program();
        process.env("TMPDIR", temporary.path()).args(["--accel", "tcg", "--quiet", "--timeout", "240", "--copy-out"]);
        process.arg(format!("/tmp/pipe:{}", path(&scratch, "copy")));
        let script = "mkfifo /tmp/pipe /tmp/never; { exec 9>/tmp/pipe; seq 99 >&9; echo copying; cat /tmp/never; } &";
        process.args(["--junit", &path(&scratch, "junit.xml"), "--", "sh", "-c", script]);
        let mut child = process.stdout(Stdio::piped()).spawn().expect("it runs");
        let _killed_when_we_fail = Watched::new(child.id()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "copying");
        let family = descendants(child.id());
        assert!(family.iter().any(|process| process.name.starts_with("qemu")), "{family:?}");
        // A process that has ended meanwhile is not watched.
        let family: Vec<_> = family.iter().filter_map(|process| Watched::new(process.pid).ok()).collect();
        send(child.id(), Signal::KILL);
        child.wait().unwrap();
        for process in family {
            process.assert_ends_within(PATIENCE);
        }
        assert_eq!([scratch.entries(), temporary.entries()], [[""; 0]; 2]);
    });
}

#[test]
fn cpio_reads_the_initramfs() {
    let scratch = Scratch::create();
    let saved = path(&scratch, "initramfs");
    let shown = run(&["--accel", "tcg", "--dry-run", "--save-initramfs", &saved, "--module", "virtio-rng"], &["true"]);
    assert_eq!((shown.code, &*shown.stderr), (Some(0), ""), "{shown:#?}");
    let mut busybox = Command::new(unpacked().join("bin/busybox"));
    let listed = busybox.args(["cpio", "-t"]).stdin(fs::File::open(&saved).unwrap()).output().unwrap();
    assert!(listed.status.success(), "{listed:#?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    for file in
        ["dev/console", ".kernel-test/busybox", ".kernel-test/init", ".kernel-test/modules/virtio_rng.ko", "bin/sh"]
    {
        assert!(listed.lines().any(|line| line == file), "no {file} in:\n{listed}");
    }
    fs::remove_file(saved).unwrap();
}

/// Control characters, characters that no XML has, the end of a section, an element that would forge an error.
#[test]
fn junit_is_xml_whatever_the_guest_prints() {
    let scratch = Scratch::create();
    let junit = scratch.path().join("junit.xml");
    let hostile = r#"\001\033[1m\177\302\205\357\277\276\377]]>&lt;<error type="panic"/>"#;
    let script = format!(
        "printf 'KTAP version 1\n1..2\n# {hostile}\nnot ok 1 {hostile}\nok 2 two # SKIP {hostile}\n'; exit 121"
    );
    let run = quietly(&["-k", &format!("k={}", kernel()), "--junit", junit.to_str().unwrap()], &script);
    assert_eq!(run.code, Some(121), "{run:#?}");
    let name = "\u{fffd}\u{fffd}[1m\u{fffd}\u{fffd}\u{fffd}\u{fffd}]]>&lt;<error type=\"panic\"/>";
    assert_eq!(suites(&junit), format!("k 3 2 0 1\ncommand=failure {name}=failure two=skipped\n"));
    // So a script finds out whether the code is that of the command.
    assert!(!fs::read_to_string(&junit).unwrap().contains("<error "));
    fs::remove_file(junit).unwrap();
}

/// The message of a panic comes from the guest as well, and the program's own message cannot be told from the command's.
#[test]
fn junit_tells_a_panic_from_a_command_that_feigns_one() {
    let scratch = Scratch::create();
    let junit = scratch.path().join("junit.xml");
    let options = ["-k", &format!("k={}", kernel()), "--junit", junit.to_str().unwrap()];
    let feigned = quietly(
        &[&options[..], &["--agent"]].concat(),
        "echo 'kernel-test: the kernel panicked: sysrq triggered crash' >&2; exit 121",
    );
    assert_eq!(suites(&junit), "k 1 1 0 0\ncommand=failure\n");
    let real =
        quietly(&options, "printf '<0>Kernel panic - not syncing: \\001\\n' >/dev/kmsg; echo c > /proc/sysrq-trigger");
    assert_eq!(suites(&junit), "k 1 0 1 0\ncommand=error\n");
    assert_eq!((feigned.code, feigned.stderr), (real.code, real.stderr));
    fs::remove_file(junit).unwrap();
}

/// Writes a program that stands for QEMU: it writes its arguments to a file, one a line, and ends. The check of KVM, which
/// is the guest with `isa-debug-exit`, succeeds.
fn recorder(scratch: &Scratch) -> [String; 2] {
    let [qemu, arguments] = ["qemu", "arguments"].map(|name| path(scratch, name));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *isa-debug-exit*)\n{KVM_IS_TCG}\nexec qemu-system-x86_64 \"$@\"\n;;\nesac\n\
         [ -e '{arguments}' ] || printf '%s\\n' \"$@\" >'{arguments}'\n"
    );
    fs::write(&qemu, script).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o755)).unwrap();
    [qemu, arguments]
}

/// Takes the arguments that the program has written, and leaves out the monitor and the serial ports, which are sockets in a
/// run, and the numbers of descriptors.
fn recorded(arguments: &str) -> Vec<String> {
    let text = fs::read_to_string(arguments).unwrap();
    fs::remove_file(arguments).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let value = lines.get(at + 1).copied().unwrap_or_default();
        let is_port = |value: &str| ["id=mon", "id=console", "id=report"].iter().any(|id| value.contains(id));
        match lines[at] {
            "-qmp" | "-monitor" => at += 2,
            "-serial" if value != "chardev:files" => at += 2,
            "-chardev" if is_port(value) => at += 2,
            // The guest is held until the monitor is ready.
            "-S" if value == "-accel" => at += 1,
            "-chardev" => {
                kept.push(value.split("id=").last().unwrap().split(",path").next().unwrap().to_owned());
                at += 2;
            }
            other => {
                kept.push(other.to_owned());
                at += 1;
            }
        }
    }
    kept
}

/// A dry run and a run with the same options: the program that stands for QEMU gets the same arguments.
#[test]
fn a_dry_run_prints_the_command_line_of_the_run() {
    let scratch = Scratch::create();
    let [qemu, arguments] = recorder(&scratch);
    fs::create_dir(scratch.path().join("a b")).unwrap();
    let [linked, saved, copied] = ["a b/it's", "initramfs", "copied"].map(|name| path(&scratch, name));
    symlink(kernel(), &linked).unwrap();
    let common = ["-k", &linked, "--qemu", &qemu, "--save-initramfs", &saved, "--append", "quote=\"a b\""];
    let copies = format!("/tmp/x:{copied}");
    for options in [
        &["--accel", "tcg"][..],
        &["--accel", "kvm", "--memory", "1G", "--cpus", "3"],
        // The run uses KVM, and the dry run shows TCG where there is none.
        &["--accel", if Path::new("/dev/kvm").exists() { "auto" } else { "tcg" }, "--quiet"],
        &["--gdb=4321", "--dump", &copied],
        &["--agent", "--accel", "tcg"],
        &[
            "--copy-out",
            &copies,
            "--disk",
            "/d.qcow2",
            "--share",
            "/usr:/src:ro",
            "--share-by",
            "9p",
            "--qemu-arg=-serial",
            "--qemu-arg=none",
        ],
    ] {
        let options = [&common[..], options].concat();
        let tried = run(&options, &["true"]);
        assert_eq!(tried.code, Some(123), "{tried:#?}");
        let expected = recorded(&arguments);
        let shown = run(&[&options[..], &["--dry-run"]].concat(), &["true"]);
        assert_eq!((shown.code, shown.stdout.lines().count()), (Some(0), 1), "{shown:#?}");
        let pasted = Command::new("sh").args(["-c", &shown.stdout]).stdin(Stdio::null()).output().unwrap();
        assert!(pasted.status.success(), "{pasted:#?}");
        assert_eq!(recorded(&arguments), expected, "{options:?}");
    }
    let left: Vec<_> = scratch.entries();
    assert!(!left.contains(&"copied".to_owned()), "{left:?}");
}

#[test]
fn a_dry_run_without_a_file_for_the_initramfs_explains_that() {
    let run = run(&["--accel", "tcg", "--dry-run", "--disk", "colon:a,b"], &["true"]);
    assert_eq!(run.code, Some(0), "{run:#?}");
    assert!(run.stdout.contains(" -initrd INITRAMFS "), "{run:#?}");
    // A relative path would name a protocol.
    assert!(run.stdout.contains("/colon:a,,b"), "{run:#?}");
    assert_eq!(run.stderr, "kernel-test: INITRAMFS stands for a file: --save-initramfs FILE writes it\n");
}

#[test]
fn a_dry_run_needs_the_files_of_a_run() {
    for (option, path) in
        [("--kernel", "/nonexistent/k"), ("--initrd", "/nonexistent/i"), ("--busybox", "/nonexistent/b")]
    {
        let run = run(&["--dry-run", option, path], &["true"]);
        run.failed(125, &format!("{path}: No such file or directory"));
        assert_eq!(run.stdout, "");
    }
}
