//! Heartbeats of a session: when a monitor that owes replies is asked whether it lives.

use super::Session;
use super::in_flight::{Owner, PendingCommand};
use super::liveness::Probe;
use crate::command::Band;
use crate::config::Dialect;
use crate::time::Moment;

/// The request, up to its id. Whatever the reply is (an error counts as well), it comes from the monitor's own thread,
/// past the main loop and all commands that wait there.
const QUESTION: &[u8] = br#"{"exec-oob":"query-yank""#;

impl Session {
    /// The same session, which never asks a monitor for a heartbeat.
    #[must_use]
    pub fn without_heartbeat(self) -> Self {
        Self { liveness: Probe::unwanted(), ..self }
    }

    /// When the monitor is to be asked: half of the time of a command is over, and no reply arrived since.
    pub(crate) fn heartbeat_due(&self) -> Option<Moment> {
        let Probe { unwanted, asked, last_reply } = self.liveness;
        let may_ask = !unwanted && asked.is_none() && self.out_of_band();
        if may_ask && self.in_flight.may_send(&Self::question(), self.rules()) {
            self.in_flight.half_time(last_reply)
        } else {
            None
        }
    }

    pub(super) fn send_heartbeat(&mut self, now: Moment) {
        if self.heartbeat_due().is_some_and(|due| due <= now) {
            self.liveness.asked = Some(now);
            self.in_flight.send(Self::question(), QUESTION, None, Dialect::Qmp, &mut self.outbox);
        }
    }

    fn question() -> PendingCommand {
        PendingCommand { owner: Owner::Probe, band: Band::OutOfBand, ..PendingCommand::default() }
    }
}
