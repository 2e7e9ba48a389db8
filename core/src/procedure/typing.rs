//! Procedure that types text on a console, with a pause between the characters.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Procedure, ProcedureError};
use crate::error::WaitError;
use crate::fault::Misuse;
use crate::procedure;
use crate::wait::{Found, Mark, Wait};

/// Types text on a console as a person does: the next character follows after a pause. A guest loses input that arrives
/// faster than it reads: a boot loader or firmware that polls its UART, a kernel without flow control whose FIFO of 16 bytes
/// is full. A guest that waits for its input needs no pause: `console_write` writes all of it at once.
///
/// It does not wait for an echo. The deadline of the run must be longer than the pauses. When it passes, or the run is
/// cancelled or dropped, the rest is not typed.
///
/// ```
/// use core::time::Duration;
/// use qemu_machine_core::procedure::Typing;
///
/// let boot = Typing::on("tty", "boot net\r").pause(Duration::from_millis(20));
/// // vm.run(boot, Duration::from_secs(10))?;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct Typing {
    console: String,
    text: Vec<u8>,
    /// The number of bytes that are typed.
    typed: usize,
    pause: Duration,
    has_begun: bool,
}

type Return = Result<(), ProcedureError>;

impl Typing {
    /// Default of [`pause`](Self::pause): 10 milliseconds, the time of ten characters at 9,600 baud.
    pub const PAUSE: Duration = Duration::from_millis(10);

    /// Returns a procedure that types this text on the console of this name.
    pub fn on(console: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self { console: console.into(), text: text.into(), typed: 0, pause: Self::PAUSE, has_begun: false }
    }

    /// Sets the pause after each character, also after the last. Zero types all characters one after the other.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Types the next character, and waits for the end of the pause.
    fn next(&mut self) -> procedure::Output<Return> {
        let rest = self.text.get(self.typed..).unwrap_or_default();
        let bytes = first_character(rest).to_vec();
        if bytes.is_empty() {
            return procedure::Output::Done(Ok(()));
        }
        self.typed += bytes.len();
        let (console, things) = (self.console.clone(), Vec::from([Wait::end()]));
        procedure::Output::Write { console, bytes, from: Mark::default(), things, within: Some(self.pause) }
    }
}

/// Returns the first byte, with the bytes that continue its UTF-8 character.
fn first_character(text: &[u8]) -> &[u8] {
    let continued = text.iter().skip(1).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
    text.get(..1 + continued.min(3)).unwrap_or_default()
}

impl Procedure for Typing {
    type Return = Return;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if core::mem::replace(&mut self.has_begun, true) => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(_) | procedure::Input::Later => self.next(),
            procedure::Input::Found(Ok(hit)) => procedure::Output::Done(Err(match hit.found {
                Found::End(outcome) => WaitError::Ended(outcome).into(),
                // It waits for nothing else.
                _ => WaitError::FoundOther.into(),
            })),
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(error.into())),
            // It executes no command, and waits for no events.
            procedure::Input::Reply(Ok(_)) | procedure::Input::Missed(_) => {
                procedure::Output::Done(Err(WaitError::FoundOther.into()))
            }
        }
    }
}
