//! Decides how the channels of a machine are opened, read and closed.

use std::io;

use qemu_machine_core::{Channel, HostFault, Input, Machine, Moment};

use crate::dial::{self, Dialled};
use crate::fault::fault;
use crate::host::Host;
use crate::prepare::LocalEnd;
use crate::scratch_dir::ScratchDir;
use crate::socket::{Received, Socket, Stage};
use crate::watch::Watch;

impl Host {
    /// Reports the dialling that is over.
    pub(crate) fn finish_dialling(&mut self, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        let dialled = self.sockets.iter_mut().find_map(|socket| Some((socket.channel, socket.dialled(watch)?)));
        match dialled {
            Some((channel, Ok(()))) => self.trace.report(machine, now, Input::Opened(channel)),
            Some((channel, Err(fault))) => {
                self.drop_socket(channel, Input::OpenFailed(channel, fault), machine, now, watch);
            }
            None => {}
        }
    }

    /// Reads from a channel once, as much as a socket holds, and reports what came. Whether there may be more. When there
    /// is not, the end may be there all the same: who is told of readiness once, and was told of the end with it, asks
    /// again.
    pub fn receive(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut impl Watch) -> bool {
        let Some(socket) = self.sockets.iter_mut().find(|socket| socket.channel == channel) else { return false };
        if socket.is_listening() {
            return self.accept(channel, machine, now, watch);
        }
        match socket.receive(machine, now, &mut self.trace) {
            Received::Some => true,
            Received::Nothing => false,
            Received::End => {
                self.close(channel, machine, now, watch);
                false
            }
        }
    }

    pub(crate) fn open(
        &mut self,
        channel: Channel,
        machine: &mut Machine,
        now: Moment,
        watch: &mut impl Watch,
    ) -> Result<(), HostFault> {
        let not_open = |error| fault(format!("open the {channel}"), &error);
        let index = self.local.iter().position(|(other, _)| *other == channel);
        let local = index.map(|index| self.local.swap_remove(index).1);
        self.local.shrink_to_fit();
        let (mut crowd, mut lease) = (false, None);
        let (socket, stage) = match local.ok_or_else(|| not_open(io::ErrorKind::NotFound.into()))? {
            LocalEnd::Connected(socket, lent) => {
                lease = lent;
                (socket, Stage::Connected)
            }
            LocalEnd::Listening(socket) => (socket, Stage::Listening),
            LocalEnd::Dial(address) => match dial::dial(&address).map_err(|error| dial::refused(&address, &error))? {
                (socket, Dialled::Connected { peer_busy }) => {
                    crowd = peer_busy;
                    (socket, Stage::Connected)
                }
                (socket, Dialled::Pending) => (socket, Stage::Dialling(address)),
            },
        };
        let is_connected = stage == Stage::Connected;
        let dials = matches!(stage, Stage::Dialling(_));
        let socket = Socket::new(channel, socket, stage, lease);
        watch.open(channel, &socket.descriptor).map_err(not_open)?;
        if dials {
            watch.set_write_interest(channel, &socket.descriptor, true);
        }
        // They are few, and stay.
        self.sockets.reserve_exact(1);
        self.sockets.push(socket);
        if crowd {
            self.trace.report(machine, now, Input::PeerBusy(channel));
        }
        if is_connected {
            self.trace.report(machine, now, Input::Opened(channel));
        }
        Ok(())
    }

    /// Somebody dials us.
    fn accept(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut impl Watch) -> bool {
        let socket = self.sockets.iter_mut().find(|socket| socket.channel == channel);
        match socket.map_or(Ok(false), |socket| socket.accept(watch)) {
            Ok(true) => {
                self.scratch.iter_mut().for_each(ScratchDir::remove_sockets);
                self.trace.report(machine, now, Input::Opened(channel));
                true
            }
            Ok(false) => false,
            Err(error) => {
                let fault = fault(format!("accept the {channel}"), &error);
                self.drop_socket(channel, Input::OpenFailed(channel, fault), machine, now, watch);
                false
            }
        }
    }

    pub(crate) fn close(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        self.drop_socket(channel, Input::Closed(channel), machine, now, watch);
    }

    fn drop_socket(
        &mut self,
        channel: Channel,
        news: Input<'_>,
        machine: &mut Machine,
        now: Moment,
        watch: &mut impl Watch,
    ) {
        if let Some(index) = self.sockets.iter().position(|socket| socket.channel == channel) {
            watch.close(channel, &self.sockets.swap_remove(index).descriptor);
        }
        self.trace.report(machine, now, news);
    }
}
