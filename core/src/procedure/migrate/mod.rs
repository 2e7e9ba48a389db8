//! Procedure that migrates a machine, on the source or on the destination.

mod stop;

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Procedure, ProcedureError, Undo};
use crate::error::{CommandError, WaitError};
use crate::fault::Misuse;
use crate::outcome::{Cause, Outcome};
use crate::payload::Payload;
use crate::procedure;
use crate::text::UntrustedText;
use crate::wait::{Found, Hit, Mark, Wait};

/// Migrates a machine to another QEMU, or receives one, and follows the migration to its end.
///
/// QEMU sends `MIGRATION` events only with the capability `events` (QEMU, `qapi/migration.json`,
/// `MigrationCapability`), so the procedure enables it first; without it the end of the migration goes unseen. The
/// destination must be launched with `-incoming defer` (QEMU, `qapi/migration.json`, `migrate-incoming`) and the same
/// machine configuration as the source.
///
/// A migration that the procedure has [started](Self::to) does not outlive a failure of the procedure: otherwise the guest
/// may move to the destination after the caller received an error. When the deadline passes, or the run is
/// cancelled or fails, the procedure cancels the migration (`migrate_cancel`) and waits for its end, within
/// [`CLEAN_UP_WITHIN`](super::CLEAN_UP_WITHIN); the error is still that of the deadline. If the migration completes first,
/// it has completed. A migration that has switched to postcopy cannot be cancelled without the loss of the guest, so it
/// goes on; that, and one that does not end in that time, is
/// [`ProcedureError::Remains`](super::ProcedureError::Remains). When the run is dropped, the machine sends
/// `migrate_cancel`.
///
/// ```
/// use qemu_machine_core::procedure::Migrate;
///
/// let (listen, send, arrival) = (Migrate::listen("unix:/run/vm/m"), Migrate::to("unix:/run/vm/m"), Migrate::arrival());
/// // there.run(listen, Duration::from_secs(10))?;
/// // here.run(send, Duration::from_secs(60))?;
/// // there.run(arrival, Duration::from_secs(60))?;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct Migrate {
    part: Part,
    address: String,
    mark: Mark,
    begun: bool,
    asked: Asked,
    /// QEMU has reported that the migration failed.
    has_failed: bool,
    /// QEMU has reported that the guest runs on the destination, which fetches its memory.
    is_postcopy: bool,
    /// `Some` means that the procedure has failed with this error, and cancels the migration.
    stop: Option<ProcedureError>,
}

/// The side of the migration, and where the procedure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Send,
    Listen,
    Arrive,
}

/// The command that has no reply yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    EnableEvents,
    Migrate,
    /// None: `migrate` was accepted.
    Nothing,
    /// `query-migrate`, for the reason of a failure, after events were missed, or before the migration is cancelled.
    State,
    Cancel,
}

type Step = procedure::Output<Result<MigrationEnd, MigrateError>>;

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationEnd {
    /// The machine is on the destination.
    Completed,
    /// QEMU listens; the source may begin to send.
    Listening,
    /// The migration was cancelled (`migrate_cancel`), and the machine stays on the source.
    Cancelled,
}

/// Why a machine did not migrate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The migration failed, for the reason that QEMU gave. The machine stays on the source. A destination exits with
    /// status 1 when it cannot load what it receives; then the reason is what it printed last. (Since QEMU 9.1 it stays,
    /// if `migrate-incoming` has `exit-on-error` off.)
    #[error("the migration failed: {0}")]
    Failed(UntrustedText),
    /// A command was refused, the deadline passed, or the machine ended.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

/// The members of the reply of `query-migrate` that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    status: Option<String>,
    error_desc: Option<String>,
}

impl Migrate {
    /// Returns a procedure that sends the machine to the QEMU that listens at this address, in QEMU's syntax
    /// (`unix:PATH`, `tcp:HOST:PORT`). It is done when the machine is there.
    pub fn to(address: impl Into<String>) -> Self {
        Self::new(Part::Send, address.into())
    }

    /// Returns a procedure that makes QEMU listen at this address. It is done when QEMU listens; then the source may
    /// send.
    pub fn listen(address: impl Into<String>) -> Self {
        Self::new(Part::Listen, address.into())
    }

    /// Returns a procedure that waits until the machine has arrived for which QEMU [listens](Self::listen). It fails
    /// with [`MigrateError::Failed`] when QEMU cannot load what it receives, also if QEMU ends because of that. The reason
    /// is then in its log, so it is unknown for a machine that another program launched.
    pub fn arrival() -> Self {
        Self::new(Part::Arrive, String::new())
    }

    fn new(part: Part, address: String) -> Self {
        Self {
            part,
            address,
            mark: Mark::default(),
            begun: false,
            asked: Asked::EnableEvents,
            has_failed: false,
            is_postcopy: false,
            stop: None,
        }
    }

    fn wait(&self) -> Step {
        self.wait_for(&["completed", "failed", "cancelled", "postcopy-active"], None)
    }

    fn wait_for(&self, statuses: &[&str], within: Option<Duration>) -> Step {
        let events = statuses.iter().map(|status| Wait::event("MIGRATION").with(json!({"status": status})));
        let things = events.chain((self.part == Part::Arrive).then(Wait::end)).collect();
        procedure::Output::Wait { from: self.mark.clone(), things, within }
    }

    fn query(&mut self) -> Step {
        self.asked = Asked::State;
        procedure::Output::execute(&"query-migrate")
    }

    fn replied(&mut self, reply: &Payload) -> Step {
        match self.asked {
            Asked::EnableEvents => {
                self.asked = Asked::Migrate;
                let command = if self.part == Part::Send { "migrate" } else { "migrate-incoming" };
                procedure::Output::execute(&(command, json!({"uri": self.address})))
            }
            Asked::Migrate if self.part == Part::Listen => procedure::Output::Done(Ok(MigrationEnd::Listening)),
            Asked::Migrate | Asked::Nothing | Asked::Cancel => {
                self.asked = Asked::Nothing;
                self.wait()
            }
            Asked::State => {
                let info = reply.read::<Info>().ok();
                let (status, why) = info.map_or((None, None), |info| (info.status, info.error_desc));
                self.is_now(status.as_deref(), why)
            }
        }
    }

    /// Handles the reply of `query-migrate`.
    fn is_now(&mut self, status: Option<&str>, why: Option<String>) -> Step {
        self.asked = Asked::Nothing;
        self.is_postcopy |= status.is_some_and(is_postcopy);
        match status {
            _ if self.has_failed => procedure::Output::Done(Err(failed(why))),
            _ if self.stop.is_some() => self.go_on_cancelling(status),
            Some("failed") => procedure::Output::Done(Err(failed(why))),
            Some("completed") => procedure::Output::Done(Ok(MigrationEnd::Completed)),
            Some("cancelled") => procedure::Output::Done(Ok(MigrationEnd::Cancelled)),
            _ => self.wait(),
        }
    }

    /// Handles the end of QEMU. A destination that cannot load the machine reports that, prints the reason, and exits
    /// with status 1 at once (QEMU, `migration/migration.c`, `process_incoming_migration_co`; measured with QEMU
    /// 7.2.22). The report may be lost with the monitor.
    fn lost(&self, outcome: Outcome) -> Step {
        let is_arrival = self.part == Part::Arrive && outcome.cause == Cause::Exit(1);
        procedure::Output::Done(Err(if is_arrival || self.has_failed {
            failed(last_lines(&outcome.log))
        } else {
            WaitError::Ended(outcome.into()).into()
        }))
    }

    fn ended(&mut self, hit: Hit) -> Step {
        let event = match hit.found {
            Found::Event(event) => event,
            Found::End(outcome) => return self.lost(*outcome),
            _ => return self.wait(),
        };
        let data: Value = event.read_data().unwrap_or_default();
        match data["status"].as_str() {
            Some("completed") => procedure::Output::Done(Ok(MigrationEnd::Completed)),
            Some("cancelled") => procedure::Output::Done(self.stop_error().map_or(Ok(MigrationEnd::Cancelled), Err)),
            Some(status) if is_postcopy(status) => {
                (self.mark, self.is_postcopy) = (hit.mark, true);
                self.wait()
            }
            _ => {
                (self.mark, self.has_failed) = (hit.mark, true);
                self.query()
            }
        }
    }
}

fn is_postcopy(status: &str) -> bool {
    status.starts_with("postcopy")
}

fn failed(why: Option<String>) -> MigrateError {
    MigrateError::Failed(why.map_or_else(|| "QEMU gave no reason".into(), UntrustedText::from))
}

/// Returns the last lines of a log as one. `None` means that there are none.
fn last_lines(log: &str) -> Option<String> {
    const LINES: usize = 5;
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    (!last.is_empty()).then(|| last.join("; "))
}

impl Procedure for Migrate {
    type Return = Result<MigrationEnd, MigrateError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if core::mem::replace(&mut self.begun, true) => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            // The machine may have arrived before this procedure begins, so the wait covers the whole run. A QEMU
            // receives one migration in a run, so no older event can match.
            procedure::Input::Begun(_) if self.part == Part::Arrive => self.wait(),
            procedure::Input::Begun(mark) => {
                self.mark = mark;
                let events = json!({"capabilities": [{"capability": "events", "state": true}]});
                procedure::Output::execute(&("migrate-set-capabilities", events))
            }
            procedure::Input::Reply(Ok(reply)) => self.replied(&reply),
            // QEMU ends because of the failure.
            procedure::Input::Reply(Err(CommandError::Disconnected(_))) if self.asked == Asked::State => self.wait(),
            procedure::Input::Reply(Err(error)) => self.fail(error.into()),
            procedure::Input::Found(Ok(hit)) => self.ended(hit),
            procedure::Input::Found(Err(error)) => self.fail(error.into()),
            procedure::Input::Later => self.found_no_end(),
            procedure::Input::Missed(oldest) => {
                self.mark = oldest;
                self.query()
            }
        }
    }

    fn undo(&self) -> Vec<Undo> {
        self.cancel_when_dropped().into_iter().collect()
    }
}
