//! Channels of a machine: how they are opened, read and closed.

use std::cell::Cell;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use qemu_machine_core::{Address, Channel, FaultKind, HostFault, Input, Machine, Moment, Phase, State};

use crate::child::Child;
use crate::dial::{self, Dialled};
use crate::fault::{fault, fault_because};
use crate::host::Host;
use crate::local_end::LocalEnd;
use crate::socket::{Accepted, MonitorPeer, Received, Socket, Stage};
use crate::sys::{Connector, Interest, Os, System};
use crate::watch::Watch;

/// Bytes that one read accepts at most. A flooded channel then leaves the others their turn.
const READ: usize = 64 << 10;

/// Why a client that may be a stranger is not accepted.
const UNVERIFIED: &str = "it is not known which process has connected, and it may not be QEMU: if QEMU runs on another \
                          host or in a namespace of its own, allow any process with `Config::trust_peer`";

thread_local! {
    /// The read buffer of each thread. One for each machine would cost memory for machines that are idle.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Host {
    /// Reads from a channel once, and reports what was received. Returns whether there may be more.
    ///
    /// `false` means drained; the end of the channel may still be pending. An edge-triggered driver that saw a hang-up
    /// must call once more, otherwise it never observes the end: the kernel reports an edge only once (`epoll(7)`).
    pub fn receive(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) -> bool {
        if self.hold_console(channel, machine, watch) {
            return false;
        }
        let Some(socket) = self.sockets.iter().find(|socket| socket.channel == channel) else { return false };
        if socket.is_listening() {
            return self.accept(channel, machine, now, watch);
        }
        if !socket.has_known_peer() && !self.note_peer_of(channel, machine, now, watch) {
            return false;
        }
        self.read(channel, machine, now, watch)
    }

    /// Reports the peer of a channel, once its first bytes are there. Returns whether the channel is to be read.
    fn note_peer_of(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) -> bool {
        let Some(socket) = self.sockets.iter_mut().find(|socket| socket.channel == channel) else { return false };
        match socket.resumed_peer() {
            Some(MonitorPeer::Silent) => return false,
            Some(MonitorPeer::Qemu(pid)) => {
                self.report(machine, now, Input::Opened(channel));
                pid.into_iter().for_each(|pid| self.note_peer(pid, machine, now));
            }
            Some(MonitorPeer::Stranger(pid)) => {
                let reason = format!("process {pid} answers there, which is not the machine");
                let fault = fault_because(format!("open the {channel}"), FaultKind::Gone, reason);
                self.close(channel, Input::OpenFailed(channel, fault), machine, now, watch);
                return false;
            }
            None => {}
        }
        let Some(socket) = self.sockets.iter_mut().find(|socket| socket.channel == channel) else { return false };
        if let Some(pid) = socket.take_sender() {
            self.note_peer(pid, machine, now);
        }
        true
    }

    fn read(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) -> bool {
        let Some(socket) = self.sockets.iter().find(|socket| socket.channel == channel) else { return false };
        // A new buffer is allocated when the thread is ending, and when the buffer is in use because a subscriber of
        // `tracing` drives another machine.
        let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
        buffer.resize(READ, 0);
        let received = socket.receive(&mut buffer);
        let more = match received {
            Received::Bytes { count, more } => {
                if let Some(pipe) = self.log_pipe.as_deref().filter(|pipe| pipe.channel == channel) {
                    pipe.printed.push(&buffer[..count], machine.limits().console);
                }
                self.report(machine, now, Input::Received(channel, &buffer[..count]));
                more
            }
            Received::Nothing => false,
            Received::Again => true,
            Received::End => {
                self.close(channel, Input::Closed(channel), machine, now, watch);
                false
            }
        };
        // This fails only while the thread is ending, and then the buffer is dropped.
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
        more
    }

    /// Reports a connection that was in progress and is now established or failed.
    pub(crate) fn finish_dialling(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        let dialled = self.sockets.iter_mut().find_map(|socket| Some((socket.channel, socket.dialled(watch)?)));
        match dialled {
            Some((channel, Ok(()))) => self.report(machine, now, Input::Opened(channel)),
            Some((channel, Err((address, fault)))) => {
                self.local.push((channel, LocalEnd::Dial(address)));
                self.close(channel, Input::OpenFailed(channel, fault), machine, now, watch);
            }
            None => {}
        }
    }

    pub(crate) fn open(
        &mut self,
        channel: Channel,
        machine: &mut Machine,
        now: Moment,
        watch: &mut dyn Watch,
    ) -> Result<(), HostFault> {
        let not_open = |error| fault(format!("open the {channel}"), &error);
        let local = self.take_local(channel);
        let (mut is_peer_busy, mut lease) = (false, None);
        let mut names_sender = false;
        let (socket, stage) = match local.ok_or_else(|| not_open(io::ErrorKind::NotFound.into()))? {
            LocalEnd::Connected(socket, lent) => {
                names_sender = channel == Channel::Monitor && self.monitor_inode.is_some();
                lease = lent;
                (Arc::new(socket), Stage::Connected)
            }
            LocalEnd::Pipe(pipe) => (Arc::new(pipe), Stage::Pipe),
            LocalEnd::Listening(socket) => (socket, Stage::Listening),
            LocalEnd::Offered(address) => {
                names_sender = true;
                let dialled = dial::dial_naming_sender(&address);
                (Arc::new(dialled.map_err(|error| dial::refused(&address, &error))?), Stage::Connected)
            }
            LocalEnd::Resumed(address, pid) => {
                let dialled = dial::dial_again(&address).map_err(|error| dial::refused(&address, &error))?;
                is_peer_busy = dialled.1;
                (Arc::new(dialled.0), Stage::Resuming(pid))
            }
            LocalEnd::Dial(address) => match self.dial(channel, &address)? {
                (socket, Dialled::Connected { peer_busy }) => {
                    is_peer_busy = peer_busy;
                    (Arc::new(socket), Stage::Connected)
                }
                (socket, Dialled::Pending) => (Arc::new(socket), Stage::Dialling(address)),
            },
        };
        let is_connected = matches!(stage, Stage::Connected | Stage::Pipe);
        let is_dialling = matches!(stage, Stage::Dialling(_));
        let mut socket = Socket::new(channel, socket, stage, lease);
        if names_sender {
            socket = socket.naming_sender();
        }
        watch.open(channel, &socket.descriptor, Interest::Read).map_err(not_open)?;
        if is_dialling {
            watch.set_write_interest(channel, &socket.descriptor, true);
        }
        // A machine has few sockets for its whole run, so spare capacity would be wasted.
        self.sockets.reserve_exact(1);
        self.sockets.push(socket);
        if is_peer_busy {
            self.report(machine, now, Input::PeerBusy(channel));
        }
        if is_connected {
            self.report(machine, now, Input::Opened(channel));
        }
        Ok(())
    }

    fn take_local(&mut self, channel: Channel) -> Option<LocalEnd> {
        let index = self.local.iter().position(|(other, _)| *other == channel)?;
        let local = self.local.swap_remove(index).1;
        self.local.shrink_to_fit();
        Some(local)
    }

    /// Dials an address. If that fails, the machine may open the channel again.
    fn dial(&mut self, channel: Channel, address: &Address) -> Result<(OwnedFd, Dialled), HostFault> {
        dial::dial(address).map_err(|error| {
            self.local.push((channel, LocalEnd::Dial(address.clone())));
            dial::refused(address, &error)
        })
    }

    /// Drops what could open a channel again, once QEMU has greeted.
    pub(crate) fn drop_local(&mut self, machine: &Machine) {
        if self.local.is_empty() {
            return;
        }
        let has_greeted = match machine.state() {
            State::Running => true,
            State::Launching(phase) => !matches!(phase, Phase::Starting | Phase::Connecting | Phase::Greeting),
            _ => false,
        };
        if !has_greeted {
            return;
        }
        let local = std::mem::take(&mut self.local);
        if local.iter().any(|(_, local)| matches!(local, LocalEnd::Listening(_))) {
            self.scratch.iter_mut().for_each(|scratch| scratch.begin_to_remove_sockets());
        }
    }

    /// Accepts a client, and returns whether there may be bytes to read, or another client.
    fn accept(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) -> bool {
        let Self { sockets, child, trusts_peer, uid, .. } = self;
        let Some(socket) = sockets.iter_mut().find(|socket| socket.channel == channel) else { return false };
        let mut connector = None;
        let started = child.as_ref().map(Child::pid);
        let is_welcome = |client: BorrowedFd<'_>| {
            if *trusts_peer {
                return Ok(true);
            }
            // Without a process, none is expected.
            let Some(started) = started else { return Ok(false) };
            match Os::connector(client, started, *uid)? {
                Connector::Process(pid) => connector = Some(pid),
                Connector::Stranger => return Ok(false),
                Connector::Unknown => return Err(io::Error::other(UNVERIFIED)),
            }
            Ok(true)
        };
        match socket.accept(is_welcome, watch) {
            Ok(Accepted::Connected(listener)) => {
                connector.into_iter().for_each(|pid| self.note_peer(pid, machine, now));
                if self.trusts_peer {
                    self.local.push((channel, LocalEnd::Listening(listener)));
                } else {
                    self.scratch.iter_mut().for_each(|scratch| scratch.begin_to_remove_sockets());
                }
                self.report(machine, now, Input::Opened(channel));
                true
            }
            Ok(Accepted::Refused) => true,
            Ok(Accepted::Nothing) => false,
            Err(error) => {
                let fault = fault(format!("accept the {channel}"), &error);
                self.close(channel, Input::OpenFailed(channel, fault), machine, now, watch);
                false
            }
        }
    }

    /// Closes a channel, and reports this input.
    pub(crate) fn close(
        &mut self,
        channel: Channel,
        input: Input<'_>,
        machine: &mut Machine,
        now: Moment,
        watch: &mut dyn Watch,
    ) {
        if let Some(index) = self.sockets.iter().position(|socket| socket.channel == channel) {
            watch.close(channel, &self.sockets.swap_remove(index).descriptor);
        }
        self.report(machine, now, input);
    }
}
