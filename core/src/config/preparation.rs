//! Preparation that a configuration asks for: what the host must create before the process is started.

use crate::channel::Channel;
use crate::config::Config;
use crate::descriptor::Descriptor;
use crate::effect::Preparation;
use crate::identity::Identity;
use crate::lifecycle::{Retry, Wiring};
use crate::transport::{Address, Monitor, Peer, Transport};

impl Config {
    pub(crate) fn preparation(&self) -> Preparation {
        let log = self.log_console().map(Channel::Console);
        let transport = |channel| match channel {
            Channel::Monitor => self.transport(),
            console if Some(console) == log => Transport::Output,
            Channel::Console(_) => Transport::Pair,
        };
        Preparation {
            name: self.name.as_bytes().to_vec(),
            base: self.temporary_directory.clone(),
            log_directory: self.log_directory.clone(),
            log_limit: self.log_limit,
            has_log_path: self.outlives_parent,
            process: self.peer.is_none(),
            channels: self.channels().into_iter().map(|channel| (channel, transport(channel))).collect(),
            trusts_peer: self.trusts_peer,
            services: self.services.clone(),
            passed: self.passed.clone(),
            added: self.added.iter().map(|added| added.descriptor.clone()).collect(),
            files: self.consoles.iter().filter_map(|console| console.log.clone()).collect(),
        }
    }

    /// Returns how the monitor is connected.
    fn transport(&self) -> Transport {
        match (&self.peer, &self.monitor) {
            (Some(Peer::Dial(address)), _) => Transport::Dial(address.clone()),
            (Some(Peer::Listen(address)), _) | (None, Monitor::At(address)) => Transport::Listen(address.clone()),
            (Some(Peer::Detached(identity)), _) => Transport::Detached(identity.clone()),
            (Some(Peer::Connected(descriptor)), _) => Transport::Connected(descriptor.clone()),
            (None, Monitor::Socket) => Transport::ListenIn(self.socket_directory.clone()),
            (None, Monitor::Offered) => Transport::Offer(self.socket_directory.clone()),
            (None, Monitor::Inherited | Monitor::None) => Transport::Pair,
        }
    }

    /// Returns whether the monitor is on a TCP connection. One that the caller gave connected is not known.
    pub(crate) fn is_by_tcp(&self) -> bool {
        match self.transport() {
            Transport::Dial(address) | Transport::Listen(address) => matches!(address, Address::Tcp(_)),
            Transport::Pair
            | Transport::Output
            | Transport::ListenIn(_)
            | Transport::Offer(_)
            | Transport::Detached(_)
            | Transport::Connected(_) => false,
        }
    }

    /// Drops the connection that the caller gave, so that it is open in one place only. Returns whether there was one.
    pub(crate) fn drop_given_connection(&mut self) -> bool {
        let Some(Peer::Connected(descriptor)) = &mut self.peer else { return false };
        *descriptor = Descriptor::new(());
        true
    }

    /// Drops the descriptors that the caller gave for the process, unless they are to serve another run. Returns whether
    /// there was one.
    pub(crate) fn drop_given_descriptors(&mut self) -> bool {
        if self.keeps_fds {
            return false;
        }
        let added = self.added.iter_mut().map(|added| &mut added.descriptor);
        let given = added.chain(&mut self.passed).map(|descriptor| *descriptor = Descriptor::new(()));
        given.count() > 0
    }

    /// Returns which failures of the monitor are retried until the deadline of the launch.
    pub(crate) fn retry(&self) -> Retry {
        match (&self.peer, &self.monitor) {
            (Some(Peer::Dial(_)), _) if self.waits_for_listener => Retry::Unreachable,
            (Some(Peer::Dial(_)), _) => Retry::Busy,
            (Some(Peer::Listen(_)), _) => Retry::Stranger,
            // Otherwise the host accepts no stranger.
            (None, Monitor::Socket | Monitor::At(_)) if self.trusts_peer => Retry::Stranger,
            (Some(Peer::Detached(_) | Peer::Connected(_)), _) | (None, _) => Retry::Never,
        }
    }

    /// Returns the identity of a machine that is resumed.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        if let Some(Peer::Detached(identity)) = &self.peer { Some(identity) } else { None }
    }

    /// Returns whether an earlier program launched the machine.
    pub(crate) fn is_resumed(&self) -> bool {
        self.identity().is_some()
    }

    /// Returns whether the machine can be left to a later program.
    pub(crate) fn is_detachable(&self) -> bool {
        self.outlives_parent || self.is_resumed()
    }

    /// Returns how the monitor and the process are connected.
    pub(crate) fn wiring(&self) -> Wiring {
        match (&self.peer, &self.monitor) {
            (Some(Peer::Detached(_)), _) => Wiring::Resumed,
            (Some(_), _) => Wiring::Foreign,
            (None, Monitor::None) => Wiring::Absent,
            // A process that inherited its listening socket closes that socket when it ends, so a dial never waits for
            // a dead process.
            (None, Monitor::Inherited | Monitor::Offered) => Wiring::Inherited,
            (None, Monitor::Socket | Monitor::At(_)) => Wiring::Dialled,
        }
    }
}
