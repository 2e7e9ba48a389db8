//! Decides when a monitor is asked for a heartbeat, and what that tells of a command that ran out of time.

use super::in_flight::{Owner, PendingCommand};
use super::{Dialect, Session};
use crate::command::Band;
use crate::error::Liveness;
use crate::time::Moment;

/// The question, up to its id. Whatever the answer is, and an error is one as well, it comes from the monitor's own
/// thread, past the main loop and all that waits there.
const QUESTION: &[u8] = br#"{"exec-oob":"query-yank""#;

/// What is known of the monitor's thread. One question at a time: what comes back later than a command's half time is
/// a heartbeat for that command, whoever asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Probe {
    unwanted: bool,
    /// When the question was sent that has no answer yet.
    asked: Option<Moment>,
    /// When the last answer came.
    last_reply: Option<Moment>,
}

impl Probe {
    /// A monitor that is never asked.
    pub(super) fn unwanted() -> Self {
        Self { unwanted: true, ..Self::default() }
    }

    /// The answer came.
    pub(super) fn answered(&mut self, now: Moment) {
        *self = Self { asked: None, last_reply: Some(now), ..*self };
    }

    /// No answer comes any more.
    pub(super) fn close(&mut self) {
        self.asked = None;
    }

    /// How many of the commands that have no reply yet are nobody's but ours.
    pub(super) fn questions(&self) -> usize {
        usize::from(self.asked.is_some())
    }

    /// What is known of it while this command runs out of time. Silence tells something only if it lasted for a quarter
    /// of what the command had: a driver that was late itself, or a negotiation that took long, proves nothing.
    pub(super) fn verdict(&self, now: Moment, expired: &PendingCommand) -> Liveness {
        let PendingCommand { half: Some(half), deadline: Some(deadline), .. } = *expired else {
            return Liveness::Unknown;
        };
        let enough = deadline.since(half) / 2;
        match (self.last_reply, self.asked) {
            (Some(last_reply), _) if last_reply >= half => Liveness::Busy,
            (_, Some(asked)) if now.since(asked) >= enough => Liveness::Stuck,
            _ => Liveness::Unknown,
        }
    }
}

impl Session {
    /// The same session, which never asks a monitor for a heartbeat.
    #[must_use]
    pub fn without_heartbeat(self) -> Self {
        Self { liveness: Probe::unwanted(), ..self }
    }

    /// When the monitor is to be asked: at the half time of a command that nothing was last_reply of since.
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
