//! Liveness of a monitor: the conclusion from its heartbeats when a command times out.

use super::pending::PendingCommand;
use crate::error::Liveness;
use crate::time::Moment;

/// The heartbeats of a monitor. At most one request is on the wire. A reply that arrives after half of a command's time
/// proves for that command that the monitor is alive, even if another command caused the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Probe {
    /// The caller turned heartbeats off.
    pub(super) unwanted: bool,
    /// When the request on the wire was sent. `None` means that no request waits for a reply.
    pub(super) asked: Option<Moment>,
    /// When the last reply arrived. `None` means that none did.
    pub(super) last_reply: Option<Moment>,
}

impl Probe {
    /// Returns a probe that sends no heartbeats.
    pub(super) fn unwanted() -> Self {
        Self { unwanted: true, ..Self::default() }
    }

    /// Records a reply.
    pub(super) fn answered(&mut self, now: Moment) {
        *self = Self { asked: None, last_reply: Some(now), ..*self };
    }

    /// Records that no reply can arrive any more.
    pub(super) fn close(&mut self) {
        self.asked = None;
    }

    /// Returns how many of the commands without a reply are heartbeats.
    pub(super) fn questions(&self) -> usize {
        usize::from(self.asked.is_some())
    }

    /// Returns what is known of the monitor when this command times out. Silence counts only if it lasted for a quarter
    /// of the command's time: a request that was sent late, by a late driver or after a long negotiation, proves
    /// nothing.
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
