//! Procedure that reads a file in the guest.

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
use crate::text::UntrustedText;

/// Reads a file in the guest, by its agent: `guest-file-open`, `guest-file-read` until its end or until the
/// [limit](Self::limit), and `guest-file-close`, also after a failure. It runs on the agent: `Agent::run`, or the machine
/// that is attached to the agent.
///
/// If the file cannot be closed, the error is [`ProcedureError::Remains`] with its handle. When the run is dropped, the
/// machine closes the file.
///
/// ```
/// use qemu_machine_core::procedure::ReadGuestFile;
///
/// let read = ReadGuestFile::new("/etc/hostname");
/// // let part = agent.run(read, Duration::from_secs(10))?;
/// // println!("{}", UntrustedText::from_utf8_lossy(&part.bytes));
/// // A log that grows is read from where the last part ended.
/// let position = 4096;
/// let more = ReadGuestFile::new("/tmp/log").offset(position);
/// ```
#[derive(Clone)]
#[must_use = "a procedure does nothing until it is run"]
pub struct ReadGuestFile {
    file: GuestFile,
    offset: i64,
    limit: usize,
    bytes: Vec<u8>,
    is_at_end: bool,
    /// `guest-file-seek` has no reply yet.
    seeks: bool,
    begun: bool,
}

/// Bytes of a file in the guest.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestFilePart {
    /// The bytes, from the offset on.
    pub bytes: Vec<u8>,
    /// Whether they reach the end of the file. Otherwise the limit came first.
    pub is_at_end: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Chunk {
    #[serde(default)]
    buf_b64: Base64,
    eof: bool,
}

type Step = procedure::Output<Result<GuestFilePart, ProcedureError>>;

impl ReadGuestFile {
    /// Returns a procedure that reads the file at this path in the guest, up to 16 MiB.
    pub fn new(path: impl Into<String>) -> Self {
        let file = GuestFile::new(path.into(), "r");
        Self { file, offset: 0, limit: 16 << 20, bytes: Vec::new(), is_at_end: false, seeks: false, begun: false }
    }

    /// Reads from this byte on, counted from 0. Default: 0. A file that is shorter has no bytes there.
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self
    }

    /// Reads at most this many bytes. Default: 16 MiB. All of them are kept in memory.
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    fn read(&self, handle: i64) -> Step {
        // One byte more than the limit shows whether the file is longer.
        let count = self.limit.saturating_add(1).saturating_sub(self.bytes.len()).min(CHUNK);
        procedure::Output::execute(&("guest-file-read", json!({"handle": handle, "count": count})))
    }

    fn seek(&mut self, handle: i64) -> Step {
        self.seeks = true;
        let to = json!({"handle": handle, "offset": self.offset, "whence": "set"});
        procedure::Output::execute(&("guest-file-seek", to))
    }

    fn replied(&mut self, reply: Payload) -> Result<Step, CommandError> {
        match self.file.state {
            State::Opening => {
                let handle = self.file.opened(reply)?;
                Ok(if self.offset > 0 { self.seek(handle) } else { self.read(handle) })
            }
            State::Open(handle) if core::mem::take(&mut self.seeks) => Ok(self.read(handle)),
            State::Open(handle) => {
                let Chunk { buf_b64: Base64(chunk), eof } = reply.reply()?;
                self.bytes.extend_from_slice(&chunk);
                let is_over = self.bytes.len() > self.limit;
                self.bytes.truncate(self.limit);
                self.is_at_end = eof && !is_over;
                // Without a byte and without the end, another request would return the same.
                let goes_on = !eof && !is_over && !chunk.is_empty();
                Ok(if goes_on { self.read(handle) } else { self.file.close(None) })
            }
            State::New | State::Closing { .. } => Ok(match self.file.closed(Ok(reply)) {
                Ok(()) => self.end(),
                Err(error) => procedure::Output::Done(Err(error)),
            }),
        }
    }

    fn end(&mut self) -> Step {
        let part = GuestFilePart { bytes: core::mem::take(&mut self.bytes), is_at_end: self.is_at_end };
        procedure::Output::Done(Ok(part))
    }

    fn failed(&mut self, error: CommandError) -> Step {
        if let State::Closing { .. } = self.file.state {
            let closed = self.file.closed(Err(error));
            return procedure::Output::Done(closed.map(|()| GuestFilePart { bytes: Vec::new(), is_at_end: false }));
        }
        self.file.close(Some(error.into()))
    }
}

impl Procedure for ReadGuestFile {
    type Return = Result<GuestFilePart, ProcedureError>;

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

impl fmt::Debug for ReadGuestFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, limit, bytes, .. } = self;
        f.debug_struct("ReadGuestFile")
            .field("file", file)
            .field("offset", offset)
            .field("limit", limit)
            .field("read", &bytes.len())
            .finish_non_exhaustive()
    }
}

/// Shows the bytes as text.
impl fmt::Debug for GuestFilePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = UntrustedText::from_utf8_lossy(&self.bytes);
        f.debug_struct("GuestFilePart").field("bytes", &text).field("is_at_end", &self.is_at_end).finish()
    }
}
