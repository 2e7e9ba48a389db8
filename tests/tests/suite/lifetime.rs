//! Stories of beginnings and ends: executions that block, attributes of the process, processes that escape, strangers.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use qemu_machine_blocking::{Vm, descriptor};
use qemu_machine_core::{
    Address, Cause, Config, Deadline, LaunchError, LaunchFailure, Monitor, Peer, Phase, Resource, Rung, Shutdown, Value,
};
use qemu_machine_tests::frozen::Frozen;
use qemu_machine_tests::leak_check::{Scratch, Watched, bytes, mark, marked};
use qemu_machine_tests::lease::Leased;
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;

use crate::hosted::Hosted;
use crate::left_out::dialling;
use crate::rows;

/// Deadline of what must happen: longer than it ever takes.
const LIMIT: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

const LONG: Deadline = Deadline::after(LIMIT);

const NOBODY: u32 = 65534;

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

/// A file system that does not answer delays neither the end of the launch nor another machine. What was created for the
/// launch is removed as soon as that is possible.
fn g31_a_launch_fails_at_its_deadline_while_its_log_cannot_be_created<H: Hosted>() {
    let Some(mut frozen) = Frozen::create() else { return };
    frozen.freeze();
    let config = empty().log_directory(bytes(&frozen.path())).launch_within(Duration::from_millis(200));
    assert_eq!(failure::<H>(config), LaunchFailure::TimedOut(Phase::Starting));
    let mut other = H::launch(empty()).expect("QEMU starts");
    other.execute("query-status", LONG).expect("the monitor answers");
    frozen.thaw_until_removed();
}

/// A launch that ends while the run is prepared ends when everything is removed: the address is free again, and a file
/// that existed is as it was or empty.
fn g31_a_launch_without_time_leaves_nothing<H: Hosted>() {
    let (logs, scratch) = (Scratch::create(), Scratch::create());
    let monitor = Monitor::At(Address::unix(bytes(&scratch.path().join("monitor"))));
    let config = dialling(empty())
        .monitor(monitor)
        .temporary_directory(bytes(scratch.path()))
        .log_directory(bytes(logs.path()))
        .chardev("tty")
        .console_log("tty", bytes(&scratch.path().join("tty.log")));
    for _ in 0..20 {
        let failure = failure::<H>(config.clone().launch_within(Duration::ZERO));
        assert_eq!(failure, LaunchFailure::TimedOut(Phase::Starting));
        assert_eq!((logs.entries(), scratch.entries()), (vec![], vec![]));
    }
    let mut machine = H::launch(config).expect("QEMU starts");
    machine.execute("query-status", LONG).expect("the monitor answers");
}

/// The private directory cannot be removed, which ends the run ten seconds later, and delays no other machine.
fn g31_a_run_ends_while_its_files_cannot_be_removed<H: Hosted>() {
    let Some(mut frozen) = Frozen::create() else { return };
    let logs = Scratch::create();
    let config = dialling(empty()).monitor(Monitor::Socket).temporary_directory(bytes(&frozen.path()));
    let config = config.log_directory(bytes(logs.path()));
    let (at_launch, at_freeze) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let gates = (Arc::clone(&at_launch), Arc::clone(&at_freeze));
    let blocked = std::thread::spawn(move || {
        let mut machine = H::launch(config).expect("QEMU starts");
        machine.execute("query-status", LONG).expect("the monitor answers");
        gates.0.wait();
        gates.1.wait();
        machine.kill().expect("it runs")
    });
    at_launch.wait();
    frozen.freeze();
    at_freeze.wait();
    let mut other = H::launch(empty()).expect("QEMU starts");
    other.execute("query-status", LONG).expect("the monitor answers");
    assert_eq!(other.kill().expect("it runs").cause, Cause::Asked(Rung::Kill));
    let outcome = blocked.join().expect("no panic");
    let faults: Vec<_> = outcome.faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["cannot remove the files of the machine: the file system has not answered"]);
    frozen.thaw_until_removed();
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
    if !geteuid().is_root() {
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

/// A wrapper that leaves the process group, and whose QEMU ignores SIGTERM until it has a handler of its own.
const ESCAPE: &str = "import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setpgid(0, os.getpgid(os.getppid()))
os.execvp(sys.argv[1], sys.argv[1:])";

/// Launches a machine, and asserts that each process with its mark ends when the machine is ended in this way. A launch
/// that fails must leave none as well.
fn all_end<H: Hosted>(wrapper: &[&str], end: impl FnOnce(H, &[u32])) {
    let mark = mark();
    let wrapper = wrapper.iter().map(|word| word.replace("MARK", &mark));
    let launched = H::launch(empty().wrapper(wrapper).args(["-name", &mark]));
    let pids = marked(&mark);
    // A process that has ended meanwhile needs no watch.
    let watched: Vec<_> = pids.iter().filter_map(|pid| Watched::new(*pid).ok()).collect();
    if let Ok(machine) = launched {
        end(machine, &pids);
    }
    watched.iter().for_each(|process| process.assert_ends_within(LIMIT));
}

fn ends_in_each_way<H: Hosted>(wrapper: &[&str], count: usize) {
    all_end(wrapper, |mut machine: H, pids| {
        assert_eq!((pids.len(), machine.kill().expect("it runs").cause), (count, Cause::Asked(Rung::Kill)));
    });
    all_end(wrapper, |mut machine: H, _| {
        let outcome = machine.shutdown(Shutdown::within(LIMIT)).expect("it runs");
        assert_eq!(outcome.cause, Cause::Asked(Rung::Quit));
    });
    all_end(wrapper, |mut machine: H, _| {
        let outcome = machine.shutdown(Shutdown::within(LIMIT).quit(Duration::ZERO)).expect("it runs");
        assert_eq!(outcome.rungs, [Rung::Terminate]);
    });
    all_end(wrapper, |machine: H, _| drop(machine));
}

fn g26_a_process_that_leaves_its_group_ends<H: Hosted>() {
    ends_in_each_way::<H>(&["python3", "-c", ESCAPE], 1);
}

fn g26_qemu_in_another_session_ends_with_its_wrapper<H: Hosted>() {
    ends_in_each_way::<H>(&["setsid", "-w"], 2);
}

/// The wrapper ends as soon as QEMU runs in the background, and the run with it.
fn g26_qemu_that_a_wrapper_daemonizes_ends_with_the_run<H: Hosted>() {
    all_end(&["sh", "-c", "exec \"$@\" -daemonize", "sh"], |mut machine: H, _| {
        machine.wait(LONG).expect("the process that was started ends");
    });
    all_end(&["sh", "-c", "exec \"$@\" -daemonize", "sh"], |machine: H, _| drop(machine));
}

/// A process that the wrapper left behind holds the monitor of a machine that has ended.
fn g26_another_process_that_holds_the_monitor_ends<H: Hosted>() {
    all_end(&["sh", "-c", "setsid sleep MARK & exec \"$@\"", "sh"], |mut machine: H, pids| {
        assert_eq!((pids.len(), machine.kill().expect("it runs").cause), (2, Cause::Asked(Rung::Kill)));
    });
}

/// A wrapper that starts QEMU when the test allows it.
struct Gate {
    scratch: Scratch,
}

impl Gate {
    fn create() -> Self {
        let scratch = Scratch::create();
        for name in ["started", "open"] {
            mknodat(CWD, scratch.path().join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("it is new");
        }
        Self { scratch }
    }

    fn wrapper(&self) -> [Vec<u8>; 4] {
        let script = "echo > \"$0/started\"; read line < \"$0/open\"; exec \"$@\"";
        [b"sh".to_vec(), b"-c".to_vec(), script.into(), bytes(self.scratch.path()).to_vec()]
    }

    /// Waits until the wrapper runs: the host listens by then.
    fn wait(&self) {
        std::fs::read(self.scratch.path().join("started")).expect("the wrapper writes");
    }

    fn open(&self) {
        std::fs::write(self.scratch.path().join("open"), "\n").expect("the wrapper reads");
    }
}

fn g37_a_stranger_who_dials_first_is_refused<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("monitor");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free");
    for address in [Address::unix(bytes(&path)), Address::abstract_unix(bytes(&path)), Address::Tcp(free)] {
        let gate = Gate::create();
        let config = empty().monitor(Monitor::At(address.clone())).wrapper(gate.wrapper());
        let launch = std::thread::spawn(move || {
            let mut machine = H::launch(config).expect("QEMU starts");
            machine.execute("query-status", LONG).expect("the monitor answers");
            machine.shutdown(Shutdown::default()).expect("it runs").cause
        });
        gate.wait();
        for _ in 0..3 {
            let mut received = Vec::new();
            match &address {
                Address::Unix(_) => UnixStream::connect(&path).expect("it listens").read_to_end(&mut received),
                Address::Abstract(name) => {
                    let name = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("it is short");
                    UnixStream::connect_addr(&name).expect("it listens").read_to_end(&mut received)
                }
                Address::Tcp(address) => TcpStream::connect(address).expect("it listens").read_to_end(&mut received),
            }
            .expect("the connection is closed");
            assert_eq!(received, b"", "a stranger gets no command");
        }
        gate.open();
        assert_eq!(launch.join().expect("no panic"), Cause::Asked(Rung::Quit));
    }
}

/// A stranger of another user than QEMU, in both directions. Only a program of root can start QEMU as another user.
fn g37_a_stranger_of_another_user_is_refused<H: Hosted>() {
    if !geteuid().is_root() {
        return;
    }
    for (qemu, stranger) in [(None, NOBODY), (Some(NOBODY), 0), (Some(NOBODY), NOBODY)] {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free");
        let gate = Gate::create();
        let config = empty().monitor(Monitor::At(Address::Tcp(port))).wrapper(gate.wrapper());
        let config = match qemu {
            Some(user) => {
                chown(gate.scratch.path(), Some(user), Some(user)).expect("this program is privileged");
                for name in ["started", "open"] {
                    chown(gate.scratch.path().join(name), Some(user), Some(user)).expect("this program is privileged");
                }
                config.uid(user).gid(user)
            }
            None => config,
        };
        let launch = std::thread::spawn(move || {
            let mut machine = H::launch(config).expect("QEMU starts");
            machine.execute("query-status", LONG).expect("the monitor answers");
            machine.shutdown(Shutdown::default()).expect("it runs").cause
        });
        gate.wait();
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3", port.port());
        let stranger = ["--reuid", &stranger.to_string(), "--clear-groups", "bash", "-c", &script];
        let stranger = Command::new("setpriv").args(stranger).output().expect("setpriv is installed");
        assert_eq!((stranger.status.success(), &*stranger.stdout), (true, &b""[..]), "{stranger:?}");
        gate.open();
        assert_eq!(launch.join().expect("no panic"), Cause::Asked(Rung::Quit));
    }
}

/// The peer is another process of this test, which stands for QEMU on another host.
fn g37_any_peer_is_accepted_when_the_caller_trusts_it<H: Hosted>() {
    let gate = Gate::create();
    let path = gate.scratch.path().join("monitor");
    let config = empty().monitor(Monitor::At(Address::unix(bytes(&path)))).trust_peer().wrapper(gate.wrapper());
    let launch = std::thread::spawn(move || {
        let mut machine = H::launch(config).expect("the peer greets");
        let reply = machine.execute("query-name", LONG).expect("the peer answers");
        machine.kill().expect("it runs");
        reply
    });
    gate.wait();
    // Strangers that hang up, or speak another protocol, do not end the launch.
    drop(UnixStream::connect(&path).expect("it listens"));
    let mut stranger = UnixStream::connect(&path).expect("it listens");
    stranger.write_all(b"GET / HTTP/1.1\r\n").expect("it is connected");
    let mut received = Vec::new();
    // The end is a reset if the host closes the connection with bytes unread.
    let _ = stranger.read_to_end(&mut received);
    assert_eq!(received, b"", "a stranger gets no command");
    let mut peer = BufReader::new(UnixStream::connect(&path).expect("it listens"));
    let greeting = r#"{"QMP": {"version": {"qemu": {"major": 9, "minor": 0, "micro": 0}}, "capabilities": []}}"#;
    writeln!(peer.get_mut(), "{greeting}").expect("it reads");
    for reply in ["{}", "{\"name\": \"stranger\"}"] {
        let mut request = vec![0; 4096];
        let length = peer.read(&mut request).expect("a command comes");
        let request: Value = serde_json::from_slice(&request[..length]).expect("it is JSON");
        writeln!(peer.get_mut(), "{{\"return\": {reply}, \"id\": {}}}", request["id"]).expect("it reads");
    }
    assert_eq!(launch.join().expect("no panic")["name"], "stranger");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g31_a_launch_fails_at_its_deadline_while_the_execution_blocks
            g31_a_blocked_execution_delays_no_other_machine
            g31_a_launch_fails_at_its_deadline_while_its_log_cannot_be_created
            g31_a_run_ends_while_its_files_cannot_be_removed
            g31_a_launch_without_time_leaves_nothing
            row_01_a_program_that_cannot_be_executed_is_named
            row_01_the_process_has_the_attributes_of_the_configuration
            row_01_the_process_has_other_credentials
            row_13_an_inherited_descriptor_has_the_returned_number
            row_13_an_inherited_descriptor_is_used_by_its_number
            g26_a_process_that_leaves_its_group_ends
            g26_qemu_in_another_session_ends_with_its_wrapper
            g26_qemu_that_a_wrapper_daemonizes_ends_with_the_run
            g26_another_process_that_holds_the_monitor_ends
            g37_a_stranger_who_dials_first_is_refused
            g37_a_stranger_of_another_user_is_refused
            g37_any_peer_is_accepted_when_the_caller_trusts_it
        }
    };
}

rows!(stories);
