//! Continuation of a guest whose source is not saved: what is known of it.

use core::time::Duration;

use crate::procedure::ProcedureError;

/// The first time before `cont` is sent again, and the longest one.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// Continuation of the guest. QEMU refuses `cont` in the state `finish-migrate` (QEMU, `monitor/qmp-cmds.c`, `qmp_cont`),
/// and up to 10.x it leaves that state after it has sent the event of the failure (QEMU, `migration/migration.c`,
/// `migration_iteration_finish`).
#[derive(Debug, Default)]
pub(super) struct Resume {
    /// Why the latest `cont` failed.
    pub(super) why: Option<ProcedureError>,
    /// The state was another one than `finish-migrate` after a `cont` that failed, so the next one is the last.
    pub(super) is_last: bool,
    /// The time before the latest `cont`.
    pause: Duration,
}

impl Resume {
    /// Returns the time before the next `cont`.
    pub(super) fn next_pause(&mut self) -> Duration {
        self.pause = (self.pause * 2).clamp(PAUSES[0], PAUSES[1]);
        self.pause
    }
}
