//! Synchronisation state of a guest agent: the requests, and the conclusion from an error that may refuse one.
//!
//! An agent may be configured to refuse `guest-sync-delimited` (`qemu-ga --block-rpcs`, or a list of allowed commands
//! without it), and says so with an error. That error proves little: it repeats no number, a delimiter causes an error
//! as well, and errors that an earlier client did not read precede both. So no single error ends a synchronisation. It
//! makes the session try `guest-sync`, whose reply repeats a new number, so that no earlier line can pass for it.
//! `guest-sync` counts as refused only after more errors than all of these can be.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use bytes::Bytes;

use crate::time::Moment;
use crate::wire::ErrorReply;

/// The class of the error that a delimiter causes (measured with QEMU 7.2.22, 10.0.13 and 11.1.3). A refusal has the
/// class `CommandNotFound` since QEMU 4.2, and this one before (QEMU, `qapi/qmp-dispatch.c`, `do_qmp_dispatch`).
const GENERIC: &str = "GenericError";

/// How many errors of earlier clients may precede the refusal of `guest-sync`. Each costs one more round trip before an
/// agent that refuses everything is reported. An earlier client leaves one error that it did not read for its last
/// command, and two for each time that it tried to synchronise.
const STALE_ERRORS: u32 = 8;

/// The command of a request to synchronise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Method {
    /// `guest-sync-delimited`: its reply begins with a delimiter (QEMU, `qga/qapi-schema.json`).
    #[default]
    Delimited,
    /// `guest-sync`: its reply is an ordinary line (QEMU, `qga/qapi-schema.json`).
    Plain,
}

/// The conclusion from an error without an id, which arrived during the synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// The error refuses no request: it is the one that a delimiter causes, or stale.
    NotRefused,
    /// The last request may be refused: `guest-sync` is to be sent, with a new number.
    MayBeRefused,
    /// `guest-sync` is refused.
    Refused,
}

/// How far the session is synchronised with a guest agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sync {
    /// The number before the first request.
    base: u64,
    /// The number of the last request.
    number: u64,
    /// The command of the last request.
    pub(super) method: Method,
    /// The reply to it is due. When the last synchronisation was refused, no reply is.
    pub(super) due: bool,
    /// When it was sent.
    pub(super) asked: Moment,
    /// A delimiter arrived: the next line is a reply to `guest-sync-delimited`.
    pub(super) delimited: bool,
    /// The session was synchronised once: the handshake is over.
    pub(super) once: bool,
    /// The most lines that the agent has yet to send: one for each request, and an error for each delimiter. Requests
    /// that were lost count as well.
    outstanding: u32,
    /// The error that the last delimiter causes is due.
    delimiter_error_due: bool,
    /// Since the synchronisation began, a reply to `guest-sync-delimited` arrived, so the agent does not refuse it.
    accepted: bool,
    /// After how many further errors `guest-sync` counts as refused.
    errors_left: u32,
    /// The refusal of a command without a success response, until the request behind that command is answered. `None`
    /// means that there is none, or that its caller has it.
    pub(super) refusal: Option<Box<HeldRefusal>>,
}

/// A refusal that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldRefusal {
    pub(super) error: ErrorReply,
    pub(super) line: Bytes,
    /// When it arrived.
    pub(super) since: Moment,
}

impl Method {
    /// Returns the name of the command.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Delimited => "guest-sync-delimited",
            Self::Plain => "guest-sync",
        }
    }
}

impl Sync {
    /// Makes the first number of a nonce. The agent reads it as a signed 64-bit integer (QEMU, `qga/qapi-schema.json`,
    /// `guest-sync-delimited`), so the highest bits are clear; the lowest eight are left for counting.
    pub(super) fn new(nonce: u64) -> Self {
        let base = nonce >> 16 << 8;
        Self { base, number: base, ..Self::default() }
    }

    /// Begins a synchronisation. The agent may have been restarted, so what it accepted before proves nothing.
    pub(super) fn begin(&mut self) {
        (self.accepted, self.refusal) = (false, None);
    }

    /// Records a delimiter that is sent.
    pub(super) fn delimit(&mut self) {
        self.delimiter_error_due = true;
        self.outstanding = self.outstanding.saturating_add(1);
    }

    /// Returns the next request. It has no `id`: agents before QEMU 4.0 may refuse one (QEMU, commit 4eaca8de26).
    pub(super) fn request(&mut self, now: Moment, method: Method) -> String {
        self.number += 1;
        (self.method, self.due, self.asked) = (method, true, now);
        self.outstanding = self.outstanding.saturating_add(1);
        format!(r#"{{"execute":"{}","arguments":{{"id":{}}}}}"#, method.command(), self.number)
    }

    /// Returns whether a reply with this number to this command answers the last request.
    pub(super) fn is_answered_by(&self, method: Method, number: Option<u64>) -> bool {
        self.due && self.method == method && number == Some(self.number)
    }

    /// Records a reply to `guest-sync-delimited` with this number, which does not answer the last request. Returns
    /// whether it shows that `guest-sync` was sent for nothing: the agent does not refuse `guest-sync-delimited`.
    pub(super) fn accept(&mut self, number: Option<u64>) -> bool {
        let is_ours = number.is_some_and(|number| number > self.base && number <= self.number);
        self.accepted |= is_ours;
        is_ours && self.due && self.method == Method::Plain
    }

    /// Returns whether a reply with this number answers a `guest-sync` that followed a command without a success
    /// response. Between synchronisations no other line is outstanding, and the agent answers in order.
    pub(super) fn is_outstanding(&self, number: u64) -> bool {
        let oldest = self.number.saturating_sub(self.outstanding.into());
        self.method == Method::Plain && number > oldest && number <= self.number
    }

    /// Records such a reply. Returns whether it answers the last request.
    pub(super) fn pay(&mut self, number: u64) -> bool {
        self.outstanding = (self.number - number) as u32;
        self.is_answered_by(Method::Plain, Some(number))
    }

    /// Records the reply to the last request: the agent answers in order, so it owes nothing more.
    pub(super) fn complete(&mut self) {
        (self.due, self.outstanding, self.delimiter_error_due) = (false, 0, false);
    }

    /// Concludes from an error without an id.
    pub(super) fn conclude(&mut self, error: &ErrorReply) -> Conclusion {
        if !self.due {
            return Conclusion::NotRefused;
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        if error.class == GENERIC && core::mem::take(&mut self.delimiter_error_due) {
            return Conclusion::NotRefused;
        }
        match self.method {
            Method::Delimited if self.accepted => Conclusion::NotRefused,
            Method::Delimited => {
                self.errors_left = self.outstanding.saturating_add(STALE_ERRORS);
                Conclusion::MayBeRefused
            }
            Method::Plain if self.errors_left == 0 => {
                self.due = false;
                Conclusion::Refused
            }
            Method::Plain => {
                self.errors_left -= 1;
                Conclusion::MayBeRefused
            }
        }
    }
}
