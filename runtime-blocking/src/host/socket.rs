//! Decides how one channel is read and written.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use qemu_machine_core::{Channel, Input, Machine, Moment};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::Watch;
use super::trace::Trace;

/// How much is read at once: as much as a socket holds.
const READ: usize = 64 << 10;

thread_local! {
    /// One for each thread and not for each machine, so that an idle machine costs no buffer.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Our end of a channel.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) channel: Channel,
    pub(super) descriptor: Arc<OwnedFd>,
    /// Whether it was full when we last wrote to it.
    full: bool,
}

/// What a read brought.
pub(super) enum Received {
    Some,
    Nothing,
    End,
}

impl Socket {
    pub(super) fn new(channel: Channel, descriptor: OwnedFd) -> Self {
        Self { channel, descriptor: Arc::new(descriptor), full: false }
    }

    pub(super) fn receive(&self, machine: &mut Machine, now: Moment, trace: &mut Trace) -> Received {
        let borrowed = BUFFER.try_with(|buffer| {
            buffer.try_borrow_mut().ok().map(|mut buffer| self.receive_into(&mut buffer, machine, now, trace))
        });
        // A machine that is dropped while its thread ends finds that the thread's buffer was dropped before it.
        borrowed.ok().flatten().unwrap_or_else(|| self.receive_into(&mut Vec::new(), machine, now, trace))
    }

    fn receive_into(&self, buffer: &mut Vec<u8>, machine: &mut Machine, now: Moment, trace: &mut Trace) -> Received {
        buffer.resize(READ, 0);
        match recv(&self.descriptor, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Received::End,
            Ok((bytes, _)) => {
                trace.report(machine, now, Input::Received(self.channel, &buffer[..bytes]));
                Received::Some
            }
            Err(Errno::AGAIN) => Received::Nothing,
            // There may be something: look again.
            Err(Errno::INTR) => Received::Some,
            // A reset is how a connection ends when the peer left something unread.
            Err(_) => Received::End,
        }
    }

    pub(super) fn flush(&mut self, machine: &mut Machine, trace: &Trace, watch: &mut impl Watch) {
        let bytes = machine.outgoing(self.channel);
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let sent = match send(&self.descriptor, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => {
                trace.sent(machine, self.channel, &bytes[..sent]);
                sent
            }
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // Nobody reads this any more. What they said before is still to be read, and then comes the end.
            Err(_) => length,
        };
        machine.sent(self.channel, sent);
        let full = sent < length;
        if full || self.full {
            watch.want_room(self.channel, &self.descriptor, full);
        }
        self.full = full;
    }
}
