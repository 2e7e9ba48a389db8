//! Heartbeats of a session: out-of-band requests that test whether a monitor that owes replies is alive.

use super::Session;
use super::liveness::Probe;
use super::pending::{Owner, PendingCommand};
use crate::command::Band;
use crate::config::Dialect;
use crate::time::Moment;

/// The request, without its id. `query-yank` may be executed out of band (QEMU, `qapi/yank.json`, `query-yank`), so the
/// monitor's I/O thread answers it, past the main loop and the commands queued there (QEMU, `monitor/qmp.c`,
/// `handle_qmp_command`). An error proves as much as a result.
const QUESTION: &[u8] = br#"{"exec-oob":"query-yank""#;

impl Session {
    /// Turns heartbeats off; they are on by default.
    #[must_use]
    pub fn without_heartbeat(self) -> Self {
        Self { liveness: Probe::unwanted(), ..self }
    }

    /// Returns when the next heartbeat is due: when half of a command's time is over, and no heartbeat was answered
    /// since. `None` means that none is due: no command has a deadline, a heartbeat is on the wire, out-of-band
    /// execution was not negotiated, or the caller turned heartbeats off.
    #[inline]
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
            self.in_flight.send(&Self::question(), QUESTION, None, Dialect::Qmp, &mut self.outbox);
        }
    }

    fn question() -> PendingCommand {
        PendingCommand { owner: Owner::Probe, band: Band::OutOfBand, ..PendingCommand::default() }
    }
}
