//! Procedure that writes a file in the guest.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Deserialize;
use serde_json::json;

use super::super::{Procedure, ProcedureError, Undo};
use super::{CHUNK, GuestFile, State};
use crate::base64::Base64;
use crate::error::{CommandError, WaitError};
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure;

/// Writes a file in the guest, by its agent: `guest-file-open`, `guest-file-write` until all bytes are written,
/// `guest-file-flush`, and `guest-file-close`, also after a failure. It runs on the agent: `Agent::run`, or the machine that
/// is attached to the agent.
///
/// The file is created, or replaced, unless [`append`](Self::append) is called. After a failure it may contain a part of the
/// bytes. If it cannot be closed, the error is [`ProcedureError::Remains`] with its handle. When the run is dropped, the
/// machine closes the file.
///
/// ```
/// use qemu_machine_core::procedure::WriteGuestFile;
///
/// let write = WriteGuestFile::new("/etc/motd", "hello\n");
/// // agent.run(write, Duration::from_secs(10))?;
/// ```
#[derive(Clone)]
#[must_use = "a procedure does nothing until it is run"]
pub struct WriteGuestFile {
    file: GuestFile,
    bytes: Vec<u8>,
    /// How many bytes the agent has written.
    written: usize,
    /// `guest-file-flush` has no reply yet.
    flushes: bool,
    begun: bool,
}

#[derive(Deserialize)]
struct Written {
    count: usize,
}

type Step = procedure::Output<Result<(), ProcedureError>>;

impl WriteGuestFile {
    /// Returns a procedure that writes these bytes to the file at this path in the guest.
    pub fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let file = GuestFile::new(path.into(), "w");
        Self { file, bytes: bytes.into(), written: 0, flushes: false, begun: false }
    }

    /// Appends the bytes to the file, if it exists.
    pub fn append(mut self) -> Self {
        self.file.mode = "a";
        self
    }

    /// Returns the bytes of the next chunk.
    fn chunk(&self) -> &[u8] {
        let rest = self.bytes.get(self.written..).unwrap_or_default();
        rest.get(..CHUNK).unwrap_or(rest)
    }

    fn write(&mut self, handle: i64) -> Step {
        let chunk = self.chunk();
        if chunk.is_empty() {
            self.flushes = true;
            return procedure::Output::execute(&("guest-file-flush", json!({"handle": handle})));
        }
        let chunk = Base64(chunk.to_vec());
        procedure::Output::execute(&("guest-file-write", json!({"handle": handle, "buf-b64": chunk})))
    }

    fn replied(&mut self, reply: Payload) -> Result<Step, CommandError> {
        match self.file.state {
            State::Opening => {
                let handle = self.file.opened(reply)?;
                Ok(self.write(handle))
            }
            State::Open(_) if self.flushes => Ok(self.file.close(None)),
            State::Open(handle) => {
                let Written { count } = reply.clone().reply()?;
                if count == 0 || count > self.chunk().len() {
                    let reason = "the agent wrote nothing, or more than it received";
                    return Err(CommandError::Unexpected { reason: reason.into(), reply });
                }
                self.written += count;
                Ok(self.write(handle))
            }
            State::New | State::Closing { .. } => Ok(procedure::Output::Done(self.file.closed(Ok(reply)))),
        }
    }

    fn failed(&mut self, error: CommandError) -> Step {
        if let State::Closing { .. } = self.file.state {
            return procedure::Output::Done(self.file.closed(Err(error)));
        }
        self.file.close(Some(error.into()))
    }
}

impl Procedure for WriteGuestFile {
    type Return = Result<(), ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if core::mem::replace(&mut self.begun, true) => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(_) => self.file.open(),
            procedure::Input::Reply(Ok(reply)) => self.replied(reply).unwrap_or_else(|error| self.failed(error)),
            procedure::Input::Reply(Err(error)) => self.failed(error),
            // It waits for nothing.
            procedure::Input::Found(_) | procedure::Input::Later | procedure::Input::Missed(_) => {
                procedure::Output::Done(Err(WaitError::FoundOther.into()))
            }
        }
    }

    fn undo(&self) -> Vec<Undo> {
        self.file.undo()
    }
}

/// Shows the number of the bytes instead of the bytes, which may be secret.
impl fmt::Debug for WriteGuestFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, bytes, written, .. } = self;
        let mut shown = f.debug_struct("WriteGuestFile");
        shown.field("file", file).field("bytes", &bytes.len()).field("written", written).finish_non_exhaustive()
    }
}
