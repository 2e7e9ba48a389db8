//! Decides how the descriptors of one machine are watched: by one epoll of its own.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use qemu_machine_core::{Channel, Machine, Moment};
use rustix::event::epoll::{self, EventData, EventFlags};

use qemu_machine_host::{Host, Watch, timespec};

/// What is in the epoll, by its data; the consoles follow the monitor.
const WAKE: u64 = 0;
const PROCESS: u64 = 1;
const MONITOR: u64 = 2;

/// The epoll of one machine, which those who wait hold as well.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
    wake: OwnedFd,
}

/// What became ready, by its data.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    tokens: [u64; Self::MOST],
    count: usize,
}

impl Ready {
    /// So many at once; what else is ready is still so the next time.
    const MOST: usize = 16;
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let wake = rustix::event::eventfd(0, flags)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, wake })
    }

    /// Waits until something is ready, at most so long; none: as long as it takes.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Ready {
        let mut events = [const { MaybeUninit::uninit() }; Ready::MOST];
        let timeout = timeout.map(timespec);
        let mut ready = Ready::default();
        // Interrupted by a signal: nothing is ready, and the caller looks at the clock again.
        if let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            ready.count = events.len();
            ready.tokens.iter_mut().zip(events).for_each(|(token, event)| *token = event.data.u64());
        }
        ready
    }

    /// Ends the wait of whoever is in it.
    pub(crate) fn wake(&self) {
        // Only a counter that is full refuses, and then it is awake anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// How the descriptors of one machine are watched.
#[derive(Debug)]
pub(crate) struct Wires(pub(crate) Arc<Poll>);

impl Watch for Wires {
    fn open(&mut self, channel: Channel, socket: &Arc<OwnedFd>) -> io::Result<()> {
        Ok(epoll::add(&self.0.epoll, socket, EventData::new_u64(token(channel)), EventFlags::IN)?)
    }

    fn set_write_interest(&mut self, channel: Channel, socket: &Arc<OwnedFd>, wanted: bool) {
        let room = if wanted { EventFlags::OUT } else { EventFlags::empty() };
        // It was added when it was opened.
        let _ = epoll::modify(&self.0.epoll, socket, EventData::new_u64(token(channel)), EventFlags::IN | room);
    }

    fn close(&mut self, _: Channel, socket: &Arc<OwnedFd>) {
        let _ = epoll::delete(&self.0.epoll, socket);
    }

    fn process_started(&mut self, process: &Arc<OwnedFd>) -> io::Result<()> {
        Ok(epoll::add(&self.0.epoll, process, EventData::new_u64(PROCESS), EventFlags::IN)?)
    }

    fn process_reaped(&mut self, process: &Arc<OwnedFd>) {
        let _ = epoll::delete(&self.0.epoll, process);
    }
}

impl Wires {
    /// Reports what became ready.
    pub(crate) fn absorb(&mut self, ready: Ready, host: &mut Host, machine: &mut Machine, now: Moment) {
        for token in ready.tokens.into_iter().take(ready.count) {
            match token {
                WAKE => drop(rustix::io::read(&self.0.wake, &mut [0_u8; 8])),
                PROCESS => host.reap(machine, now, self),
                // What is left is ready the next time as well.
                token => drop(host.receive(channel(token), machine, now, self)),
            }
        }
    }
}

fn token(channel: Channel) -> u64 {
    match channel {
        Channel::Monitor => MONITOR,
        Channel::Console(index) => MONITOR + 1 + index as u64,
    }
}

fn channel(token: u64) -> Channel {
    token.checked_sub(MONITOR + 1).map_or(Channel::Monitor, |index| Channel::Console(index as usize))
}
