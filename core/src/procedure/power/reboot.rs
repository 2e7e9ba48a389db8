//! Procedure that reboots the guest: by its own doing, and by a reset when it does not react.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Value, json};

use super::super::{Procedure, ProcedureError};
use crate::commands::{Cont, SystemReset};
use crate::error::{CommandError, WaitError};
use crate::fault::Misuse;
use crate::outcome::Outcome;
use crate::procedure;
use crate::wait::{Found, Hit, Mark, Wait};

/// Waits until the guest has reset itself, and resets it (`system_reset`) if it does not do that in
/// [time](Self::reset_after). The result says which of the two it was.
///
/// | the guest is asked by | procedure |
/// |---|---|
/// | its agent, a console, or any other means of the caller | [`Reboot::asked`], with a mark from before the request: see [`AskGuest`](super::AskGuest) |
/// | the power button | [`Reboot::by_button`], on a QEMU with `-no-shutdown` |
///
/// A guest that resets sends `RESET` (QEMU, `qapi/run-state.json`). With `-no-reboot`, QEMU ends instead
/// ([`RebootEnd::Ended`]). A guest that powers off, as it does for the power button, ends QEMU as well; with `-no-shutdown`,
/// QEMU stops the guest instead, and the procedure resets and continues it.
///
/// When the deadline of the run passes first, the error is [`WaitError::TimedOut`], and nothing was reset: the deadline must
/// be longer than the time for the guest.
///
/// ```
/// use core::time::Duration;
///
/// use qemu_machine_core::procedure::Reboot;
///
/// let reboot = Reboot::by_button().reset_after(Duration::from_secs(60));
/// // let end = vm.run(reboot, Duration::from_secs(90))?;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct Reboot {
    /// Where the request lies. `None` means that the power button is to be pressed.
    since: Option<Mark>,
    patience: Duration,
    mark: Mark,
    state: State,
    /// `system_reset` was sent.
    has_reset: bool,
    /// QEMU has stopped the guest instead of ending.
    is_stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// `system_powerdown` has no reply yet.
    Pressing,
    /// The guest was asked.
    Waiting,
    /// QEMU shuts down: it ends, or stops the guest.
    ShuttingDown,
    /// `system_reset` has no reply yet, or `RESET` has not arrived.
    Resetting,
    /// `cont` has no reply yet.
    Continuing,
}

/// How a reboot ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RebootEnd {
    /// The guest has reset itself.
    ByGuest,
    /// The guest has powered off, and QEMU stopped it (`-no-shutdown`). It was reset and continued.
    AfterPowerOff,
    /// The guest did not react in time, and was reset.
    Forced,
    /// QEMU has stopped the guest, and does not reset it (`-no-shutdown` together with `-no-reboot`).
    Stopped,
    /// QEMU has ended: the guest reset with `-no-reboot`, powered off, or something else ended QEMU. The cause is in the
    /// outcome.
    Ended(Box<Outcome>),
}

type Step = procedure::Output<Result<RebootEnd, ProcedureError>>;

impl Reboot {
    /// Returns a procedure for a guest that was asked to reboot after this mark.
    pub fn asked(since: &Mark) -> Self {
        Self { since: Some(since.clone()), ..Self::by_button() }
    }

    /// Returns a procedure that presses the power button. The guest powers off then, which must not end QEMU: start QEMU
    /// with `-no-shutdown`, or execute `set-action` with `{"shutdown": "pause"}` before (QEMU, `qapi/run-state.json`,
    /// `set-action`).
    pub fn by_button() -> Self {
        Self {
            since: None,
            patience: Duration::from_secs(30),
            mark: Mark::default(),
            state: State::New,
            has_reset: false,
            is_stopped: false,
        }
    }

    /// Sets how long the guest has before it is reset. Default: 30 seconds, from the begin of the procedure on. Zero resets
    /// it at once, unless it has reset already.
    pub fn reset_after(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Waits for what the guest does, within its time.
    fn wait(&mut self) -> Step {
        self.state = State::Waiting;
        let reset = Wait::event("RESET").with(json!({"guest": true}));
        self.wait_for([reset, Wait::event("SHUTDOWN")], Some(self.patience))
    }

    fn wait_for<const N: usize>(&self, things: [Wait; N], within: Option<Duration>) -> Step {
        let things: Vec<Wait> = things.into_iter().chain([Wait::end()]).collect();
        procedure::Output::Wait { from: self.mark.clone(), things, within }
    }

    fn reset(&mut self) -> Step {
        (self.state, self.has_reset) = (State::Resetting, true);
        procedure::Output::execute(&SystemReset)
    }

    /// Waits again, after events were missed. The reset may be among them: then the guest is reset once more.
    fn wait_again(&mut self) -> Step {
        match self.state {
            State::ShuttingDown => self.wait_for([Wait::event("STOP")], None),
            State::Resetting => self.wait_for([Wait::event("RESET"), Wait::event("SHUTDOWN")], None),
            State::New | State::Pressing | State::Waiting | State::Continuing => self.wait(),
        }
    }

    fn replied(&mut self) -> Step {
        match self.state {
            State::Continuing => procedure::Output::Done(Ok(RebootEnd::AfterPowerOff)),
            State::New | State::Pressing | State::Waiting | State::ShuttingDown | State::Resetting => self.wait_again(),
        }
    }

    fn found(&mut self, hit: Hit) -> Step {
        let event = match hit.found {
            Found::Event(event) => event,
            Found::End(outcome) => return procedure::Output::Done(Ok(RebootEnd::Ended(outcome))),
            // Only events and the end were waited for.
            _ => return procedure::Output::Done(Err(WaitError::FoundOther.into())),
        };
        self.mark = hit.mark;
        match event.name() {
            "RESET" if self.is_stopped => {
                self.state = State::Continuing;
                procedure::Output::execute(&Cont)
            }
            "RESET" => {
                let is_by_guest = event.read_data::<Value>().is_ok_and(|data| data["guest"] == true);
                let end = if is_by_guest { RebootEnd::ByGuest } else { RebootEnd::Forced };
                procedure::Output::Done(Ok(end))
            }
            // A stopped guest stays stopped.
            "SHUTDOWN" if self.is_stopped => procedure::Output::Done(Ok(RebootEnd::Stopped)),
            "SHUTDOWN" => {
                self.state = State::ShuttingDown;
                self.wait_again()
            }
            _ if self.has_reset => procedure::Output::Done(Ok(RebootEnd::Stopped)),
            // QEMU sends `STOP` after `SHUTDOWN` when it stops the guest instead of ending (QEMU, `system/runstate.c`,
            // `main_loop_should_exit`).
            _ => {
                self.is_stopped = true;
                self.reset()
            }
        }
    }
}

impl Procedure for Reboot {
    type Return = Result<RebootEnd, ProcedureError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if self.state != State::New => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(mark) => match self.since.take() {
                Some(since) => {
                    self.mark = since;
                    self.wait()
                }
                None => {
                    (self.mark, self.state) = (mark, State::Pressing);
                    procedure::Output::execute(&"system_powerdown")
                }
            },
            procedure::Input::Reply(Ok(_)) => self.replied(),
            // QEMU ends, and the wait finds out why.
            procedure::Input::Reply(Err(CommandError::Disconnected(_))) if self.state != State::New => {
                self.wait_again()
            }
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Found(Ok(hit)) => self.found(hit),
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Later => self.reset(),
            procedure::Input::Missed(oldest) => {
                self.mark = oldest;
                self.wait_again()
            }
        }
    }
}
