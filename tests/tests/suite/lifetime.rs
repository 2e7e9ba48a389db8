//! Stories of beginnings and ends: executions that block, attributes of the process, processes that escape.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use qemu_machine_blocking::{Vm, descriptor};
use qemu_machine_core::{Cause, Config, Deadline, LaunchError, LaunchFailure, Peer, Phase, Resource, Rung, Shutdown};
use qemu_machine_tests::leak_check::{Scratch, bytes};
use qemu_machine_tests::lease::Leased;
use qemu_machine_tests::{PATIENCE, qemu};

use crate::hosted::Hosted;
use crate::rows;

/// Deadline of what must happen: longer than it ever takes.
const LONG: Deadline = Deadline::after(Duration::from_secs(PATIENCE.as_secs() / 2));

fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])
}

fn failure<H: Hosted>(config: Config) -> LaunchFailure {
    match H::launch(config) {
        Err(LaunchError::Failed { failure, .. }) => failure,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the launch succeeded"),
    }
}

/// The program is not executed before the deadline, and another machine is launched meanwhile.
fn g31_a_launch_fails_at_its_deadline_while_the_execution_blocks<H: Hosted>() {
    let scratch = Scratch::create();
    let mut leased = Leased::create(scratch.path());
    let config = Config::new(bytes(leased.path())).launch_within(Duration::from_millis(200));
    assert_eq!(failure::<H>(config), LaunchFailure::TimedOut(Phase::Starting));
    leased.wait_until_wanted();
    let mut other = H::launch(empty()).expect("QEMU starts");
    other.execute("query-status", LONG).expect("the monitor answers");
}

/// While one caller waits for a blocked execution, other machines are launched, driven and ended.
fn g31_a_blocked_execution_delays_no_other_machine<H: Hosted>() {
    let scratch = Scratch::create();
    let mut leased = Leased::create(scratch.path());
    let config = Config::new(bytes(leased.path())).launch_within(PATIENCE);
    let blocked = std::thread::spawn(move || failure::<H>(config));
    leased.wait_until_wanted();
    let mut other = H::launch(empty()).expect("QEMU starts");
    other.execute("query-status", LONG).expect("the monitor answers");
    let reaped = Vm::launch(empty()).expect("QEMU starts");
    drop(reaped);
    assert_eq!(other.kill().expect("it runs").cause, Cause::Asked(Rung::Kill));
    assert!(!blocked.is_finished(), "the execution does not block");
    leased.unblock();
    assert_eq!(blocked.join().expect("no panic"), LaunchFailure::Exited(Phase::Greeting));
}

fn row_01_a_program_that_cannot_be_executed_is_named<H: Hosted>() {
    let scratch = Scratch::create();
    let not_executable = scratch.path().join("text");
    std::fs::write(&not_executable, "no program").expect("the directory is writable");
    let cases = [
        (Config::new("/nowhere/qemu"), "cannot execute `/nowhere/qemu`: No such file or directory"),
        (Config::new("no-such-qemu"), "cannot execute `no-such-qemu`: No such file or directory"),
        (Config::new(bytes(&not_executable)), "text`: Permission denied"),
        (empty().env("PATH", "/nowhere"), "cannot execute `qemu-system-x86_64`: No such file"),
        (empty().working_directory("/nowhere"), "cannot enter the working directory for `qemu-system-x86_64`: No such"),
        (empty().without_monitor().working_directory("/nowhere"), "cannot enter the working directory for"),
    ];
    for (config, text) in cases {
        let failed = failure::<H>(config).to_string();
        assert!(failed.contains(text), "{failed}");
    }
}

/// The guest's program is a shell, which prints what it sees of the attributes.
fn row_01_the_process_has_the_attributes_of_the_configuration<H: Hosted>() {
    let scratch = Scratch::create();
    let script = "umask; ulimit -n; ulimit -c; pwd; echo \"$COLOUR-$HOME-$EMPTY\"; exec \"$0\" \"$@\"";
    let config = empty()
        .wrapper(["/bin/sh", "-c", script])
        .umask(0o027)
        .resource_limit(Resource::OpenFiles, 200)
        .resource_limit(Resource::CoreDump, 0)
        .working_directory(bytes(scratch.path()))
        .env("COLOUR", "red")
        .env("EMPTY", "")
        .env_remove("HOME");
    let mut machine = H::launch(config).expect("QEMU starts");
    let log = String::from_utf8(machine.log(4096)).expect("it is text");
    let lines: Vec<_> = log.lines().collect();
    let directory = scratch.path().canonicalize().expect("it exists");
    assert_eq!(lines, ["0027", "200", "0", directory.to_str().expect("it is text"), "red--"]);
    let cleared = empty().wrapper(["/usr/bin/env"]).args(["-name", "x"]);
    let cleared = cleared.env("LOST", "1").env_clear().env("PATH", std::env::var("PATH").expect("it is set"));
    let mut machine = H::launch(cleared).expect("QEMU starts");
    let environ = std::fs::read(format!("/proc/{}/environ", machine.pid().expect("it runs"))).expect("it runs");
    assert!(environ.starts_with(b"PATH=") && environ.iter().filter(|byte| **byte == 0).count() == 1);
}

/// Other credentials need a privileged program, as the tests of CI are.
fn row_01_the_process_has_other_credentials<H: Hosted>() {
    let config = empty().uid(65534).gid(65534).groups([65534, 7]);
    if !rustix::process::geteuid().is_root() {
        let failed = failure::<H>(config).to_string();
        return assert!(failed.contains("cannot set the user and group ids for"), "{failed}");
    }
    let mut machine = H::launch(config).expect("QEMU starts");
    machine.execute("query-status", LONG).expect("the monitor answers");
    let pid = machine.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert_eq!(line("Uid:").split_whitespace().collect::<Vec<_>>(), ["Uid:", "65534", "65534", "65534", "65534"]);
    assert_eq!(line("Gid:").split_whitespace().collect::<Vec<_>>(), ["Gid:", "65534", "65534", "65534", "65534"]);
    assert_eq!(line("Groups:").split_whitespace().collect::<Vec<_>>(), ["Groups:", "7", "65534"]);
    assert_eq!(
        machine.kill().expect("it runs").exit.map(|exit| exit.to_string()).as_deref(),
        Some("signal 9 (SIGKILL)")
    );
    // A program may still debug itself and be debugged: its own credentials did not change.
    assert_eq!(std::fs::metadata("/proc/self/mem").expect("it exists").uid(), 0);
}

fn row_13_an_inherited_descriptor_has_the_returned_number<H: Hosted>() {
    let scratch = Scratch::create();
    let [first, second] = ["first", "second"].map(|name| scratch.path().join(name));
    let open = |path| descriptor(File::create_new(path).expect("it is new"));
    let mut config = empty().serial("tty");
    let [third, fourth] = [config.inherit_fd(open(&first)), config.inherit_fd(open(&second))];
    assert_eq!((third, fourth), (3, 4));
    let mut machine = H::launch(config.add_fd(open(&scratch.path().join("set")), 9, "")).expect("QEMU starts");
    let pid = machine.pid().expect("it runs");
    let target = |number: i32| std::fs::read_link(format!("/proc/{pid}/fd/{number}")).expect("it is open");
    assert_eq!([target(third), target(fourth)], [first, second]);
    machine.execute("query-fdsets", LONG).expect("the monitor answers");
}

/// A second monitor on a socket that the caller made, as `-netdev tap,fd=…` would use its descriptor.
fn row_13_an_inherited_descriptor_is_used_by_its_number<H: Hosted>() {
    let (local, inherited) = UnixStream::pair().expect("sockets are available");
    let mut config = empty();
    let number = config.inherit_fd(descriptor(inherited));
    let chardev = format!("socket,id=second,fd={number}");
    let mut machine = H::launch(config.args(["-chardev", &chardev, "-qmp", "chardev:second"])).expect("QEMU starts");
    let second = Vm::attach(Peer::Connected(descriptor(local)), LONG).expect("the second monitor greets");
    assert_eq!(second.execute("query-status").expect("the monitor answers")["running"], false);
    second.disconnect().expect("it is attached");
    assert_eq!(machine.shutdown(Shutdown::default()).expect("it runs").cause, Cause::Asked(Rung::Quit));
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g31_a_launch_fails_at_its_deadline_while_the_execution_blocks
            g31_a_blocked_execution_delays_no_other_machine
            row_01_a_program_that_cannot_be_executed_is_named
            row_01_the_process_has_the_attributes_of_the_configuration
            row_01_the_process_has_other_credentials
            row_13_an_inherited_descriptor_has_the_returned_number
            row_13_an_inherited_descriptor_is_used_by_its_number
        }
    };
}

rows!(stories);
