//! The part of a QEMU machine that decides: launching, the QMP monitor, consoles, the end. It does no IO.
//!
//! A [`Machine`] is one QEMU process with its monitor and its consoles. It is told what happened in the world, and
//! says what is to be done there. Who does it, with threads or an event loop, real or simulated, is up to the caller;
//! `qemu-machine-blocking` is one that is ready to use. This crate has no clock, no sockets, no threads and no `std`:
//! the same inputs give the same outputs, byte for byte, so that a run can be recorded, replayed and fuzzed.
//!
//! # The contract
//!
//! *The core decides, the driver obeys.* A driver has no opinion about QEMU: it never sorts, merges, retries or
//! interprets what it carries. There are five kinds of methods:
//!
//! | kind | methods | |
//! |---|---|---|
//! | requests | [`launch`], [`execute`], [`wait`], [`subscribe`], [`shutdown`], … | refused as [`Misuse`] without effect, or accepted |
//! | news | [`handle`], [`sent`] | never fail: what is wrong comes out as an answer, a notice or the outcome |
//! | edges | [`poll_effect`], [`poll_notice`], [`claim`], [`claim_wait`], [`next_event`] | each thing once: ask until there is none |
//! | levels | [`outgoing`], [`channels`], [`deadline`], [`state`], … | the present: read them again after every call |
//! | plain data | [`lifecycle::Lifecycle`], [`session::Session`] | the states themselves, with pure transitions |
//!
//! And these are the rules of a driver:
//!
//! 1. Before it waits, a driver has carried out all effects and seen all notices, has sent what is outgoing as far as
//!    it goes, and wakes up at the deadline at the latest. What it reports may bring new ones: then it goes round
//!    again.
//! 2. An effect is popped to be *started*, and starting does not wait. Its completion is reported as an [`Input`],
//!    however late.
//! 3. All open [`channels`] are read all the time. What they bring is bounded in here; who does not read a console
//!    stops the guest.
//! 4. The clock is read for each wake-up, and told with every call. One that goes back counts as unchanged.
//! 5. When a deadline has passed, or when in doubt, [`Input::TimePassed`] is reported. It is always safe.
//!
//! So no driver has a write buffer, an inbox or a list of timers: they exist once, in here.
//!
//! # A driver
//!
//! This is a whole one. Its world is imagined: instead of a process and a socket there is a `match`.
//!
//! ```
//! use std::time::Duration;
//!
//! use qemu_machine_core::{
//!     Channel, Config, Deadline, Effect, ExitStatus, Input, Machine, Moment, Prepared, Shutdown,
//! };
//!
//! /// What QEMU says when it hears this request.
//! fn qemu(request: &str) -> Option<&'static [u8]> {
//!     Some(match request {
//!         r#"{"execute":"qmp_capabilities","id":0}"# => b"{\"return\": {}, \"id\": 0}\r\n",
//!         r#"{"execute":"query-status","id":1}"# => b"{\"return\": {\"running\": true}, \"id\": 1}\r\n",
//!         r#"{"execute":"quit","id":2}"# => b"{\"return\": {}, \"id\": 2}\r\n",
//!         _ => return None,
//!     })
//! }
//!
//! const GREETING: &[u8] =
//!     br#"{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}"#;
//!
//! /// Turns the crank until there is nothing more to do.
//! fn turn(machine: &mut Machine, now: Moment) {
//!     loop {
//!         while let Some(effect) = machine.poll_effect() {
//!             match effect {
//!                 Effect::Prepare(_) => machine.handle(now, Input::Prepared(Prepared::default())),
//!                 Effect::Spawn(_) => machine.handle(now, Input::Spawned { pid: 42 }),
//!                 Effect::Open(channel) => {
//!                     machine.handle(now, Input::Opened(channel));
//!                     machine.handle(now, Input::Received(channel, GREETING));
//!                     machine.handle(now, Input::Received(channel, b"\r\n"));
//!                 }
//!                 Effect::ReadLog { .. } => machine.handle(now, Input::LogRead(b"")),
//!                 Effect::Remove => machine.handle(now, Input::Removed(Ok(()))),
//!                 // Only a machine that fails, is told to, or outlives its parent needs these.
//!                 Effect::Close(channel) => machine.handle(now, Input::Closed(channel)),
//!                 Effect::Signal(signal) => machine.handle(now, Input::Signalled(signal, Ok(()))),
//!                 Effect::Detach => machine.handle(now, Input::Detached),
//!             }
//!         }
//!         while machine.poll_notice().is_some() {}
//!
//!         let request = String::from_utf8_lossy(machine.outgoing(Channel::Monitor)).into_owned();
//!         machine.sent(Channel::Monitor, request.len());
//!         let Some(reply) = qemu(&request) else { return };
//!         machine.handle(now, Input::Received(Channel::Monitor, reply));
//!         if request.contains("quit") {
//!             machine.handle(now, Input::Closed(Channel::Monitor));
//!             machine.handle(now, Input::Exited(ExitStatus::Code(0)));
//!         }
//!     }
//! }
//!
//! let now = Moment::ORIGIN; // No time passes in this world.
//! let mut machine = Machine::new(Config::new("qemu-system-x86_64"))?;
//! machine.launch(now)?;
//! turn(&mut machine, now);
//! assert_eq!(machine.launched(), Some(Ok(())));
//!
//! let ticket = machine.execute(now, &"query-status", Deadline::after(Duration::from_secs(5)))?;
//! turn(&mut machine, now);
//! assert_eq!(machine.claim(&ticket).expect("the reply came")?["running"], true);
//!
//! machine.shutdown(now, Shutdown::default())?;
//! turn(&mut machine, now);
//! let outcome = machine.outcome().expect("the machine ended");
//! assert_eq!(outcome.exit, Some(ExitStatus::Code(0)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - A run ends with exactly one [`Outcome`]. Before it every accepted command was answered exactly once, and
//!   everything that was made on the host was ordered to be removed.
//! - Nothing waits without a deadline, except where the caller wrote [`FOREVER`]. A launch, a shutdown, and the
//!   last words of a process are bounded by themselves.
//! - Memory is bounded by [`Limits`]; what is forgotten is counted exactly.
//! - No bytes of a peer make it panic.
//! - Errors are sorted by whose fault they are: the caller's ([`Misuse`]), QEMU's decision ([`Refusal`]), a peer that
//!   breaks the protocol ([`ProtocolError`]), the host's ([`HostFault`]).
//!
//! Each promise has a number, and tests that are named after it: `tests/promises.md` in the repository lists them.
//!
//! # Features
//!
//! None is on by default, and none brings a crate or `std`. The crate needs an allocator and nothing else.
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `record` | `Config::recorded` and the module `record`: records of runs, which replay, and a mock of the monitor | some 2,000 lines to compile, most of them by serde's derives; a machine that is not recorded pays one comparison for each call |
//! | `schema` | `Schema`, and the command `QuerySchema` that returns it | some 1,000 lines to compile |
//!
//! [`launch`]: Machine::launch
//! [`execute`]: Machine::execute
//! [`wait`]: Machine::wait
//! [`subscribe`]: Machine::subscribe
//! [`shutdown`]: Machine::shutdown
//! [`handle`]: Machine::handle
//! [`sent`]: Machine::sent
//! [`poll_effect`]: Machine::poll_effect
//! [`poll_notice`]: Machine::poll_notice
//! [`claim`]: Machine::claim
//! [`claim_wait`]: Machine::claim_wait
//! [`next_event`]: Machine::next_event
//! [`outgoing`]: Machine::outgoing
//! [`channels`]: Machine::channels
//! [`deadline`]: Machine::deadline
//! [`state`]: Machine::state
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod channel;
mod command;
mod command_line;
pub mod commands;
mod config;
mod console;
mod descriptor;
mod effect;
mod error;
mod event;
mod fault;
mod identity;
mod input;
pub mod lifecycle;
mod machine;
mod notice;
mod outbox;
mod outcome;
mod payload;
pub mod procedure;
#[cfg(feature = "record")]
pub mod record;
#[cfg(feature = "schema")]
pub mod schema;
pub mod session;
mod signal;
mod text;
mod time;
mod transport;
mod wait;
pub mod wire;

pub use channel::Channel;
pub use command::{Band, Command, CommandId, Empty, FromReply, OutOfBand, QtestLine, Raw, Ticket, WithRawReply};
pub use command_line::{CommandLine, escape_commas};
pub use config::{Config, Dialect, Limits, Service};
pub use console::Console;
pub use descriptor::Descriptor;
pub use effect::{Effect, Preparation, Spawn};
pub use error::{CommandError, LaunchError, Liveness, Progress, ServiceError, WaitError};
pub use event::{Event, History, SubscriptionId, Timestamp, matches};
pub use fault::{FaultKind, HostFault, Misuse, ProtocolError, Refusal};
pub use identity::{Gap, Identity};
pub use input::{ExitStatus, Inherited, Input, Prepared};
pub use lifecycle::{LaunchFailure, Phase, Rung, Shutdown, State, Why};
pub use machine::Machine;
pub use notice::Notice;
pub use outcome::{Cause, Outcome};
pub use payload::Payload;
#[cfg(feature = "schema")]
pub use schema::Schema;
pub use serde_json::{Value, json};
pub use signal::{Signal, SignalName};
pub use time::{COMMAND_WITHIN, Deadline, FOREVER, Moment};
pub use transport::{Address, Monitor, Peer, Transport};
pub use wait::{Found, Hit, Mark, Missed, Wait, WaitId};
