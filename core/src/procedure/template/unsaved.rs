//! Clean-up of a template that is not saved: the guest of the source runs on, with memory that a migration sends.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde_json::json;

use super::save::{SaveTemplate, Stage, Step};
use super::{StateFile, TemplateError, ignore_shared};
use crate::commands::{QueryStatus, Status};
use crate::error::CommandError;
use crate::payload::Payload;
use crate::procedure::fd_set::Removing;
use crate::procedure::{self, Undo};
use crate::wait::{Mark, Wait};

impl SaveTemplate {
    /// Ends the procedure with this error, after what it has done is undone.
    pub(super) fn fail(&mut self, error: TemplateError) -> Step {
        if self.stage < Stage::IgnoreShared || self.error.is_some() || self.is_ending(&error) {
            return procedure::Output::Done(Err(self.error.take().unwrap_or(error)));
        }
        self.error = Some(error);
        self.was_running &= self.stage >= Stage::Stop;
        self.state.is_given = self.stage > Stage::IgnoreShared;
        self.stage = Stage::SendShared;
        procedure::Output::execute(&ignore_shared(false))
    }

    /// Returns whether `quit` may have an effect, given the error that follows it.
    fn is_ending(&self, error: &TemplateError) -> bool {
        let may_quit = matches!(error, TemplateError::Procedure(error) if error.may_have_effect());
        self.stage == Stage::End || self.stage == Stage::Quit && may_quit
    }

    /// Goes on with the clean-up. What cannot be undone is left.
    pub(super) fn undo_next(&mut self, reply: Result<Payload, CommandError>) -> Step {
        match (self.stage, reply) {
            (Stage::SendShared, _) if self.was_running => self.resume(),
            (Stage::Continue, Err(error)) => {
                (self.stage, self.resume.why) = (Stage::WhyStopped, Some(error.into()));
                procedure::Output::execute(&QueryStatus)
            }
            (Stage::WhyStopped, reply) => self.stopped(reply.and_then(|reply| reply.reply()).ok()),
            (Stage::SendShared | Stage::Continue, _) if self.state.is_given => self.take_back(),
            _ => self.end(),
        }
    }

    pub(super) fn resume(&mut self) -> Step {
        self.stage = Stage::Continue;
        procedure::Output::execute(&"cont")
    }

    /// Handles the state of a machine whose `cont` has failed. `None` means that it is not known.
    fn stopped(&mut self, status: Option<Status>) -> Step {
        match status {
            Some(status) if status.running => return self.take_back(),
            Some(status) if status.status == "finish-migrate" => {
                self.stage = Stage::Rest;
                let (things, within) = (Vec::from([Wait::end()]), Some(self.resume.next_pause()));
                return procedure::Output::Wait { from: Mark::default(), things, within };
            }
            // QEMU may have left `finish-migrate` between the two commands.
            Some(_) if !core::mem::replace(&mut self.resume.is_last, true) => return self.resume(),
            _ => {}
        }
        let why = self.resume.why.take().filter(|why| !why.is_disconnected());
        self.error = self.error.take().map(|error| match why {
            Some(why) => TemplateError::Stopped { error: Box::new(error), why },
            None => error,
        });
        self.take_back()
    }

    /// Closes the descriptor. QEMU 8.2 to 9.0 close the one of a removed fd set only while the guest runs, so `cont` was
    /// sent before.
    fn take_back(&mut self) -> Step {
        self.stage = Stage::TakeBack;
        procedure::Output::Execute(self.state.close())
    }

    fn end(&mut self) -> Step {
        procedure::Output::Done(Err(self.error.take().unwrap_or(TemplateError::Cancelled)))
    }

    /// Returns the commands that undo the steps so far, for a run that is dropped.
    pub(super) fn undo_when_dropped(&self) -> Vec<Undo> {
        if self.stage < Stage::IgnoreShared || matches!(self.stage, Stage::Quit | Stage::End) {
            return Vec::new();
        }
        let is_running = !self.was_running || self.stage < Stage::Stop;
        let mut all = Vec::new();
        if self.stage == Stage::Migrate {
            all.extend(self.undo_after_migration());
        }
        all.push(Undo::new(&ignore_shared(false)));
        all.extend((!is_running).then(|| Undo::new(&"cont")));
        all.extend(self.undo_of_descriptor());
        all.into_iter().flatten().collect()
    }

    /// Returns the commands that end the migration, and those that follow its end: QEMU refuses to change its
    /// capabilities and to continue the guest before. The guest may have been continued before that by another command,
    /// and a later migration must not continue it again, so `RESUME` counts as the end.
    fn undo_after_migration(&self) -> Vec<Result<Undo, crate::Misuse>> {
        let ends =
            || ["cancelled", "failed", "completed"].map(|end| Wait::event("MIGRATION").with(json!({"status": end})));
        let mut all = Vec::from([
            Undo::new(&"migrate_cancel").and_then(|undo| undo.then_after_any(ends(), &ignore_shared(false)))
        ]);
        if self.was_running {
            let resumed = || ends().into_iter().chain([Wait::event("RESUME")]);
            // A query is not refused, so that what follows it is executed.
            let query = || Undo::new(&QueryStatus);
            all.push(query().and_then(|undo| undo.then_after_any(resumed(), &"cont")));
            let remove = self.state.fd_set.map(Removing);
            all.extend(remove.map(|remove| query().and_then(|undo| undo.then_after_any(resumed(), &remove))));
        }
        all
    }

    /// Returns the command that closes the descriptor, if QEMU may have it.
    fn undo_of_descriptor(&self) -> Option<Result<Undo, crate::Misuse>> {
        if self.stage == Stage::IgnoreShared || self.error.is_some() && !self.state.is_given {
            return None;
        }
        let close = ("closefd", json!({"fdname": StateFile::NAME}));
        Some(match self.state.fd_set {
            Some(id) => Undo::new(&Removing(id)),
            None if !self.template.abilities.opens_read_only => Undo::new(&close),
            None if self.stage == Stage::Give => Undo::of_reply("remove-fd", "fdset-id"),
            None => return None,
        })
    }
}
