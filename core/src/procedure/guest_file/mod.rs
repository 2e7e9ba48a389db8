//! Open file in the guest, for the procedures that read and write one: it is closed whatever happens.

mod read;
mod write;

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::json;

use super::{Created, ProcedureError, Remnant, Undo};
use crate::error::CommandError;
use crate::payload::Payload;
use crate::procedure;

pub use read::{GuestFilePart, ReadGuestFile};
pub use write::WriteGuestFile;

/// How many bytes one command transfers at most: 1 MiB, which is 1.4 MiB in base64. The agent accepts 48 MiB (QEMU,
/// `qga/commands-posix.c`, `qmp_guest_file_read`), but executes nothing else meanwhile.
const CHUNK: usize = 1 << 20;

/// A file in the guest, and what is open of it.
#[derive(Clone, Debug)]
struct GuestFile {
    path: String,
    /// As that of `fopen(3)`.
    mode: &'static str,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    New,
    /// `guest-file-open` has no reply yet.
    Opening,
    /// Commands with this handle read or write it.
    Open(i64),
    /// `guest-file-close` has no reply yet.
    Closing {
        handle: i64,
        /// Why it is closed. `None` means that the work is complete.
        failure: Option<ProcedureError>,
    },
}

impl GuestFile {
    fn new(path: String, mode: &'static str) -> Self {
        Self { path, mode, state: State::New }
    }

    fn open<T>(&mut self) -> procedure::Output<T> {
        self.state = State::Opening;
        procedure::Output::execute(&("guest-file-open", json!({"path": self.path, "mode": self.mode})))
    }

    /// Takes the reply of `guest-file-open`.
    fn opened(&mut self, reply: Payload) -> Result<i64, CommandError> {
        let handle = reply.reply()?;
        self.state = State::Open(handle);
        Ok(handle)
    }

    /// Closes the file if it is open, and ends the procedure with this failure, if there is one.
    fn close<T>(&mut self, failure: Option<ProcedureError>) -> procedure::Output<Result<T, ProcedureError>> {
        match (&self.state, failure) {
            (State::Open(handle), failure) => {
                let handle = *handle;
                self.state = State::Closing { handle, failure };
                procedure::Output::execute(&("guest-file-close", json!({"handle": handle})))
            }
            (State::Opening, Some(error)) if error.may_have_effect() => {
                let created = Created::GuestFile { path: self.path.clone(), handle: None };
                let remnant = Remnant { created, why: error.clone() };
                procedure::Output::Done(Err(error.with([remnant].into())))
            }
            (State::New | State::Opening | State::Closing { .. }, failure) => {
                procedure::Output::Done(Err(failure.unwrap_or(CommandError::Cancelled.into())))
            }
        }
    }

    /// Takes the reply of `guest-file-close`, and returns how the procedure ends.
    fn closed(&mut self, reply: Result<Payload, CommandError>) -> Result<(), ProcedureError> {
        let State::Closing { handle, failure } = core::mem::replace(&mut self.state, State::New) else { return Ok(()) };
        let why = match reply {
            Ok(_) => return failure.map_or(Ok(()), Err),
            Err(why) => ProcedureError::from(why),
        };
        let created = Created::GuestFile { path: self.path.clone(), handle: Some(handle) };
        let error = failure.unwrap_or_else(|| why.clone());
        Err(error.with([Remnant { created, why }].into()))
    }

    fn undo(&self) -> Vec<Undo> {
        let undo = match self.state {
            State::New | State::Closing { .. } => None,
            State::Opening => Some(Undo::with_reply("guest-file-close", "handle")),
            State::Open(handle) => Some(Undo::new(&("guest-file-close", json!({"handle": handle})))),
        };
        undo.into_iter().flatten().collect()
    }
}
