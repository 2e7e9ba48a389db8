//! Decides what a record of a run is: what a machine was told and what it said, as lines of JSON.
//!
//! A machine that was [asked to](Config::recorded) writes down all that it is told (requests, bytes of the monitor and
//! the consoles, news of the process, and when) and all that it answers. Because it has no clock and does no IO, that
//! is enough to live the same run again, anywhere and at once: [`Record::replay`] does, and tells the first line that
//! comes out otherwise. So a record is a bug report.
//!
//! - *Bounded*: beyond [`Limits::record`](crate::Limits::record) the oldest lines are dropped, but for those of the
//!   beginning, and counted. Such a record can be read, and be replayed up to the gap.
//! - *Attached*: to the [`Outcome`](crate::Outcome), and so to the errors that carry one; and to be had from the machine at
//!   any time.
//! - *Secret*: the wire may carry passwords, and so does its record. [`Record::redact`] and
//!   [`Record::redact_member`] hide them, and what is left still replays.
//! - *Readable*: [`Record::timeline`]. *Usable*: a [`Mock`] answers as the recorded monitor did.
//!
//! ```
//! use qemu_machine_core::{Config, Input, HostFault, Machine, Moment, record::Record};
//!
//! let mut machine = Machine::new(Config::new("qemu-system-x86_64").recorded())?;
//! machine.launch(Moment::ORIGIN)?;
//! let order = machine.poll_effect();
//! let fault = HostFault { operation: "make a directory".into(), errno: 28, reason: "no space left".into() };
//! machine.handle(Moment::ORIGIN, Input::PrepareFailed(fault));
//!
//! let text = machine.record().expect("it is recorded").to_string();
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
pub use timeline::Timeline;
