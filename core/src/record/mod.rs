//! Records of runs: every input and every output of a machine, as lines of JSON.
//!
//! A machine that is [recorded](crate::Config::recorded) writes every request of the caller and every input of the
//! driver (bytes of the monitor and the consoles, the end of the process, …) with its time, and everything that the
//! machine outputs: effects, replies, refusals, the outcome. The core has no clock and does no IO, so the inputs
//! determine the run: [`Record::replay`] feeds them to a new machine, compares the lines that it writes, and reports
//! the first difference. A record is therefore a complete bug report.
//!
//! - *Bounded*: a quarter of [`Limits::record`](crate::Limits::record) keeps the first lines, and the rest the last ones.
//!   The lines between are dropped and counted. Such a record can be read, and be replayed up to the gap.
//! - *Attached*: to the [`Outcome`](crate::Outcome), and so to the errors that carry one, as text. [`Machine::record`]
//!   returns it at any time.
//! - *Sensitive*: the wire may carry passwords, and so does its record. [`Record::redact`] and
//!   [`Record::redact_member`] replace them; the redacted record still replays.
//! - *Readable*: [`Record::timeline`], and [`Record::report`] as a page for a browser. *Usable in tests*: a [`Mock`]
//!   replies as the recorded monitor did.
//!
//! The lines of one request or input are, in this order: the request or input, the effects that it issued, the notices
//! that it caused (each followed by its reply or outcome), and the response to the request. A request for a result that
//! does not exist yet (no answer has arrived, the wait is pending) has no lines, and neither has
//! [`Input::TimePassed`](crate::Input::TimePassed) before a deadline.
//!
//! [`Machine::record`]: crate::Machine::record
//!
//! ```
//! use qemu_machine_core::{Config, FaultKind, HostFault, Input, Machine, Moment, record::Record};
//!
//! let mut machine = Machine::new(Config::new("qemu-system-x86_64").recorded())?;
//! machine.launch(Moment::ORIGIN)?;
//! let effect = machine.poll_effect();
//! let fault = HostFault {
//!     operation: "make a directory".into(),
//!     kind: FaultKind::Full,
//!     errno: Some(28),
//!     reason: "no space left".into(),
//! };
//! machine.handle(Moment::ORIGIN, Input::PrepareFailed(fault));
//!
//! let text = machine.record().expect("a recorded machine").to_string();
//! let record: Record = text.parse()?;
//! record.replay()?;
//! assert!(record.timeline().to_string().contains("no space left"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod line;
mod lines;
mod mask;
mod mock;
mod recorder;
mod redact;
mod render;
mod replay;
mod report;
mod stored;
mod stored_config;
mod stored_values;
mod text;
mod timeline;

pub(crate) use line::{Beginning, Entry, Input, Issued, Line, Output};
pub use lines::{NotARecord, Record};
pub use mock::Mock;
pub(crate) use recorder::Recorder;
pub use redact::TooShort;
pub use replay::Diverged;
pub use report::Report;
pub use timeline::Timeline;
