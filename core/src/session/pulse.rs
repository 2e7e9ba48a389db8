//! Decides when a monitor is asked for a sign of life, and what that tells of a command that ran out of time.

use super::flight::{Entry, Owner};
use super::{Dialect, Session};
use crate::command::Band;
use crate::error::Liveness;
use crate::time::Moment;

/// The question, up to its id. Whatever the answer is, and an error is one as well, it comes from the monitor's own
/// thread, past the main loop and all that waits there.
const QUESTION: &[u8] = br#"{"exec-oob":"query-yank""#;

/// What is known of the monitor's thread. One question at a time: what comes back later than a command's half time is
/// a sign of life for that command, whoever asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulse {
    unwanted: bool,
    /// When the question was sent that has no answer yet.
    asked: Option<Moment>,
    /// When the last answer came.
    felt: Option<Moment>,
}

impl Pulse {
    /// A monitor that is never asked.
    pub(super) fn unwanted() -> Self {
        Self { unwanted: true, ..Self::default() }
    }

    /// The answer came.
    pub(super) fn feel(&mut self, now: Moment) {
        *self = Self { asked: None, felt: Some(now), ..*self };
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
    pub(super) fn verdict(&self, now: Moment, expired: &Entry) -> Liveness {
        let Entry { half: Some(half), deadline: Some(deadline), .. } = *expired else { return Liveness::Unknown };
        let enough = deadline.since(half) / 2;
        match (self.felt, self.asked) {
            (Some(felt), _) if felt >= half => Liveness::Busy,
            (_, Some(asked)) if now.since(asked) >= enough => Liveness::Stuck,
            _ => Liveness::Unknown,
        }
    }
}

impl Session {
    /// The same session, which never asks a monitor for a sign of life.
    #[must_use]
    pub fn without_heartbeat(self) -> Self {
        Self { pulse: Pulse::unwanted(), ..self }
    }

    /// When the monitor is to be asked: at the half time of a command that nothing was felt of since.
    pub(crate) fn sign_due(&self) -> Option<Moment> {
        let Pulse { unwanted, asked, felt } = self.pulse;
        let may_ask = !unwanted && asked.is_none() && self.out_of_band();
        if may_ask && self.flight.may_send(&Self::question(), self.rules()) {
            self.flight.half_time(felt)
        } else {
            None
        }
    }

    pub(super) fn ask_for_a_sign(&mut self, now: Moment) {
        if self.sign_due().is_some_and(|due| due <= now) {
            self.pulse.asked = Some(now);
            self.flight.send(Self::question(), QUESTION, None, Dialect::Qmp, &mut self.outbox);
        }
    }

    fn question() -> Entry {
        Entry { owner: Owner::Pulse, band: Band::OutOfBand, ..Entry::default() }
    }
}
