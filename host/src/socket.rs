//! Socket of one channel: its stage, its reads and its writes. Each call is non-blocking by a flag of its own
//! (MSG_DONTWAIT, `recv(2)`), not by O_NONBLOCK: a descriptor that the caller gave shares that flag with the caller.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use qemu_machine_core::{Address, Channel, Descriptor, HostFault, Machine};
use rustix::io::{Errno, read};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, recvmsg, send, sendmsg,
};

use crate::dial;
use crate::fault::fault;
use crate::shared_fd::{Lease, SharedFd};
use crate::sys::{Interest, Os, System};
use crate::trace::Trace;
use crate::watch::Watch;
use crate::wire::Wire;

/// The local end of a channel.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) channel: Channel,
    pub(crate) descriptor: Arc<OwnedFd>,
    stage: Stage,
    /// Whether the last write left bytes unsent.
    full: bool,
    /// Whether the guest waits for a reader: the socket is watched for room to write alone, and only while it is full.
    is_held: bool,
    /// Whether the kernel is to name the sender of the first bytes.
    names_sender: bool,
    /// The lease of the service that the socket leads to. The service is in use until this is dropped.
    _lease: Option<Lease>,
}

/// Stage of a channel on its way to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The socket listens, and no client has connected yet.
    Listening,
    /// The socket is connecting to this address.
    Dialling(Address),
    /// The socket is connected to the monitor of the process with this id, or to a stranger: the first bytes show which.
    Resuming(u32),
    Connected,
    /// It is the reading end of a pipe instead of a socket. Only this program has it, so that it may have O_NONBLOCK.
    Pipe,
}

/// Peer of a monitor that an earlier program offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MonitorPeer {
    /// It has sent nothing.
    Silent,
    /// It is the process, or one that the process started: with its id, if that is known.
    Qemu(Option<u32>),
    /// It is this process, which is another one.
    Stranger(u32),
}

/// Result of accepting a client.
pub(crate) enum Accepted {
    /// The client is connected. The channel no longer holds this socket, which listens.
    Connected(Arc<OwnedFd>),
    /// The client was not welcome, and its connection is closed.
    Refused,
    /// No client has connected.
    Nothing,
}

/// Result of a read.
pub(crate) enum Received {
    /// `count` bytes. `more` means that there may be more.
    Bytes { count: usize, more: bool },
    /// No bytes for now.
    Nothing,
    /// No bytes, but the read must be repeated.
    Again,
    /// The end of the channel.
    End,
}

impl Socket {
    pub(crate) fn new(channel: Channel, descriptor: Arc<OwnedFd>, stage: Stage, lease: Option<Lease>) -> Self {
        Self { channel, descriptor, stage, full: false, is_held: false, names_sender: false, _lease: lease }
    }

    /// Lets the kernel name the sender of the first bytes. Call it for a Unix socket before the peer can send.
    pub(crate) fn naming_sender(self) -> Self {
        Self { names_sender: true, ..self }
    }

    /// Returns the process that sent the first bytes, once, if they are there.
    pub(crate) fn take_sender(&mut self) -> Option<u32> {
        if !self.names_sender {
            return None;
        }
        // An error means that there are no bytes yet.
        let sender = Os::sender(self.descriptor.as_fd()).ok()?;
        self.names_sender = false;
        // A socket that no longer exists names no senders either.
        let _ = Os::name_senders(self.descriptor.as_fd(), false);
        sender
    }

    /// Returns the peer of a monitor that is being resumed, once its first bytes are there. `None` means that this socket
    /// is none, or that the peer was returned before.
    pub(crate) fn resumed_peer(&mut self) -> Option<MonitorPeer> {
        let Stage::Resuming(pid) = self.stage else { return None };
        // An error means that there are no bytes yet. At the end of the connection, no sender is known.
        let Ok(sender) = Os::sender(self.descriptor.as_fd()) else { return Some(MonitorPeer::Silent) };
        let _ = Os::name_senders(self.descriptor.as_fd(), false);
        self.stage = Stage::Connected;
        Some(match sender {
            Some(other) if other != pid && !Os::belongs(other, pid, None) => MonitorPeer::Stranger(other),
            sender => MonitorPeer::Qemu(sender),
        })
    }

    /// Returns whether there is nothing to find out about the peer.
    #[inline]
    pub(crate) fn has_known_peer(&self) -> bool {
        !self.names_sender && !matches!(self.stage, Stage::Resuming(_))
    }

    #[inline]
    pub(crate) fn is_listening(&self) -> bool {
        self.stage == Stage::Listening
    }

    /// Returns whether the guest waits for a reader.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Stops watching for bytes to read, so that the guest waits. What is queued for the guest is still sent.
    pub(crate) fn hold(&mut self, trace: &Trace, watch: &mut dyn Watch) {
        watch.close(self.channel, &self.descriptor);
        self.is_held = true;
        if self.full {
            self.watch_room(trace, watch);
        }
    }

    /// Watches for bytes to read again.
    ///
    /// # Errors
    ///
    /// When the socket cannot be watched.
    pub(crate) fn resume(&mut self, watch: &mut dyn Watch) -> io::Result<()> {
        self.is_held = false;
        if self.full {
            watch.close(self.channel, &self.descriptor);
        }
        watch.open(self.channel, &self.descriptor, Interest::Read)?;
        if self.full {
            watch.set_write_interest(self.channel, &self.descriptor, true);
        }
        Ok(())
    }

    /// Watches a socket that is held for room to write. If that fails, the rest is sent at the latest when the guest prints
    /// again.
    fn watch_room(&self, trace: &Trace, watch: &mut dyn Watch) {
        if let Err(error) = watch.open(self.channel, &self.descriptor, Interest::Write) {
            trace.fault(&fault(format!("watch the {}", self.channel), &error));
        }
    }

    /// Accepts the connection of a client, if there is one that is welcome.
    pub(crate) fn accept(
        &mut self,
        is_welcome: impl FnOnce(BorrowedFd<'_>) -> io::Result<bool>,
        watch: &mut dyn Watch,
    ) -> io::Result<Accepted> {
        let Some(socket) = dial::accept(&self.descriptor)? else { return Ok(Accepted::Nothing) };
        if !is_welcome(socket.as_fd())? {
            return Ok(Accepted::Refused);
        }
        watch.close(self.channel, &self.descriptor);
        let listener = std::mem::replace(&mut self.descriptor, Arc::new(socket));
        self.stage = Stage::Connected;
        watch.open(self.channel, &self.descriptor, Interest::Read)?;
        Ok(Accepted::Connected(listener))
    }

    /// Returns the result of dialling, with the address if it failed. `None` means that it is in progress, or was
    /// returned before.
    #[inline]
    pub(crate) fn dialled(&mut self, watch: &mut dyn Watch) -> Option<Result<(), (Address, HostFault)>> {
        let Stage::Dialling(address) = &self.stage else { return None };
        let failed = |error| (address.clone(), dial::refused(address, &error));
        let result = dial::progress(&self.descriptor)?.map_err(failed);
        self.stage = Stage::Connected;
        watch.set_write_interest(self.channel, &self.descriptor, false);
        Some(result)
    }

    /// Reads once, as much as the buffer holds.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Received {
        let size = buffer.len();
        match self.stage {
            Stage::Connected => {}
            Stage::Pipe => {
                return match read(&self.descriptor, &mut *buffer) {
                    Ok(0) => Received::End,
                    Ok(count) => Received::Bytes { count, more: count == size },
                    Err(Errno::AGAIN) => Received::Nothing,
                    Err(Errno::INTR) => Received::Again,
                    Err(_) => Received::End,
                };
            }
            Stage::Listening | Stage::Dialling(_) | Stage::Resuming(_) => return Received::Nothing,
        }
        // There is no room for descriptors, so the kernel closes those that a peer sends (`unix(7)`, SCM_RIGHTS). With
        // room, a peer could fill the table of open descriptors.
        let mut control = RecvAncillaryBuffer::default();
        match recvmsg(&self.descriptor, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::DONTWAIT) {
            Ok(message) if message.bytes == 0 => Received::End,
            // A read ends at ancillary data (`unix(7)`), which then sets MSG_CTRUNC: there may be bytes after it.
            Ok(message) => {
                let more = message.bytes == size || message.flags.contains(ReturnFlags::CTRUNC);
                Received::Bytes { count: message.bytes, more }
            }
            Err(Errno::AGAIN) => Received::Nothing,
            Err(Errno::INTR) => Received::Again,
            // ECONNRESET is an end as well: the peer closed with bytes unread (Linux, `net/unix/af_unix.c`,
            // `unix_release_sock`). QEMU does so when it exits with input unread (measured with QEMU 7.2.22).
            Err(_) => Received::End,
        }
    }

    /// Sends what is outgoing, as much as the socket accepts.
    pub(crate) fn flush(&mut self, machine: &mut Machine, trace: &Trace, wire: &mut Wire, watch: &mut dyn Watch) {
        if self.stage != Stage::Connected {
            return;
        }
        let mut full = false;
        // A command with a descriptor is outgoing alone, so more may follow.
        while !full {
            let bytes = machine.outgoing(self.channel);
            let length = bytes.len();
            if length == 0 {
                break;
            }
            let sent = match self.send(bytes, machine.outgoing_descriptor(self.channel)) {
                Ok(sent) => {
                    trace.sent(machine, self.channel, &bytes[..sent]);
                    wire.sent(self.channel, &bytes[..sent]);
                    sent
                }
                Err(Errno::AGAIN | Errno::INTR) => 0,
                // The peer reads no more, so the bytes are dropped. Bytes that it sent before are still read, and then
                // the end.
                Err(_) => length,
            };
            machine.sent(self.channel, sent);
            full = sent < length;
        }
        match (self.is_held, self.full, full) {
            (_, false, false) | (true, true, true) => {}
            (true, false, true) => self.watch_room(trace, watch),
            (true, true, false) => watch.close(self.channel, &self.descriptor),
            (false, ..) => watch.set_write_interest(self.channel, &self.descriptor, full),
        }
        self.full = full;
    }

    /// Sends bytes, and a descriptor with the first of them. When the descriptor cannot be sent, the command is sent
    /// alone, and QEMU refuses it: over TCP, which carries no descriptors, and when too many descriptors are in flight
    /// (`unix(7)`, ETOOMANYREFS).
    fn send(&self, bytes: &[u8], descriptor: Option<&Descriptor>) -> Result<usize, Errno> {
        let Some(descriptor) = descriptor.and_then(Descriptor::get::<SharedFd>) else {
            return send(&self.descriptor, bytes, Os::SEND);
        };
        let descriptors = [descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        match sendmsg(&self.descriptor, &[IoSlice::new(bytes)], &mut control, Os::SEND) {
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::TOOMANYREFS) => send(&self.descriptor, bytes, Os::SEND),
            result => result,
        }
    }
}
