//! Stories of a guest agent of another program: a qemu-ga on this host, on a Unix socket. No story executes a command
//! that changes the host.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;

use qemu_machine_core::{Address, CommandError, LaunchError, LaunchFailure, Liveness, Peer, Progress, Value, json};
use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::{Scratch, bytes};
use qemu_machine_tests::linux::agent_program;
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::on_each_row;
use crate::rows::{Agent, LONG, Row, SHORT};

on_each_row! {
    row_37_an_agent_is_attached_to_by_path,
    row_37_half_a_command_of_a_dead_client_is_not_in_the_way,
    row_37_a_second_client_is_refused_as_busy,
    row_37_a_late_reply_of_the_agent_reaches_no_other_command,
    g39_an_agent_without_guest_sync_delimited_is_synchronised_with_guest_sync,
    g39_an_agent_that_refuses_both_is_reported_at_once_in_its_words,
    g39_an_agent_that_refuses_unknown_members_is_used,
}

/// Commands that change the host. No test executes them, and the agent refuses them.
const DANGEROUS: &str = "guest-shutdown,guest-suspend-disk,guest-suspend-ram,guest-suspend-hybrid,guest-fsfreeze-freeze,\
    guest-fsfreeze-freeze-list,guest-fstrim,guest-set-time,guest-set-user-password,guest-set-vcpus,\
    guest-set-memory-blocks,guest-ssh-add-authorized-keys,guest-ssh-remove-authorized-keys";

/// A running agent, killed when dropped.
struct Running {
    agent: Child,
    scratch: Scratch,
}

impl Running {
    /// Starts an agent with a socket that is open already, so that the test need not wait for it. By the protocol of
    /// systemd the socket is descriptor 3, and the environment names the process that it is for (`sd_listen_fds(3)`).
    ///
    /// The agent reads the release of the system from a FIFO: `guest-get-osinfo` blocks until a line is written. It
    /// refuses the commands of the list `refused` as well.
    fn start(refused: &str) -> Self {
        const GIVEN: &str = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null";
        let scratch = Scratch::create();
        let [socket, log, gate] = ["socket", "log", "gate"].map(|name| scratch.path().join(name));
        mkfifoat(CWD, &gate, Mode::RUSR | Mode::WUSR).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        // The agent ends with the thread of the test, also when `drop` does not run.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", GIVEN, "sh"]);
        command.arg(agent_program(env!("CARGO_TARGET_TMPDIR"))).args(["--method", "unix-listen", "-b"]);
        command.arg(format!("{DANGEROUS},{refused}"));
        command
            .arg("--path")
            .arg(&socket)
            .arg("--statedir")
            .arg(scratch.path())
            .arg("--logfile")
            .arg(log)
            .env("QGA_OS_RELEASE", gate);
        let agent = command.stdin(OwnedFd::from(listener)).spawn().expect("setpriv, of util-linux");
        Self { agent, scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The kill fails only if the agent has ended.
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// Runs a story with the directory of an agent, which is killed after it, also when the story hangs.
pub(crate) fn with_an_agent(story: impl FnOnce(&Path) + Send + 'static) {
    with_an_agent_without("", story);
}

/// As [`with_an_agent`], with an agent that refuses these commands, separated by commas.
fn with_an_agent_without(refused: &str, story: impl FnOnce(&Path) + Send + 'static) {
    let running = Running::start(refused);
    let directory = running.path("");
    bounded_by(LONG, move || story(&directory));
}

fn peer(directory: &Path) -> Peer {
    Peer::Dial(Address::unix(bytes(&directory.join("socket"))))
}

pub(crate) fn attach<R: Row>(directory: &Path) -> R::Agent {
    R::Agent::attach(peer(directory), LONG).unwrap_or_else(|error| panic!("{error}"))
}

fn row_37_an_agent_is_attached_to_by_path<R: Row>() {
    with_an_agent(|directory| {
        let file = directory.join("file");
        fs::write(&file, "note").unwrap();
        let mut agent = attach::<R>(directory);
        assert_eq!(agent.ask("guest-sync", json!({"id": 42})), Ok(json!(42)));
        assert!(agent.ask("guest-info", json!({})).unwrap()["version"].is_string());
        let handle = agent.ask("guest-file-open", json!({"path": file.to_str()})).unwrap();
        let read = agent.ask("guest-file-read", json!({"handle": handle})).unwrap();
        assert_eq!(read["buf-b64"], "bm90ZQ==");
        assert_eq!(agent.ask("guest-file-close", json!({"handle": handle})), Ok(json!({})));
        assert!(agent.ask("guest-exec", json!({"path": "/bin/true"})).unwrap()["pid"].is_u64());
        assert_eq!(agent.finish().cause.to_string(), "disconnected by the caller, and left running");
        assert_eq!(attach::<R>(directory).ask("guest-ping", json!({})), Ok(json!({})));
    });
}

/// The agent has one parser for all clients, so half a command of a dead client precedes the next command (measured
/// with QEMU 7.2.22).
///
/// No dead client leaves a reply unread: that resets the connection, and qemu-ga 7.2 ends then.
fn row_37_half_a_command_of_a_dead_client_is_not_in_the_way<R: Row>() {
    with_an_agent(|directory| {
        for half in [r#"{"execute": "guest-pi"#, r#"{"execute": "guest-sync", "arguments": {"id": 1"#, "[[[{"] {
            let mut dead = BufReader::new(UnixStream::connect(directory.join("socket")).unwrap());
            write!(dead.get_mut(), r#"{{"execute": "guest-ping"}}{half}"#).unwrap();
            dead.read_line(&mut String::new()).unwrap();
            drop(dead);
            let mut agent = attach::<R>(directory);
            assert_eq!(agent.stale(), 1, "the delimiter causes one error: {half}");
            assert_eq!(agent.ask("guest-ping", json!({})), Ok(json!({})), "{half}");
            agent.finish();
        }
    });
}

/// The agent serves one client; the others wait in the backlog of its socket.
fn row_37_a_second_client_is_refused_as_busy<R: Row>() {
    with_an_agent(|directory| {
        let mut first = attach::<R>(directory);
        let second = R::Agent::attach(peer(directory), SHORT);
        let Err(LaunchError::Failed { failure, .. }) = second else { panic!("the agent has a client") };
        assert_eq!(failure, LaunchFailure::Busy);
        assert_eq!(first.ask("guest-ping", json!({})), Ok(json!({})));
        first.finish();
        // No reply to the second client reaches the third.
        assert_eq!(attach::<R>(directory).ask("guest-sync", json!({"id": 3})), Ok(json!(3)));
    });
}

fn row_37_a_late_reply_of_the_agent_reaches_no_other_command<R: Row>() {
    with_an_agent(|directory| {
        let mut agent = attach::<R>(directory);
        let before = agent.stale();
        let timed_out = agent.ask_within("guest-get-osinfo", json!({}), SHORT);
        assert_eq!(timed_out, Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown)));
        // The write blocks until the agent reads the FIFO.
        fs::write(directory.join("gate"), "PRETTY_NAME=late\n").unwrap();
        assert_eq!(agent.ask("guest-sync", json!({"id": 7})), Ok(json!(7)));
        assert_eq!(agent.stale(), before + 2, "the late reply, and what the delimiter was answered");
    });
}

/// A late reply to a command that timed out reaches no other command either way.
fn g39_an_agent_without_guest_sync_delimited_is_synchronised_with_guest_sync<R: Row>() {
    with_an_agent_without("guest-sync-delimited", |directory| {
        let mut agent = attach::<R>(directory);
        assert_eq!(agent.stale(), 2, "the error that the delimiter causes, and the refusal");
        let refused = agent.ask("guest-sync-delimited", json!({"id": 5})).expect_err("it is disabled").to_string();
        assert!(refused.starts_with("`guest-sync-delimited` was refused: "), "{refused}");
        assert_eq!(agent.ask("guest-sync", json!({"id": 6})), Ok(json!(6)));
        let timed_out = agent.ask_within("guest-get-osinfo", json!({}), SHORT);
        assert_eq!(timed_out, Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown)));
        fs::write(directory.join("gate"), "PRETTY_NAME=late\n").unwrap();
        assert_eq!(agent.ask("guest-sync", json!({"id": 7})), Ok(json!(7)));
        assert_eq!(agent.stale(), 5, "the late reply, and the same two errors again");
        agent.finish();
        assert_eq!(attach::<R>(directory).ask("guest-ping", json!({})), Ok(json!({})));
    });
}

/// The refusal is reported as such, and not as a deadline that passed.
fn g39_an_agent_that_refuses_both_is_reported_at_once_in_its_words<R: Row>() {
    with_an_agent_without("guest-sync-delimited,guest-sync", |directory| {
        for _ in 0..3 {
            let failed = R::Agent::attach(peer(directory), LONG);
            let Err(LaunchError::Failed { failure, .. }) = failed else { panic!("the agent refuses to synchronise") };
            let LaunchFailure::NotSynchronised(refusal) = failure else { panic!("{failure}") };
            assert_eq!((&*refusal.command, &*refusal.class), ("guest-sync", "CommandNotFound"));
            assert!(refusal.description.starts_with("Command guest-sync has been disabled"), "{refusal}");
        }
    });
}

/// The scripted agent refuses each member but `execute` and `arguments`, as qemu-ga before QEMU 4.0 does (QEMU 2.8,
/// `qapi/qmp-dispatch.c`, `qmp_dispatch_check_obj`).
fn g39_an_agent_that_refuses_unknown_members_is_used<R: Row>() {
    bounded_by(LONG, || {
        let scratch = Scratch::create();
        let listener = UnixListener::bind(scratch.path().join("socket")).unwrap();
        let agent = thread::spawn(move || old_agent(listener.accept().unwrap().0));
        let mut client = attach::<R>(scratch.path());
        assert_eq!(client.ask("guest-ping", json!({})), Ok(json!({})));
        assert_eq!(client.ask("guest-sync", json!({"id": 42})), Ok(json!(42)));
        client.finish();
        assert_eq!(agent.join().unwrap(), 3, "the commands, and one to synchronise");
    });
}

/// Serves one client until it disconnects, and returns how many requests it has sent.
fn old_agent(mut stream: UnixStream) -> usize {
    let (mut requests, mut received, mut count) = (Vec::new(), [0; 1024], 0);
    loop {
        match stream.read(&mut received).unwrap() {
            0 => return count,
            length => requests.extend_from_slice(&received[..length]),
        }
        requests.retain(|byte| *byte != 0xff);
        let mut objects = serde_json::Deserializer::from_slice(&requests).into_iter::<Value>();
        let mut end = 0;
        while let Some(Ok(request)) = objects.next() {
            end = objects.byte_offset();
            count += 1;
            stream.write_all(&old_reply(&request)).unwrap();
        }
        requests.drain(..end);
    }
}

fn old_reply(request: &Value) -> Vec<u8> {
    let names = request.as_object().expect("an object").keys();
    let unknown = names.into_iter().find(|name| !["execute", "arguments"].contains(&&***name));
    let (delimiter, reply) = match (unknown, request["execute"].as_str()) {
        (Some(name), _) => {
            let description = format!("QMP input object member '{name}' is unexpected");
            (&b""[..], json!({"error": {"class": "GenericError", "desc": description}}))
        }
        (None, Some("guest-sync-delimited")) => (&b"\xff"[..], json!({"return": request["arguments"]["id"]})),
        (None, Some("guest-sync")) => (&b""[..], json!({"return": request["arguments"]["id"]})),
        (None, _) => (&b""[..], json!({"return": {}})),
    };
    [delimiter, reply.to_string().as_bytes(), b"\n"].concat()
}
