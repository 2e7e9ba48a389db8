//! Procedure that migrates a machine, on the source or on the destination.

use crate::procedure;
use alloc::string::String;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Procedure, ProcedureError};
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::text::UntrustedText;
use crate::wait::{Found, Hit, Mark, Wait};

/// Migrates a machine to another QEMU, or receives one, and follows the migration to its end.
///
/// QEMU sends `MIGRATION` events only with the capability `events` (QEMU, `qapi/migration.json`,
/// `MigrationCapability`), so the procedure enables it first; without it the end of the migration goes unseen. The
/// destination must be launched with `-incoming defer` (QEMU, `qapi/migration.json`, `migrate-incoming`) and the same
/// machine configuration as the source.
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
    ToTell,
    ToMigrate,
    Why,
}

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
    /// The migration failed, for the reason that QEMU gave. The machine stays on the source.
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

    /// Returns a procedure that waits until the machine has arrived for which QEMU [listens](Self::listen).
    pub fn arrival() -> Self {
        Self::new(Part::Arrive, String::new())
    }

    fn new(part: Part, address: String) -> Self {
        Self { part, address, mark: Mark::default(), begun: false, asked: Asked::ToTell }
    }

    fn wait(&self) -> procedure::Output<Result<MigrationEnd, MigrateError>> {
        let ends = ["completed", "failed", "cancelled"];
        procedure::Output::wait(&self.mark, ends.map(|status| Wait::event("MIGRATION").with(json!({"status": status}))))
    }

    fn replied(&mut self, reply: &Payload) -> procedure::Output<Result<MigrationEnd, MigrateError>> {
        match self.asked {
            Asked::ToTell => {
                self.asked = Asked::ToMigrate;
                let command = if self.part == Part::Send { "migrate" } else { "migrate-incoming" };
                procedure::Output::execute(&(command, json!({"uri": self.address})))
            }
            Asked::ToMigrate if self.part == Part::Listen => procedure::Output::Done(Ok(MigrationEnd::Listening)),
            Asked::ToMigrate => self.wait(),
            Asked::Why => {
                let why = reply.read::<Info>().ok().and_then(|info| info.error_desc);
                let why = why.map_or_else(|| "QEMU gave no reason".into(), UntrustedText::from);
                procedure::Output::Done(Err(MigrateError::Failed(why)))
            }
        }
    }

    fn ended(&mut self, hit: &Hit) -> procedure::Output<Result<MigrationEnd, MigrateError>> {
        let Found::Event(event) = &hit.found else { return self.wait() };
        let data: Value = event.read_data().unwrap_or_default();
        match data["status"].as_str() {
            Some("completed") => procedure::Output::Done(Ok(MigrationEnd::Completed)),
            Some("cancelled") => procedure::Output::Done(Ok(MigrationEnd::Cancelled)),
            _ => {
                self.asked = Asked::Why;
                procedure::Output::execute(&"query-migrate")
            }
        }
    }
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
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Found(Ok(hit)) => self.ended(&hit),
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Later => self.wait(),
        }
    }
}
