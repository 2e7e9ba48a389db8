//! Decides when a migration is over, on either side of it, and how.

use crate::procedure;
use alloc::string::{String, ToString};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Procedure, ProcedureError};
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::wait::{Found, Hit, Mark, Wait};

/// Migrates a machine to another QEMU, or receives one, and follows that to its end.
///
/// QEMU tells of it when it is asked to (the capability `events`), which this does first. On the side that receives, QEMU
/// is launched with `-incoming defer`, and a machine that is configured as the one that comes.
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

/// Which side of it this is, and how far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Send,
    Listen,
    Arrive,
}

/// Which command has no reply yet.
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
    /// The machine is on the other side.
    Completed,
    /// The other side can come: QEMU listens.
    Listening,
    /// Somebody cancelled it, and the machine stays where it was.
    Cancelled,
}

/// Why a machine has not migrated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// It failed, and this is what QEMU says of it. The machine stays where it was.
    #[error("the migration failed: {0}")]
    Failed(String),
    /// A command was refused, or the deadline passed, or the machine ended.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

/// What `query-migrate` says, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    error_desc: Option<String>,
}

impl Migrate {
    /// Sends the machine to whoever listens at this address, in QEMU's words (`unix:PATH`, `tcp:HOST:PORT`), and is done
    /// when it is there.
    pub fn to(address: impl Into<String>) -> Self {
        Self::new(Part::Send, address.into())
    }

    /// Listens at this address, and is done when it does: then the other side may send.
    pub fn listen(address: impl Into<String>) -> Self {
        Self::new(Part::Listen, address.into())
    }

    /// Is done when the machine has come that was [listened](Self::listen) for.
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
                procedure::Output::Done(Err(MigrateError::Failed(
                    why.unwrap_or_else(|| "QEMU does not say why".to_string()),
                )))
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
            // What was listened for may have come before anybody waits for it. It comes once in a run, at its beginning.
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
