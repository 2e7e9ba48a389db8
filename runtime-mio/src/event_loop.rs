//! Event loop for callers that have none of their own.

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Registry, Token};

use crate::vm::Vm;

/// A small event loop: a poll, and a source of tokens.
///
/// ```no_run
/// use qemu_machine_mio::{Config, EventLoop, Vm};
///
/// let mut event_loop = EventLoop::new()?;
/// let (registry, tokens) = event_loop.parts();
/// let mut vm = Vm::launch(Config::new("qemu-system-x86_64"), registry, tokens)?;
/// event_loop.run(std::slice::from_mut(&mut vm), |vms| vms[0].launched())??;
/// let status = vm.execute("query-status")?;
/// let status = event_loop.run(std::slice::from_mut(&mut vm), |vms| vms[0].claim(&status))??;
/// assert_eq!(status["status"], "running");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct EventLoop {
    poll: Poll,
    events: Events,
    next_token: usize,
}

impl EventLoop {
    /// Creates an event loop.
    ///
    /// # Errors
    ///
    /// When the operating system cannot create a poll, for example at the limit of open descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(256), next_token: 0 })
    }

    /// Returns the registry and the source of tokens that [`Vm::launch`] needs. Tokens count from 1 and are never used
    /// again.
    pub fn parts(&mut self) -> (&Registry, impl FnMut() -> Token) {
        let Self { poll, next_token, .. } = self;
        let tokens = move || {
            *next_token += 1;
            Token(*next_token)
        };
        (poll.registry(), tokens)
    }

    /// Drives the machines until `answer` returns a result. The deadlines of commands, waits and shutdowns bound how
    /// long that takes; without any, the call may block forever. Notices are dropped: `answer` reads the machines
    /// itself.
    ///
    /// # Errors
    ///
    /// When the poll fails. An interrupted poll (EINTR) is not a failure.
    pub fn run<T>(&mut self, vms: &mut [Vm], mut answer: impl FnMut(&mut [Vm]) -> Option<T>) -> io::Result<T> {
        loop {
            for vm in &mut *vms {
                while vm.turn(self.poll.registry()).is_some() {}
            }
            if let Some(answer) = answer(vms) {
                return Ok(answer);
            }
            let timeout: Option<Duration> = vms.iter().filter_map(Vm::timeout).min();
            match self.poll.poll(&mut self.events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &self.events {
                let _ = vms.iter_mut().any(|vm| vm.ready(event));
            }
        }
    }
}
