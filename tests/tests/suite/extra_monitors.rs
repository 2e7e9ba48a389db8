//! Stories of extra monitors: sockets on which QEMU serves other programs, beside the machine's own monitor.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::spawn;

use qemu_machine_core::{
    Cause, CommandError, Config, Deadline, ExtraMonitor, FaultKind, LaunchError, LaunchFailure, Mark, Misuse, Monitor,
    Shutdown, Value, Wait,
};
use qemu_machine_tests::leak_check::{Scratch, bytes};
use qemu_machine_tests::{PATIENCE, qemu};

use crate::companions::wait_for_file;
use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(PATIENCE);

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults"])
}

/// Another program: a client of the socket that knows nothing of the library.
struct Other(BufReader<UnixStream>);

impl Other {
    fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).expect("QEMU listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        Self(BufReader::new(socket))
    }

    /// Connects to a QMP monitor and negotiates.
    fn negotiated(path: &Path) -> Self {
        let mut other = Self::connect(path);
        assert!(other.message()["QMP"].is_object(), "the greeting");
        assert_eq!(other.ask("qmp_capabilities")["return"], qemu_machine_core::json!({}));
        other
    }

    fn message(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a message comes in time");
        line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Executes a command, and returns its reply. Events are passed over.
    fn ask(&mut self, command: &str) -> Value {
        writeln!(self.0.get_mut(), "{{\"execute\": \"{command}\"}}").expect("QEMU reads");
        loop {
            let message = self.message();
            if message.get("event").is_none() {
                return message;
            }
        }
    }

    /// Enters a line at a human monitor.
    fn enter(&mut self, line: &str) {
        writeln!(self.0.get_mut(), "{line}").expect("QEMU reads");
    }

    /// Reads until this text comes. A prompt has no line feed behind it.
    fn sees(&mut self, text: &str) {
        let mut seen = Vec::new();
        while !seen.ends_with(text.as_bytes()) {
            let mut next = [0];
            self.0.read_exact(&mut next).unwrap_or_else(|error| panic!("{text}: {error}: {seen:?}"));
            seen.extend(next);
        }
    }
}

/// Waits until the guest runs: the machine sends `cont` before the first command of a caller, and awaits no reply.
fn runs<H: Hosted>(machine: &mut H) {
    machine.execute("query-name", LONG).expect("the monitor answers");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn g28_another_program_uses_an_extra_monitor<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let mut machine = H::launch(config().extra_monitor(bytes(&path))).expect("QEMU starts");
    assert_eq!(mode(&path), 0o600);
    runs(&mut machine);
    let mut other = Other::negotiated(&path);
    assert_eq!(other.ask("query-status")["return"]["status"], "running");
    let before = machine.mark();
    assert!(other.ask("stop")["return"].is_object());
    machine.wait_any(&before, &[Wait::event("STOP")], LONG).expect("the event comes to the own monitor too");
    assert_eq!(machine.execute("query-status", LONG).expect("the own monitor answers")["status"], "paused");
    // One program after the other.
    drop(other);
    let mut next = Other::negotiated(&path);
    next.ask("quit");
    let outcome = machine.wait(LONG).expect("the other program ended it");
    assert_eq!((&outcome.cause, outcome.rungs.len()), (&Cause::QuitByOther, 0), "{outcome}");
    assert_eq!(scratch.entries(), [""; 0]);
    machine.relaunch().expect("the path is free again");
    runs(&mut machine);
    assert_eq!(Other::negotiated(&path).ask("query-status")["return"]["status"], "running");
    machine.kill().expect("it was launched");
    assert_eq!(scratch.entries(), [""; 0], "QEMU cannot remove it when it is killed");
}

fn g28_a_human_quits_on_an_extra_monitor<H: Hosted>() {
    let scratch = Scratch::create();
    let (human, qmp) = (scratch.path().join("hmp"), scratch.path().join("qmp"));
    let config = config().extra_monitor(ExtraMonitor::new(bytes(&human)).human()).extra_monitor(bytes(&qmp));
    let mut machine = H::launch(config).expect("QEMU starts");
    runs(&mut machine);
    let mut person = Other::connect(&human);
    person.sees("(qemu) ");
    person.enter("info status");
    person.sees("VM status: running");
    person.sees("(qemu) ");
    person.enter("quit");
    let outcome = machine.wait(LONG).expect("the person ended it");
    assert_eq!(outcome.cause, Cause::QuitByOther, "{outcome}");
    assert_eq!(scratch.entries(), [""; 0]);
}

/// The `quit` of the other program is the first, and that of the shutdown comes when QEMU ends already.
fn g28_a_shutdown_after_the_quit_of_another_program_is_not_ours<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let mut machine = H::launch(config().extra_monitor(bytes(&path))).expect("QEMU starts");
    Other::negotiated(&path).ask("quit");
    machine.wait_any(&Mark::default(), &[Wait::event("SHUTDOWN"), Wait::end()], LONG).expect("QEMU reports it");
    let outcome = machine.shutdown(Shutdown::default()).expect("it was launched");
    assert_eq!(outcome.cause, Cause::QuitByOther, "{outcome}");
}

/// The `quit` is in the socket before QEMU starts, and QEMU executes it before or after the negotiation of the own monitor.
/// Before that it sends no events (QEMU, `monitor/qmp.c`, `qmp_send_response`).
fn g28_a_quit_of_another_program_before_the_launch_is_done<H: Hosted>() {
    let scratch = Scratch::create();
    let [path, ready, gate] = ["qmp", "ready", "gate"].map(|name| scratch.path().join(name));
    assert!(Command::new("mkfifo").arg(&gate).status().expect("mkfifo is there").success());
    let wait = format!(": >'{}'; read -r line <'{}'; exec \"$@\"", ready.display(), gate.display());
    let config = config().wrapper(["sh", "-c", &wait, "sh"]).extra_monitor(bytes(&path));
    let other = spawn(move || {
        wait_for_file(&ready);
        let mut socket = UnixStream::connect(&path).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        socket.write_all(b"{\"execute\": \"qmp_capabilities\"}{\"execute\": \"quit\"}").expect("there is room");
        fs::write(&gate, "\n").expect("the wrapper reads it");
        // Fails when QEMU ends with unread input.
        let _ = io::copy(&mut socket, &mut io::sink());
    });
    match H::launch(config) {
        Err(LaunchError::Failed { failure: LaunchFailure::Exited(_), outcome }) => {
            assert!(matches!(outcome.cause, Cause::Exit(0) | Cause::QuitByOther), "{outcome}");
        }
        Err(error) => panic!("{error}"),
        Ok(mut machine) => {
            assert_eq!(machine.wait(LONG).expect("the other program ended it").cause, Cause::QuitByOther);
        }
    }
    other.join().expect("no panic");
    assert!(!scratch.path().join("qmp").exists());
}

fn g38_the_permissions_of_an_extra_monitor_are_those_that_were_chosen<H: Hosted>() {
    let scratch = Scratch::create();
    let paths: Vec<PathBuf> = ["own", "group", "all"].map(|name| scratch.path().join(name)).into();
    let modes = [0o600, 0o660, 0o666];
    // The umask of the tests, mostly 022, would remove some of them.
    let config = paths
        .iter()
        .zip(modes)
        .fold(config(), |config, (path, mode)| config.extra_monitor(ExtraMonitor::new(bytes(path)).mode(mode)));
    let mut machine = H::launch(config).expect("QEMU starts");
    assert_eq!(paths.iter().map(|path| mode(path)).collect::<Vec<_>>(), modes);
    for path in &paths {
        Other::negotiated(path);
    }
    machine.shutdown(Shutdown::default()).expect("it was launched");
    assert_eq!(scratch.entries(), [""; 0]);
}

fn g17_a_path_that_is_in_use_or_too_long_is_refused<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let listener = UnixListener::bind(&path).expect("the directory is new");
    for used in [&path, &scratch.path().join("no-such-directory").join("qmp")] {
        let Err(LaunchError::Failed { failure: LaunchFailure::Host(fault), outcome }) =
            H::launch(config().extra_monitor(bytes(used))).map(drop)
        else {
            panic!("{} cannot be bound", used.display())
        };
        let kind = if *used == path { FaultKind::Exists } else { FaultKind::NotFound };
        assert_eq!((fault.kind, &outcome.cause), (kind, &Cause::NotStarted), "{fault}");
        assert!(fault.to_string().contains(&*used.to_string_lossy()), "{fault}");
    }
    assert_eq!(scratch.entries(), ["qmp"], "what another program made stays");
    drop(listener);
    let long = H::launch(config().extra_monitor("/tmp/".to_owned() + &"x".repeat(103))).map(drop);
    assert!(matches!(long, Err(LaunchError::Misuse(Misuse::Config(_)))), "{long:?}");
}

pub(crate) fn g18_an_extra_monitor_outlives_its_program<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    for is_killed in [false, true] {
        let config = config().outlive_parent().temporary_directory(bytes(scratch.path()));
        let mut machine = H::launch(config.extra_monitor(bytes(&path))).expect("QEMU starts");
        let identity = machine.identity().expect("it runs");
        assert_eq!(identity.extra_monitors.len(), 1);
        machine.detach().expect("it is detachable");
        drop(machine);
        assert_eq!(Other::negotiated(&path).ask("query-status")["return"]["status"], "running");
        let mut machine = H::launch(Config::resume(identity.clone())).expect("it runs on");
        assert_eq!(machine.identity().as_ref(), Ok(&identity));
        let mut other = Other::negotiated(&path);
        let outcome = if is_killed {
            machine.kill().expect("it was resumed")
        } else {
            other.ask("quit");
            machine.wait(LONG).expect("the other program ended it")
        };
        assert_eq!(outcome.cause == Cause::QuitByOther, !is_killed, "{outcome}");
        assert_eq!(scratch.entries(), [""; 0]);
    }
}

/// Returns the socket of another program, which has taken the path of an extra monitor.
fn replaced(path: &Path) -> UnixListener {
    fs::remove_file(path).expect("the machine created it");
    UnixListener::bind(path).expect("the path is free")
}

fn g28_the_socket_of_another_program_at_the_path_stays<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    for is_in_use in [true, false] {
        let mut machine = H::launch(config().extra_monitor(bytes(&path))).expect("QEMU starts");
        let other = replaced(&path);
        let other = is_in_use.then_some(other);
        machine.kill().expect("it was launched");
        assert_eq!(scratch.entries(), ["qmp"]);
        assert_eq!(UnixStream::connect(&path).is_ok(), other.is_some());
        fs::remove_file(&path).expect("it is there");
    }
}

/// Without a monitor of its own the machine receives no event.
fn g28_a_quit_on_the_only_monitor_is_an_exit<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let config = config().monitor(Monitor::None).extra_monitor(bytes(&path));
    let mut machine = H::launch(config).expect("QEMU starts");
    Other::negotiated(&path).ask("quit");
    let outcome = machine.wait(LONG).expect("the other program ended it");
    assert_eq!(outcome.cause, Cause::Exit(0), "{outcome}");
    assert_eq!(scratch.entries(), [""; 0]);
}

/// A relative path would be another one for QEMU, which removes it when it ends.
fn g17_a_relative_path_of_an_extra_monitor_is_refused<H: Hosted>() {
    let scratch = Scratch::create();
    let config = config().working_directory(bytes(scratch.path())).extra_monitor("qmp");
    let refused = H::launch(config).map(drop);
    assert!(matches!(refused, Err(LaunchError::Misuse(Misuse::Config(_)))), "{refused:?}");
    assert!(!Path::new("qmp").exists());
}

fn g38_an_extra_monitor_for_others_needs_a_directory_in_which_they_cannot_replace_it<H: Hosted>() {
    let scratch = Scratch::create();
    let directory = scratch.path().join("shared");
    fs::create_dir(&directory).expect("the directory is new");
    let path = directory.join("qmp");
    for (permissions, mode, is_accepted) in [
        (0o777, 0o660, false),
        (0o775, 0o660, false),
        (0o777, 0o600, true),
        (0o1777, 0o666, true),
        (0o755, 0o666, true),
    ] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(permissions)).expect("it is ours");
        match H::launch(config().extra_monitor(ExtraMonitor::new(bytes(&path)).mode(mode))) {
            Ok(mut machine) => {
                assert!(is_accepted, "{permissions:o}");
                assert_eq!(self::mode(&path), mode);
                drop(machine.kill().expect("it was launched"));
            }
            Err(LaunchError::Failed { failure: LaunchFailure::Host(fault), .. }) => {
                assert!(!is_accepted, "{permissions:o}: {fault}");
                assert!(fault.to_string().contains("sticky"), "{fault}");
            }
            Err(error) => panic!("{permissions:o}: {error}"),
        }
        assert!(!path.exists(), "{permissions:o}");
    }
}

/// The path is bound again while no program follows the machine. The file system may give the new socket the inode of the
/// old one, so the test names that inode in the identity.
pub(crate) fn g18_the_socket_of_another_program_is_not_in_the_identity<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    for (has_same_inode, has_times, is_in_use) in
        [(false, true, true), (true, true, true), (true, true, false), (true, false, true)]
    {
        let config = config().outlive_parent().temporary_directory(bytes(scratch.path()));
        let mut machine = H::launch(config.extra_monitor(bytes(&path))).expect("QEMU starts");
        let mut identity = machine.identity().expect("it runs");
        let other = replaced(&path);
        let taken = machine.identity().expect("it runs");
        assert!(taken.extra_monitors.is_empty(), "{taken:?}");
        machine.detach().expect("it is detachable");
        drop(machine);
        let socket = &mut identity.extra_monitors[0].file;
        if has_same_inode {
            socket.inode = fs::symlink_metadata(&path).expect("it is there").ino();
        }
        socket.created = socket.created.filter(|_| has_times);
        let other = is_in_use.then_some(other);
        let mut machine = H::launch(Config::resume(identity)).expect("it runs on");
        if has_times {
            assert!(machine.identity().expect("it runs").extra_monitors.is_empty());
        }
        machine.kill().expect("it was resumed");
        assert_eq!(scratch.entries(), ["qmp"]);
        assert_eq!(UnixStream::connect(&path).is_ok(), other.is_some());
        fs::remove_file(&path).expect("it is there");
    }
}

/// What happens on the other monitor disturbs no command on the own one.
fn g21_an_extra_monitor_disturbs_no_command<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let mut machine = H::launch(config().extra_monitor(bytes(&path))).expect("QEMU starts");
    runs(&mut machine);
    let mut other = Other::negotiated(&path);
    writeln!(other.0.get_mut(), "{{\"execute\": 5}}").expect("QEMU reads");
    assert!(other.message()["error"].is_object());
    for _ in 0..20 {
        assert!(other.ask("query-name")["return"].is_object());
        let reply: Result<Value, CommandError> = machine.execute("query-name", LONG);
        reply.expect("each client has its replies");
    }
    let counters = machine.counters();
    assert_eq!((counters.unmatched, counters.nameless), (0, 0));
    machine.kill().expect("it was launched");
    let end = other.0.read_line(&mut String::new());
    assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset));
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g17_a_relative_path_of_an_extra_monitor_is_refused
            g17_a_path_that_is_in_use_or_too_long_is_refused
            g21_an_extra_monitor_disturbs_no_command
            g28_a_human_quits_on_an_extra_monitor
            g28_a_quit_on_the_only_monitor_is_an_exit
            g28_a_quit_of_another_program_before_the_launch_is_done
            g28_a_shutdown_after_the_quit_of_another_program_is_not_ours
            g28_another_program_uses_an_extra_monitor
            g28_the_socket_of_another_program_at_the_path_stays
            g38_an_extra_monitor_for_others_needs_a_directory_in_which_they_cannot_replace_it
            g38_the_permissions_of_an_extra_monitor_are_those_that_were_chosen
        }
    };
}

rows!(stories, strict);
