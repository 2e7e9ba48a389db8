//! Decides how the descriptors of one machine are watched, read and written: by one epoll of its own.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use qemu_machine_core::{Channel, Input, Machine, Moment};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::host::{Host, Wires, timespec};

/// What is in the epoll beside the channels, by its data; a channel has its index in `open`, counted from there.
const WAKE: u64 = 0;
const PROCESS: u64 = 1;
const CHANNELS: u64 = 2;

/// How much is read at once: as much as a socket holds.
const READ: usize = 64 << 10;

thread_local! {
    /// One for each thread and not for each machine, so that an idle machine costs no buffer.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

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

/// The sockets of one machine.
#[derive(Debug)]
pub(crate) struct Sockets {
    poll: Arc<Poll>,
    open: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    channel: Channel,
    descriptor: OwnedFd,
    token: u64,
    /// Whether it was full when we last wrote to it.
    full: bool,
}

impl Wires for Sockets {
    fn open(&mut self, channel: Channel, descriptor: OwnedFd) -> io::Result<()> {
        let token = match channel {
            Channel::Monitor => CHANNELS,
            Channel::Console(index) => CHANNELS + 1 + index as u64,
        };
        epoll::add(&self.poll.epoll, &descriptor, EventData::new_u64(token), EventFlags::IN)?;
        self.open.push(Socket { channel, descriptor, token, full: false });
        Ok(())
    }

    fn close(&mut self, channel: Channel) {
        // Closing the last descriptor of a socket takes it out of the epoll.
        self.open.retain(|socket| socket.channel != channel);
    }

    fn born(&mut self, process: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(&self.poll.epoll, process, EventData::new_u64(PROCESS), EventFlags::IN)?)
    }

    fn buried(&mut self, process: BorrowedFd<'_>) {
        // It was added when it was born.
        let _ = epoll::delete(&self.poll.epoll, process);
    }
}

impl Sockets {
    pub(crate) fn new(poll: Arc<Poll>) -> Self {
        Self { poll, open: Vec::new() }
    }

    /// Reports what became ready.
    pub(crate) fn absorb(&mut self, ready: Ready, host: &mut Host, machine: &mut Machine, now: Moment) {
        for token in ready.tokens.into_iter().take(ready.count) {
            match token {
                WAKE => drop(rustix::io::read(&self.poll.wake, &mut [0_u8; 8])),
                PROCESS => host.reap(machine, now, self),
                token => self.read(token, machine, now),
            }
        }
    }

    fn read(&mut self, token: u64, machine: &mut Machine, now: Moment) {
        let Some(socket) = self.open.iter().find(|socket| socket.token == token) else { return };
        let channel = socket.channel;
        let closed = BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(READ, 0);
            match recv(&socket.descriptor, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => true,
                Ok((bytes, _)) => {
                    machine.handle(now, Input::Received(channel, &buffer[..bytes]));
                    false
                }
                Err(Errno::AGAIN | Errno::INTR) => false,
                // A reset is how a connection ends when the peer left something unread.
                Err(_) => true,
            }
        });
        if closed {
            self.close(channel);
            machine.handle(now, Input::Closed(channel));
        }
    }

    /// Sends what is to be sent, as far as the sockets take it.
    pub(crate) fn flush(&mut self, machine: &mut Machine) {
        for socket in &mut self.open {
            let bytes = machine.outgoing(socket.channel);
            if bytes.is_empty() {
                continue;
            }
            let length = bytes.len();
            let sent = match send(&socket.descriptor, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                // Nobody reads this any more. What they said before is still to be read, and then comes the end.
                Err(_) => length,
            };
            machine.sent(socket.channel, sent);
            socket.watch(&self.poll, sent < length);
        }
    }
}

impl Socket {
    /// Waits for room only where there was none.
    fn watch(&mut self, poll: &Poll, full: bool) {
        if self.full != full {
            let room = if full { EventFlags::OUT } else { EventFlags::empty() };
            // It was added when it was opened.
            let _ = epoll::modify(&poll.epoll, &self.descriptor, EventData::new_u64(self.token), EventFlags::IN | room);
            self.full = full;
        }
    }
}
