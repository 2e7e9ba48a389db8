//! Wait for the end of a child, on a thread of its own: POSIX has no descriptor that reports it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::io::{retry_on_intr, write};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::descriptors::pipe;
use crate::lock::lock;

/// Size of the stack of the thread, which makes two system calls.
const STACK: usize = 64 << 10;

/// A thread that waits for a child, and leaves it to be reaped.
#[derive(Debug)]
pub(super) struct Waiter {
    descriptor: Arc<OwnedFd>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
enum State {
    /// Both ends of the pipe. With the end to read, the thread never writes without a reader, which would raise SIGPIPE
    /// (`pipe(7)`). They are closed when the child has ended, before the owner knows.
    Waiting {
        write: OwnedFd,
        _read: Arc<OwnedFd>,
    },
    Ended,
}

impl Waiter {
    /// Starts the thread. It waits for the child whose id is sent, and ends if none is.
    pub(super) fn start() -> io::Result<(Self, Sender<Pid>)> {
        let (read, write) = pipe()?;
        let descriptor = Arc::new(read);
        let state = Arc::new(Mutex::new(State::Waiting { write, _read: Arc::clone(&descriptor) }));
        let (sender, started) = channel();
        let own = Arc::clone(&state);
        thread::Builder::new().name("qemu-waiter".into()).stack_size(STACK).spawn(move || run(&started, &own))?;
        Ok((Self { descriptor, state }, sender))
    }

    /// Returns the descriptor that is readable once the child has ended.
    pub(super) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    /// Returns whether the child has ended, and the thread no longer waits for it: another child may have its id from then
    /// on.
    pub(super) fn has_ended(&self) -> bool {
        matches!(*lock(&self.state), State::Ended)
    }
}

fn run(started: &Receiver<Pid>, state: &Mutex<State>) {
    let Ok(pid) = started.recv() else { return };
    // An error means that another part of the program has reaped the child, or ignores SIGCHLD (`waitid(2)`, ECHILD).
    let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
    let mut state = lock(state);
    if let State::Waiting { write: pipe, .. } = &*state {
        // A byte, since the end of the pipe is not seen while a child of this program has a copy of it.
        let _ = write(pipe, b"!");
    }
    *state = State::Ended;
}

/// Returns whether a process is a child that was not reaped (`waitid(2)`, ECHILD).
pub(super) fn is_child(pid: Pid) -> bool {
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT).is_ok()
}
