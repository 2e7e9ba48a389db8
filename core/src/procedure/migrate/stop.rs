//! Clean-up of a failed procedure: it cancels the migration that it has started, and reports one that goes on.

use core::time::Duration;

use super::super::{Created, ProcedureError, Remnant, Undo};
use super::{Asked, Migrate, MigrateError, Part, Step};
use crate::error::WaitError;
use crate::procedure;

impl Migrate {
    /// Ends the procedure with this error. A migration that it may have started is cancelled first, unless that is what
    /// has failed.
    pub(super) fn fail(&mut self, error: ProcedureError) -> Step {
        let is_refused = self.asked == Asked::Migrate && !error.may_have_effect();
        if self.asked == Asked::EnableEvents || is_refused || matches!(error, ProcedureError::Wait(WaitError::Ended(_)))
        {
            return procedure::Output::Done(Err(self.stop_error().unwrap_or_else(|| error.into())));
        }
        match self.part {
            Part::Arrive => procedure::Output::Done(Err(error.into())),
            Part::Listen => self.remain(Created::IncomingMigration(self.address.clone()), error),
            Part::Send if self.stop.is_some() || error.is_disconnected() => self.remain(Created::Migration, error),
            Part::Send => {
                self.stop = Some(error);
                self.query()
            }
        }
    }

    /// Returns the error that the procedure has failed with before it began to cancel.
    pub(super) fn stop_error(&self) -> Option<MigrateError> {
        self.stop.clone().map(MigrateError::Procedure)
    }

    /// Ends the procedure with its first error, and reports that this stays, since this has failed.
    fn remain(&self, created: Created, why: ProcedureError) -> Step {
        let error = self.stop.clone().unwrap_or_else(|| why.clone());
        procedure::Output::Done(Err(error.with([Remnant { created, why }].into()).into()))
    }

    /// Cancels a migration in this state, or reads how it has ended. QEMU still lists the end of an earlier migration when
    /// it has refused this one, so the events of this one decide.
    pub(super) fn go_on_cancelling(&mut self, status: Option<&str>) -> Step {
        match status {
            None | Some("none" | "completed" | "failed" | "cancelled") => {
                self.wait_for(&["completed", "failed", "cancelled"], Some(Duration::ZERO))
            }
            Some("cancelling") => self.wait(),
            Some(_) if self.is_postcopy => {
                let error = self.stop.clone().unwrap_or(WaitError::TimedOut.into());
                self.remain(Created::Migration, error)
            }
            Some(_) => {
                self.asked = Asked::Cancel;
                procedure::Output::execute(&"migrate_cancel")
            }
        }
    }

    /// Handles that no event about the end has arrived, of a migration that does not go on.
    pub(super) fn found_no_end(&self) -> Step {
        self.stop_error().map_or_else(|| self.wait(), |error| procedure::Output::Done(Err(error)))
    }

    /// Returns the command that cancels the migration when the run is dropped. `None` means that the procedure has started
    /// none, or that it must go on.
    pub(super) fn cancel_when_dropped(&self) -> Option<Undo> {
        if self.part != Part::Send || self.is_postcopy || self.has_failed {
            return None;
        }
        let cancel = Undo::new(&"migrate_cancel").ok();
        match self.asked {
            Asked::EnableEvents | Asked::Cancel => None,
            Asked::Migrate => cancel.map(Undo::if_created),
            Asked::Nothing | Asked::State => cancel,
        }
    }
}
