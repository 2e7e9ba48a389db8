//! Start of the guest: QEMU is started with `-S`, which holds the guest, and the session continues it once the monitor is
//! ready.
//!
//! A guest that ends within milliseconds would otherwise end before QEMU has processed `qmp_capabilities`, and its events
//! would be lost: a monitor has no events before (QEMU, `monitor/monitor.c`, `monitor_qapi_event_emit`). The session asks
//! for the state first, and continues only from `prelaunch`. `inmigrate` must not be continued: the disks may still
//! belong to the source of the migration (QEMU, `qapi/run-state.json`, `RunState`).

use alloc::string::String;

use serde::Deserialize;

use super::pending::{Owner, PendingCommand};
use super::{Session, Stage};
use crate::event::Event;
use crate::fault::Refusal;
use crate::payload::Payload;
use crate::session;
use crate::time::Moment;

const QUERY_STATUS: &[u8] = br#"{"execute":"query-status""#;
const CONTINUE: &[u8] = br#"{"execute":"cont""#;
/// Without it, QEMU does not report the end of a migration (QEMU, `qapi/migration.json`, `MigrationCapability`).
const REPORT_MIGRATION: &[u8] =
    br#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true}]}"#;

/// How far the start of the guest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Startup {
    /// The session does not start the guest, or has started it.
    #[default]
    Done,
    /// QEMU holds the guest.
    Held,
    /// `query-status` has no reply yet.
    Asked { out_of_band: bool },
    /// `cont` has no reply yet, and the session is ready with it.
    Continuing { out_of_band: bool },
    /// The guest was continued, and the event of that is due.
    Continued,
    /// The guest arrives by a migration, and is continued after it.
    Arriving,
    /// The guest has arrived, and `query-status` has no reply yet.
    Arrived,
}

impl Session {
    /// Lets the session continue a guest that QEMU holds (`-S`), before it is ready for commands.
    #[must_use]
    pub fn continuing_guest(self) -> Self {
        Self { startup: Startup::Held, ..self }
    }

    /// As [`continuing_guest`](Self::continuing_guest), and lets the session be ready only with the reply. A client that
    /// disconnects before loses the command: QEMU drops the requests of a monitor that is closed (QEMU,
    /// `monitor/qmp.c`, `monitor_qmp_event`).
    #[must_use]
    pub(crate) fn continuing_guest_first(self) -> Self {
        Self { awaits_start: true, ..self.continuing_guest() }
    }

    /// Leaves a held guest as it is, unless it was continued already.
    pub(super) fn keep_guest_held(&mut self) {
        if self.startup == Startup::Held {
            self.startup = Startup::Done;
        }
    }

    /// Asks for the state of the guest after the handshake. Returns whether the guest is held.
    pub(super) fn begin_startup(&mut self, out_of_band: bool, emit: &mut impl FnMut(session::Output)) -> bool {
        if self.startup != Startup::Held {
            return false;
        }
        self.startup = Startup::Asked { out_of_band };
        self.stage = Stage::Querying;
        self.send_for_startup(QUERY_STATUS);
        emit(session::Output::Querying);
        true
    }

    /// Handles the reply to a command of the startup.
    pub(super) fn startup_answered(
        &mut self,
        now: Moment,
        result: Result<Payload, Refusal>,
        emit: &mut impl FnMut(session::Output),
    ) {
        self.startup_commands = self.startup_commands.saturating_sub(1);
        match self.startup {
            Startup::Asked { out_of_band } => {
                self.startup = match state(result).as_deref() {
                    Some("prelaunch") if self.awaits_start => {
                        self.send_for_startup(CONTINUE);
                        self.startup = Startup::Continuing { out_of_band };
                        return;
                    }
                    Some("prelaunch") => self.continue_guest(),
                    Some("inmigrate") => {
                        self.send_for_startup(REPORT_MIGRATION);
                        Startup::Arriving
                    }
                    _ => Startup::Done,
                };
                // The guest may end before QEMU replies to `cont`, so that reply is not awaited.
                self.become_ready(now, out_of_band, emit);
            }
            Startup::Arrived => {
                self.startup = match state(result).as_deref() {
                    Some("paused") => self.continue_guest(),
                    _ => Startup::Done,
                };
            }
            Startup::Continuing { out_of_band } => {
                self.startup = Startup::Done;
                self.become_ready(now, out_of_band, emit);
            }
            // The reply to `cont` follows its event, if there is one (measured with QEMU 7.2.22).
            Startup::Continued => self.startup = Startup::Done,
            Startup::Done | Startup::Held | Startup::Arriving => {}
        }
    }

    /// Handles an event of the startup. Returns whether it is the `RESUME` of the startup, which no caller asked for.
    pub(super) fn startup_event(&mut self, event: &Event) -> bool {
        match (self.startup, event.name()) {
            (Startup::Continuing { .. }, "RESUME") => true,
            (Startup::Continued, "RESUME") => {
                self.startup = Startup::Done;
                true
            }
            (Startup::Arriving, "MIGRATION") if is_completed(event) => {
                self.startup = Startup::Arrived;
                self.send_for_startup(QUERY_STATUS);
                false
            }
            _ => false,
        }
    }

    fn continue_guest(&mut self) -> Startup {
        self.send_for_startup(CONTINUE);
        Startup::Continued
    }

    fn send_for_startup(&mut self, body: &'static [u8]) {
        let entry = PendingCommand { owner: Owner::Startup, ..PendingCommand::default() };
        self.in_flight.send(&entry, body, None, self.dialect, &mut self.outbox);
        self.startup_commands += 1;
    }
}

/// Returns the state of the guest. `None` means that QEMU does not report it.
fn state(result: Result<Payload, Refusal>) -> Option<String> {
    #[derive(Deserialize)]
    struct Status {
        status: String,
    }
    result.ok()?.read().ok().map(|Status { status }| status)
}

fn is_completed(migration: &Event) -> bool {
    #[derive(Deserialize)]
    struct Data {
        status: String,
    }
    migration.read_data().is_ok_and(|Data { status }| status == "completed")
}
