//! Poller on epoll, which an eventfd wakes. It is level-triggered (`epoll(7)`): unread bytes are reported again.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use crate::clock::timespec;
use crate::sys::{Interest, Poll, Ready, Source};

/// The token of the eventfd. The tokens of callers count from zero and never reach it.
const WAKE: u64 = u64::MAX;

/// An epoll instance. It can be a source of another one, since it is readable while one of its own sources is ready
/// (`epoll(7)`, Questions and answers). A thread may add a source while another waits (`epoll_wait(2)`, NOTES).
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    wake: OwnedFd,
}

impl Poll for Poller {
    fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Self { epoll, wake })
    }

    fn add(&self, source: Source<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor(source), EventData::new_u64(token), flags(interest))?)
    }

    fn modify(&self, source: Source<'_>, token: u64, interest: Interest) {
        // This fails only for a source that is not watched.
        let _ = epoll::modify(&self.epoll, descriptor(source), EventData::new_u64(token), flags(interest));
    }

    fn remove(&self, source: Source<'_>) {
        let _ = epoll::delete(&self.epoll, descriptor(source));
    }

    fn wait(&self, timeout: Option<Duration>) -> Ready {
        let mut events = [const { MaybeUninit::uninit() }; Ready::MOST];
        let timeout = timeout.map(timespec);
        let mut ready = Ready::default();
        // This fails only when a signal interrupts it (`epoll_wait(2)`, EINTR). Then no source is ready, and the caller
        // reads the clock again. Sources beyond the buffer are reported by the next call, in turn (same page, NOTES).
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut events, timeout.as_ref()) else { return ready };
        for event in events {
            match event.data.u64() {
                WAKE => {
                    ready.woken = true;
                    let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
                }
                token => ready.push(token),
            }
        }
        ready
    }

    fn wake(&self) {
        // This fails only when the counter is full (`eventfd(2)`, EAGAIN), and then the poller is readable already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

fn descriptor(source: Source<'_>) -> BorrowedFd<'_> {
    match source {
        Source::Descriptor(descriptor) => descriptor,
        Source::Poller(poller) => poller.epoll.as_fd(),
    }
}

fn flags(interest: Interest) -> EventFlags {
    match interest {
        // The kernel reports errors and hang-ups unasked (`epoll_ctl(2)`, EPOLLERR). Without EPOLLONESHOT a closed
        // source would be reported again and again, and the thread would spin.
        Interest::None => EventFlags::ONESHOT,
        Interest::Read => EventFlags::IN,
        Interest::Write => EventFlags::OUT,
        Interest::ReadWrite => EventFlags::IN | EventFlags::OUT,
        Interest::ReadOnce => EventFlags::IN | EventFlags::ONESHOT,
    }
}
