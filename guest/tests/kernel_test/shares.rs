//! Tests of directories of this host in the guest, by virtiofs with the virtiofsd of this host. The kernel of the tests has
//! no 9p.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use qemu_machine_tests::leak_check::{Scratch, Watched, descendants, send};
use qemu_machine_tests::{bounded_by, virtiofsd};
use rustix::process::Signal;

use crate::run::{PATIENCE, Run, program, quietly, run};

/// A directory on this host whose name has what separates the parts of options.
struct Shared {
    scratch: Scratch,
    path: String,
}

impl Shared {
    fn create() -> Self {
        let scratch = Scratch::create();
        let path = scratch.path().join("a b,c:d\\e").to_str().expect("it is UTF-8").to_owned();
        fs::create_dir(&path).unwrap();
        fs::write(format!("{path}/from-host"), "hello, guest\n").unwrap();
        Self { scratch, path }
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut entries: Vec<_> = entries.collect();
        entries.sort();
        entries
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The scratch directory reports what is left.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Returns whether the virtiofsd of this host refuses changes.
fn can_be_read_only() -> bool {
    let help = Command::new(virtiofsd()).arg("--help").output().unwrap();
    String::from_utf8_lossy(&help.stdout).contains("--readonly")
}

#[test]
fn a_directory_is_read_and_written_on_both_sides() {
    let [same, other] = [Shared::create(), Shared::create()];
    let script = format!(
        "grep -c virtiofs /proc/mounts; cd '{}' && cat from-host && echo 'hello, host' >from-guest; ls '/mnt/a b:c'",
        same.path
    );
    let other = format!("{}:/mnt/a b:c", other.path);
    // The root is a directory as any other.
    let options = ["--share", &same.path, "--share", &other, "--share", "/:/mnt/root", "--memory", "256"];
    let run = quietly(&options, &script);
    assert_eq!((run.code, &*run.stdout, &*run.stderr), (Some(0), "3\nhello, guest\nfrom-host\n", ""), "{run:#?}");
    assert_eq!(fs::read_to_string(format!("{}/from-guest", same.path)).unwrap(), "hello, host\n");
}

/// A guest that mounts the directory for writing changes nothing either. Where this host cannot refuse that, the directory is
/// not shared by virtiofs.
#[test]
fn a_directory_for_reading_only_stays_unchanged() {
    let shared = Shared::create();
    let share = format!("{}:/mnt/host:ro", shared.path);
    let script =
        "cat /mnt/host/from-host; mount -o remount,rw /mnt/host; touch /mnt/host/new; echo x >/mnt/host/from-host";
    let by_virtiofs = quietly(&["--share-by", "virtiofs", "--share", &share], script);
    if can_be_read_only() {
        assert_eq!(by_virtiofs.code, Some(1), "{by_virtiofs:#?}");
        assert!(by_virtiofs.stdout.starts_with("hello, guest\n"), "{by_virtiofs:#?}");
    } else {
        let why = format!("it cannot be shared by virtiofs: {} cannot refuse changes", virtiofsd());
        by_virtiofs.failed(125, &format!("{}: {why}", shared.path));
        let by_any = quietly(&["--share", &share], script);
        let why = "the guest: cannot mount /mnt/host: the kernel needs the file system 9p and the driver of its \
            transport; virtiofs is not tried: ";
        by_any.failed(125, why);
    }
    assert_eq!(shared.entries(), ["from-host"]);
    assert_eq!(fs::read_to_string(format!("{}/from-host", shared.path)).unwrap(), "hello, guest\n");
}

#[test]
fn a_directory_that_cannot_be_shared_is_explained_before_the_launch() {
    let shared = Shared::create();
    let file = format!("{}/from-host", shared.path);
    let cases: [(&[&str], &str); 7] = [
        (&["--share", "/nonexistent"], "/nonexistent: No such file or directory"),
        (&["--share", &format!("{file}:/mnt")], &format!("{file}: it is no directory, so it cannot be shared")),
        (&["--share", ".:data"], "--share: there is no directory `.:data`, and a path in the guest begins with `/`;"),
        (&["--share", "/nonexistent:/mnt:ro"], "/nonexistent: No such file or directory"),
        (&["--share", "/", "--share-by", "nfs"], "--share-by is auto, virtiofs or 9p;"),
        (
            &["--share", "/", "--share-by", "virtiofs", "--virtiofsd", "/nonexistent"],
            "/: it cannot be shared by virtiofs: /nonexistent does not run: No such file or directory",
        ),
        (
            &["--share", "/", "--share-by", "virtiofs", "--virtiofsd", "false"],
            "/: it cannot be shared by virtiofs: false does not run: it printed nothing",
        ),
    ];
    for (options, message) in cases {
        // No QEMU: none is started.
        let run = run(&[options, &["--qemu", "/nonexistent"]].concat(), &["true"]);
        run.failed(125, message);
    }
}

#[test]
fn a_directory_that_the_kernel_cannot_mount_is_explained() {
    let run = quietly(&["--share", "/:/mnt/host:ro", "--share-by", "9p"], "ls /mnt/host");
    run.failed(
        125,
        "the guest: cannot mount /mnt/host: the kernel needs the file system 9p and the driver of its transport; \
        virtiofs is not tried: 9p was chosen",
    );
}

/// The kernel has virtiofs and no 9p, so the guest reports what it tried.
#[test]
fn without_a_virtiofsd_that_works_the_directory_is_shared_by_9p() {
    let run = quietly(&["--share", "/:/mnt/host", "--virtiofsd", "/nonexistent"], "true");
    run.failed(125, "the guest: cannot mount /mnt/host: the kernel needs the file system 9p and");
    assert!(run.stderr.contains("; virtiofs is not tried: /nonexistent does not run: No such file"), "{run:#?}");

    let scratch = Scratch::create();
    let broken = scratch.path().join("virtiofsd");
    fs::write(&broken, "#!/bin/sh\ncase $* in --help) exit ;; esac\necho no namespaces >&2; exit 3\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let broken = broken.to_str().unwrap();
    let run = quietly(&["--share", "/:/mnt/host", "--virtiofsd", broken], "true");
    let note = "kernel-test: virtiofsd does not work here: no namespaces: sharing by 9p\n";
    let guest = "kernel-test: the guest: cannot mount /mnt/host: the kernel needs the file system virtiofs or 9p and";
    assert!(run.code == Some(125) && run.stderr.starts_with(&format!("{note}{guest}")), "{run:#?}");
    let run = quietly(&["--share", "/", "--share-by", "virtiofs", "--virtiofsd", broken], "true");
    run.failed(123, "launch failed: the companion virtiofsd0: ");
    // The launch fails in each way, and the last is without virtiofsd.
    let run = quietly(&["--share", "/", "--virtiofsd", broken, "--qemu-arg=-device", "--qemu-arg=nonexistent"], "true");
    run.failed(123, "launch failed: ");
    assert!(run.stderr.contains("'nonexistent' is not a valid device model name"), "{run:#?}");
    fs::remove_file(broken).unwrap();
}

/// A QEMU may be built without 9p.
#[test]
fn without_9p_in_qemu_the_directory_is_shared_by_virtiofs() {
    let (shared, scratch) = (Shared::create(), Scratch::create());
    let wrapper = scratch.path().join("qemu");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' -virtfs '*) echo no virtfs >&2; exit 1 ;; esac\nexec {} \"$@\"\n",
        qemu_machine_tests::qemu()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let share = format!("{}:/mnt", shared.path);
    let run = quietly(&["--share", &share, "--qemu", wrapper.to_str().unwrap()], "cat /mnt/from-host");
    assert_eq!((run.code, &*run.stdout), (Some(0), "hello, guest\n"), "{run:#?}");
    assert_eq!(run.stderr, "kernel-test: no virtfs: sharing by virtiofs\n");
    fs::remove_file(wrapper).unwrap();
}

/// Starts a guest with a shared directory, whose command does not end. Returns when that runs: the child, which is watched,
/// its other descendants, and the file server.
#[track_caller]
fn endless(share: &str) -> (std::process::Child, Watched, Vec<Watched>, Watched) {
    let mut process = program();
    process.args(["--accel", "tcg", "--quiet", "--timeout", "240", "--share", share, "--"]);
    process.args(["sh", "-c", "echo first; mkfifo /run/never; cat /run/never"]);
    let mut child = process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let program = Watched::new(child.id()).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    let mut family = descendants(child.id());
    let server = family.iter().position(|process| process.name.starts_with("virtiofsd")).expect("it has a server");
    let server = Watched::new(family.swap_remove(server).pid).unwrap();
    let others = family.iter().filter_map(|process| Watched::new(process.pid).ok()).collect();
    (child, program, others, server)
}

#[test]
fn the_file_server_dies_with_the_program() {
    bounded_by(PATIENCE, || {
        let shared = Shared::create();
        let (mut child, program, others, server) = endless(&format!("{}:/mnt", shared.path));
        send(child.id(), Signal::KILL);
        program.assert_ends_within(PATIENCE);
        child.wait().unwrap();
        for process in others.iter().chain([&server]) {
            process.assert_ends_within(PATIENCE);
        }
        assert_eq!(shared.scratch.entries(), ["a b,c:d\\e"]);
    });
}

#[test]
fn a_file_server_that_dies_ends_the_machine() {
    bounded_by(PATIENCE, || {
        let shared = Shared::create();
        let (child, _program, _others, server) = endless(&format!("{}:/mnt", shared.path));
        drop(server);
        let run = Run::from(child.wait_with_output().unwrap());
        run.failed(122, "the machine ended before the command did: shut down after its companion virtiofsd0 had ended");
    });
}
