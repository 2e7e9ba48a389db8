//! Decides how one channel is opened, read and written.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use qemu_machine_core::{Address, Channel, Descriptor, HostFault, Input, Machine, Moment};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, send,
    sendmsg,
};

use crate::dial;
use crate::shared_fd::{Lease, SharedFd};
use crate::trace::Trace;
use crate::watch::Watch;

/// How much is read at once: as much as a socket holds.
const READ: usize = 64 << 10;

thread_local! {
    /// One for each thread and not for each machine, so that an idle machine costs no buffer.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Our end of a channel.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) channel: Channel,
    pub(crate) descriptor: Arc<OwnedFd>,
    stage: Stage,
    /// Whether it was full when we last wrote to it.
    full: bool,
    /// Others may have what it leads to when it is dropped.
    _lease: Option<Lease>,
}

/// How far a channel is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// We listen, and nobody has dialled yet.
    Listening,
    /// We dialled, and nobody has answered yet.
    Dialling(Address),
    /// It carries bytes.
    Connected,
}

/// What a read brought.
pub(crate) enum Received {
    /// There may be more.
    Some,
    /// There is no more for now; but the end may be there.
    Nothing,
    End,
}

impl Socket {
    pub(crate) fn new(channel: Channel, descriptor: OwnedFd, stage: Stage, lease: Option<Lease>) -> Self {
        Self { channel, descriptor: Arc::new(descriptor), stage, full: false, _lease: lease }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.stage == Stage::Connected
    }

    /// Takes the connection that somebody has made to us. Whether somebody did.
    pub(crate) fn accept(&mut self, watch: &mut impl Watch) -> io::Result<bool> {
        let Some(socket) = dial::accept(&self.descriptor)? else { return Ok(false) };
        watch.close(self.channel, &self.descriptor);
        (self.descriptor, self.stage) = (Arc::new(socket), Stage::Connected);
        watch.open(self.channel, &self.descriptor)?;
        Ok(true)
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.stage == Stage::Listening
    }

    /// How dialling went, once it is over.
    pub(crate) fn dialled(&mut self, watch: &mut impl Watch) -> Option<Result<(), HostFault>> {
        let Stage::Dialling(address) = &self.stage else { return None };
        let result = dial::progress(&self.descriptor)?.map_err(|error| dial::refused(address, &error));
        self.stage = Stage::Connected;
        watch.set_write_interest(self.channel, &self.descriptor, false);
        Some(result)
    }

    pub(crate) fn receive(&self, machine: &mut Machine, now: Moment, trace: &mut Trace) -> Received {
        if !self.is_connected() {
            return Received::Nothing;
        }
        let borrowed = BUFFER.try_with(|buffer| {
            buffer.try_borrow_mut().ok().map(|mut buffer| self.receive_into(&mut buffer, machine, now, trace))
        });
        // A machine that is dropped while its thread ends finds that the thread's buffer was dropped before it.
        borrowed.ok().flatten().unwrap_or_else(|| self.receive_into(&mut Vec::new(), machine, now, trace))
    }

    fn receive_into(&self, buffer: &mut Vec<u8>, machine: &mut Machine, now: Moment, trace: &mut Trace) -> Received {
        buffer.resize(READ, 0);
        let (mut into, mut control) = ([IoSliceMut::new(&mut buffer[..])], RecvAncillaryBuffer::default());
        match recvmsg(&self.descriptor, &mut into, &mut control, RecvFlags::DONTWAIT) {
            Ok(message) if message.bytes == 0 => Received::End,
            Ok(message) => {
                trace.report(machine, now, Input::Received(self.channel, &buffer[..message.bytes]));
                // A read ends with a descriptor that nobody asked for, whatever is behind it.
                let cut = message.bytes == READ || message.flags.contains(ReturnFlags::CTRUNC);
                if cut { Received::Some } else { Received::Nothing }
            }
            Err(Errno::AGAIN) => Received::Nothing,
            // There may be something: look again.
            Err(Errno::INTR) => Received::Some,
            // A reset is how a connection ends when the peer left something unread.
            Err(_) => Received::End,
        }
    }

    pub(crate) fn flush(&mut self, machine: &mut Machine, trace: &Trace, watch: &mut impl Watch) {
        if !self.is_connected() {
            return;
        }
        let mut full = false;
        // What carries a descriptor is sent by itself, so there may be more behind it.
        while !machine.outgoing(self.channel).is_empty() && !full {
            let bytes = machine.outgoing(self.channel);
            let length = bytes.len();
            let sent = match self.send(bytes, machine.outgoing_descriptor(self.channel)) {
                Ok(sent) => {
                    trace.sent(machine, self.channel, &bytes[..sent]);
                    sent
                }
                Err(Errno::AGAIN | Errno::INTR) => 0,
                // Nobody reads this any more. What they said before is still to be read, and then comes the end.
                Err(_) => length,
            };
            machine.sent(self.channel, sent);
            full = sent < length;
        }
        if full || self.full {
            watch.set_write_interest(self.channel, &self.descriptor, full);
        }
        self.full = full;
    }

    /// Sends bytes, and a descriptor with the first of them. Where none can be sent (TCP), the command goes alone, and
    /// QEMU says what it misses.
    fn send(&self, bytes: &[u8], descriptor: Option<&Descriptor>) -> Result<usize, Errno> {
        const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);
        let Some(descriptor) = descriptor.and_then(Descriptor::get::<SharedFd>) else {
            return send(&self.descriptor, bytes, FLAGS);
        };
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        match sendmsg(&self.descriptor, &[IoSlice::new(bytes)], &mut control, FLAGS) {
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::TOOMANYREFS) => send(&self.descriptor, bytes, FLAGS),
            result => result,
        }
    }
}
