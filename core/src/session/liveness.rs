//! Liveness of a monitor: what the last heartbeat tells about a command that ran out of time.

use super::in_flight::PendingCommand;
use crate::error::Liveness;
use crate::time::Moment;

/// The heartbeats of a monitor. One request is on the wire at a time: a reply that arrives after half of a command's
/// time is a sign that the monitor lives for that command, whichever command caused the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) unwanted: bool,
    /// When the request was sent that has no reply yet.
    pub(super) asked: Option<Moment>,
    /// When the last reply arrived.
    pub(super) last_reply: Option<Moment>,
}

impl Probe {
    /// No heartbeats: the caller does not want them.
    pub(super) fn unwanted() -> Self {
        Self { unwanted: true, ..Self::default() }
    }

    /// Notes a reply.
    pub(super) fn answered(&mut self, now: Moment) {
        *self = Self { asked: None, last_reply: Some(now), ..*self };
    }

    /// Notes that no reply can arrive any more.
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
