//! Decides how the channels of a machine are opened, read and closed.

use std::io;

use qemu_machine_core::{Channel, Input, Machine, Moment};

use super::dial::{self, Dialled};
use super::place::Place;
use super::prepare::Ours;
use super::socket::{Received, Socket, Stage, not_open};
use super::{Host, Watch};

impl Host {
    /// Reports the dialling that is over.
    pub(super) fn finish_dialling(&mut self, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
        let dialled = self.sockets.iter_mut().find_map(|socket| Some((socket.channel, socket.dialled(watch)?)));
        match dialled {
            Some((channel, Ok(()))) => self.trace.report(machine, now, Input::Opened(channel)),
            Some((channel, Err(error))) => self.drop_socket(channel, not_open(channel, &error), machine, now, watch),
            None => {}
        }
    }

    /// Reads from a channel once, as much as a socket holds, and reports what came. Whether there may be more.
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

    pub(super) fn open(
        &mut self,
        channel: Channel,
        machine: &mut Machine,
        now: Moment,
        watch: &mut impl Watch,
    ) -> io::Result<()> {
        let index = self.ours.iter().position(|(other, _)| *other == channel);
        let (_, ours) = index.map(|index| self.ours.swap_remove(index)).ok_or(io::ErrorKind::NotFound)?;
        let mut crowd = false;
        let (socket, stage) = match ours {
            Ours::Connected(socket) => (socket, Stage::Connected),
            Ours::Listening(socket) => (socket, Stage::Listening),
            Ours::Dial(address) => match dial::dial(&address)? {
                (socket, Dialled::Connected { crowded }) => {
                    crowd = crowded;
                    (socket, Stage::Connected)
                }
                (socket, Dialled::Pending) => (socket, Stage::Dialling),
            },
        };
        let socket = Socket::new(channel, socket, stage);
        watch.open(channel, &socket.descriptor)?;
        if stage == Stage::Dialling {
            watch.want_room(channel, &socket.descriptor, true);
        }
        self.sockets.push(socket);
        if crowd {
            self.trace.report(machine, now, Input::Crowded(channel));
        }
        if stage == Stage::Connected {
            self.trace.report(machine, now, Input::Opened(channel));
        }
        Ok(())
    }

    /// Somebody dials us.
    fn accept(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut impl Watch) -> bool {
        let socket = self.sockets.iter_mut().find(|socket| socket.channel == channel);
        match socket.map_or(Ok(false), |socket| socket.accept(watch)) {
            Ok(true) => {
                self.place.iter_mut().for_each(Place::remove_sockets);
                self.trace.report(machine, now, Input::Opened(channel));
                true
            }
            Ok(false) => false,
            Err(error) => {
                self.drop_socket(channel, not_open(channel, &error), machine, now, watch);
                false
            }
        }
    }

    pub(super) fn close(&mut self, channel: Channel, machine: &mut Machine, now: Moment, watch: &mut impl Watch) {
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
