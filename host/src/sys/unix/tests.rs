//! Tests of processes on any Unix: how an end is reported, and that no signal reaches what is not a child any more.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use qemu_machine_core::{ExitStatus, ProcessAttributes, Signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::process::{Process, start};
use crate::sys::{ChildProcess, ProcessSpec, Progress};

/// Starts a shell whose descriptor 3 is one end of a socket, and returns the other end.
fn shell(script: &str) -> (Process, UnixStream) {
    let (own, inherited) = UnixStream::pair().unwrap();
    let spec = ProcessSpec {
        arguments: ["sh", "-c", script].map(|argument| argument.as_bytes().to_vec()).into(),
        inherited: vec![OwnedFd::from(inherited)],
        namespace: None,
        log: None,
        share_terminal: false,
        outlives: false,
        attributes: ProcessAttributes::default(),
    };
    (start(spec).unwrap(), own)
}

fn wait(process: &Process) {
    assert_eq!(poll(&mut [PollFd::new(process.descriptor(), PollFlags::IN)], None), Ok(1));
}

#[test]
fn an_end_is_reported_once_it_can_be_reaped() {
    let (process, mut socket) = shell("read line <&3; exit 7");
    assert_eq!(process.reap(), None);
    socket.write_all(b"go\n").unwrap();
    wait(&process);
    assert_eq!(process.reap(), Some(ExitStatus::Code(7)));
    // The id may belong to another process from now on.
    assert!(process.signal(Signal::Kill).is_ok());
    assert_eq!(process.reap(), Some(ExitStatus::Code(7)));
}

#[test]
fn a_signal_reaches_the_whole_group() {
    let (process, mut socket) = shell("sleep 600 & echo up >&3; wait");
    let mut line = [0_u8; 3];
    std::io::Read::read_exact(&mut socket, &mut line).unwrap();
    process.signal(Signal::Kill).unwrap();
    wait(&process);
    assert!(matches!(process.reap(), Some(ExitStatus::Signal { number: 9, .. })));
    // The socket ends with the last process that has it.
    assert_eq!(std::io::Read::read(&mut socket, &mut line).unwrap(), 0);
}

/// Its status is lost, and its id may belong to another process.
#[test]
fn a_process_that_other_code_reaps_has_ended_without_a_status() {
    let (process, mut socket) = shell("read line <&3");
    socket.write_all(b"go\n").unwrap();
    let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
    waitpid(pid, WaitOptions::empty()).unwrap();
    assert!(process.signal(Signal::Kill).is_ok());
    wait(&process);
    assert_eq!(process.reap(), Some(ExitStatus::Unknown));
}

#[test]
fn a_program_that_cannot_be_executed_is_named_with_its_step() {
    let spec = ProcessSpec {
        arguments: vec![b"/nonexistent".to_vec()],
        inherited: Vec::new(),
        namespace: None,
        log: None,
        share_terminal: false,
        outlives: false,
        attributes: ProcessAttributes::default(),
    };
    let process = start(spec).unwrap();
    wait(&process);
    let Progress::Failed(step, error) = process.progress() else { panic!("it does not exist") };
    assert_eq!((&*step, error.kind()), ("execute", std::io::ErrorKind::NotFound));
    assert_eq!(process.reap(), Some(ExitStatus::Code(127)));
}

#[test]
fn the_number_of_an_inherited_descriptor_may_be_that_of_another_one() {
    let pairs: Vec<_> = (0..8).map(|_| UnixStream::pair().unwrap()).collect();
    // In the opposite order: each number is to be that of another descriptor.
    let (own, inherited): (Vec<_>, Vec<_>) = pairs.into_iter().rev().unzip();
    let script = (3..11).map(|number| format!("echo {number} >&{number};")).collect::<String>();
    let spec = ProcessSpec {
        arguments: vec![b"bash".to_vec(), b"-c".to_vec(), script.into_bytes()],
        inherited: inherited.into_iter().map(OwnedFd::from).collect(),
        namespace: None,
        log: None,
        share_terminal: false,
        outlives: false,
        attributes: ProcessAttributes::default(),
    };
    let process = start(spec).unwrap();
    for (mut socket, number) in own.into_iter().zip(3..) {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut socket, &mut text).unwrap();
        assert_eq!(text, format!("{number}\n"));
    }
    wait(&process);
    assert_eq!(process.reap(), Some(ExitStatus::Code(0)));
}
