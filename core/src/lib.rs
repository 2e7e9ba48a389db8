//! Sans-IO core of a QEMU machine: launch, QMP monitor, consoles and shutdown as pure state transitions.
//!
//! A [`Machine`] is one QEMU process with its monitor and its consoles. A *driver* does the IO for it: the driver reports
//! inputs (bytes arrived, the process ended), and the machine returns effects (start the process, open the monitor) and
//! outgoing bytes. `qemu-machine-blocking`, `qemu-machine-tokio`, `qemu-machine-smol` and `qemu-machine-mio` contain
//! drivers that are ready to use. This crate has no clock, no sockets, no threads and no `std`: the same inputs give the
//! same outputs, byte for byte, so that a run can be recorded, replayed and fuzzed.
//!
//! # The contract
//!
//! *The core decides, the driver obeys.* A driver knows nothing about QEMU: it never sorts, merges, retries or
//! interprets what it carries. A machine has five kinds of methods:
//!
//! | kind | methods | |
//! |---|---|---|
//! | requests | [`launch`], [`execute`], [`wait`], [`subscribe`], [`shutdown`], … | refused as [`Misuse`] without effect, or accepted |
//! | inputs | [`handle`], [`sent`] | never fail: a fault becomes a reply, a counter or the outcome |
//! | edges | [`poll_effect`], [`poll_notice`], [`next_event`] | queues: each item once, call until `None` |
//! | results | [`claim`], [`claim_wait`] | a notice announces each; it is returned once, and before and after that the result is `None` |
//! | levels | [`outgoing`], [`channels`], [`deadline`], [`state`], … | the present state: read again after every call |
//!
//! ([`lifecycle::Lifecycle`] and [`session::Session`] are the states themselves, plain data with pure transitions, and
//! can be used alone.) For users of other sans-IO libraries: [`outgoing`] with [`sent`] is `poll_transmit`,
//! [`deadline`] is `poll_timeout`, and [`Input::TimePassed`] is `handle_timeout`.
//!
//! A driver keeps five rules:
//!
//! 1. *Drain before waiting.* Before it blocks, or returns `Pending`, a driver carries out all effects, pops all notices,
//!    writes as much of the outgoing data as the sockets accept, and arms a timer for [`deadline`]. Reported inputs may
//!    issue more effects: the driver repeats this until there are none. A driver that blocks earlier leaves commands
//!    unsent or deadlines unobserved.
//! 2. *Do not wait for the completion of an effect.* Report it as an [`Input`], however late. If the driver waited, all
//!    channels would stall.
//! 3. *Read all open [`channels`] all the time*, except a console whose reader has back-pressure. The core bounds what it
//!    retains of them. A console that is not read stops the guest (QEMU, `hw/char/serial.c`, `serial_xmit`). If the
//!    monitor is not read, QEMU's memory grows without bound (QEMU, `monitor/monitor.c`, `monitor_flush_locked`).
//! 4. *Read the clock at each wake-up, and pass it with every call that takes a time.* If a time is earlier than that
//!    of a previous call, the previous one is used. With a stale clock, deadlines pass too late.
//! 5. *Report [`Input::TimePassed`] when a wait ended at the deadline without an input.* Every other input applies due
//!    deadlines as well, and an extra report does no harm. Without it, a time-out in silence is never observed.
//!
//! # Verbs that end something
//!
//! | verb | on | effect |
//! |---|---|---|
//! | [`shutdown`] | any machine | The power button if [`Shutdown`] says so, `quit`, SIGTERM, SIGKILL: each when the one before did not end QEMU in its time. A machine of another program gets the commands of the policy, but no signals; when their time is over (20 seconds by default), it is disconnected from. |
//! | [`disown`], [`disown_wait`] | a command, a wait | Its result is no longer wanted. A command that was sent may still take effect; its late reply reaches no other caller. |
//! | [`disconnect`] | a machine of another program | The monitor is closed; the machine runs on. For a [resumed](Config::resume) one this is [`detach`]. |
//! | [`detach`] | a machine launched to [outlive its parent](Config::outlive_parent), or [resumed](Config::resume) | The monitor is closed; the machine runs on, and its [`Identity`] resumes it. |
//! | [`kill`] | a machine that was launched here, or [resumed](Config::resume) | SIGKILL. ([`kill_or_disconnect`] does this, or disconnects, for a driver that goes away.) |
//! | [`abandon`] | a run that is ending | Its present step, such as the end of the process after SIGKILL, is not waited for any longer. |
//!
//! # Runs
//!
//! A *run* begins with [`launch`] and ends with one [`Outcome`] ([`Notice::Ended`]). A machine that ended can be
//! launched again. Requests depend on the [`state`]:
//!
//! | request | idle | launching, running, ending | ended |
//! |---|---|---|---|
//! | [`launch`] | accepted | [`Misuse::AlreadyLaunched`] | accepted, if no completion is outstanding ([`Misuse::NotReaped`]) |
//! | [`execute`] | [`Misuse::NotLaunched`] | accepted; queued until the monitor is ready, and answered with [`CommandError::Disconnected`] after it closed | [`Misuse::Ended`], which becomes that error |
//! | [`wait`] | [`Misuse::NotLaunched`] | accepted | accepted, and over at once |
//! | [`subscribe`] | accepted | accepted | accepted |
//! | [`shutdown`], [`kill`], [`disconnect`] | [`Misuse::NotLaunched`] | accepted; without effect if the end has begun, except that [`kill`] and [`disconnect`] cut a shutdown short | accepted, without effect |
//! | [`detach`] | [`Misuse::NotRunning`] | accepted while running, otherwise [`Misuse::NotRunning`] | [`Misuse::NotRunning`], or without effect after an earlier one |
//!
//! At the end of a run every command is answered and every wait is over. The next [`launch`] keeps or drops:
//!
//! | of the previous run | after [`launch`] |
//! |---|---|
//! | answers and results of waits that no caller has claimed | kept, with their notices; of the answers the latest [`Limits::commands`] |
//! | subscriptions | kept, with empty queues and counts of zero; a wait that had found an event in a queue fails with [`WaitError::Ended`] |
//! | marks | valid, as the beginning of the new run |
//! | events, console output, queued console input | dropped; the numbers of events and the positions on consoles go on |
//! | the outcome, all other notices | dropped |
//!
//! # Completions and deadlines
//!
//! Each effect is completed by one input. It may come late: the run goes on without it as this table says, and a
//! process that starts or ends later is still taken into account. A second completion counts as [`Input::TimePassed`].
//! As long as a completion is outstanding, [`launch`] is refused.
//!
//! | effect | completed by | if that never comes |
//! |---|---|---|
//! | [`Effect::Prepare`] | [`Input::Prepared`], [`Input::PrepareFailed`] | the launch fails at its deadline |
//! | [`Effect::Spawn`] | [`Input::Spawned`], [`Input::SpawnFailed`] | the launch fails at its deadline; SIGKILL, and 10 seconds later the clean-up |
//! | a process that was started | [`Input::Exited`] | 10 seconds after SIGKILL the run ends as [`Cause::Unkillable`] |
//! | [`Effect::Open`] | [`Input::Opened`], [`Input::OpenFailed`] | monitor: the launch fails at its deadline; console: it stays empty |
//! | [`Effect::Close`] | [`Input::Closed`] | **the run does not end**: no deadline covers it, since a driver can always close a channel |
//! | [`Effect::Signal`] | [`Input::Signalled`] | nothing: the next deadline follows |
//! | [`Effect::ReadLog`], [`Effect::Remove`] | [`Input::LogRead`], [`Input::Removed`] | 10 seconds later the run goes on, with a fault in [`Outcome::faults`] |
//! | [`Effect::Detach`] | [`Input::Detached`] | nothing: the run ends without it |
//! | [`CompanionEffect::Start`] | [`CompanionInput::Started`], [`CompanionInput::StartFailed`] | the launch fails at its deadline; the companion ends as the next line says |
//! | a companion that was started | [`CompanionInput::Exited`] | 20 seconds after the end of QEMU the run goes on, with a fault in [`Outcome::faults`] |
//! | a companion that has ended | [`CompanionInput::LogRead`] | two seconds later its log counts as empty |
//! | [`CompanionEffect::Probe`] | [`CompanionInput::Probed`], [`CompanionInput::ProbeFailed`] | the launch fails at its deadline |
//! | [`CompanionEffect::Signal`] | nothing, or [`CompanionInput::NotSignalled`] | the next deadline follows |
//!
//! These deadlines bound every wait of the core. With [`FOREVER`], a launch, a command or a wait has none; the streams of a
//! runtime (events, consoles) have none either, and end with the run.
//!
//! | what | deadline | when it passes |
//! |---|---|---|
//! | a launch | 30 seconds ([`Config::launch_within`]) | [`LaunchFailure::TimedOut`], or a more specific failure, if one is known |
//! | the end of a process that closed its monitor during the launch | 5 seconds, or the deadline of the launch | [`LaunchFailure::Hung`] |
//! | the same after the launch | 5 seconds | waits for events alone fail: [`WaitError::Disconnected`] |
//! | a command | that of the call; the runtimes use [`COMMAND_WITHIN`], 60 seconds | [`CommandError::TimedOut`] |
//! | a wait | that of the call | [`WaitError::TimedOut`] |
//! | a procedure | that of the call, and 10 seconds for its clean-up ([`procedure::CLEAN_UP_WITHIN`]) | [`procedure::ProcedureError::Remains`], or the error of its step if nothing remains |
//! | the commands that undo a dropped procedure | 60 seconds each ([`COMMAND_WITHIN`]) | what they were to remove stays in QEMU |
//! | a request to synchronize with the agent | 5 seconds | it is sent again |
//! | a shutdown | 30 seconds ([`Shutdown::total`]) | SIGKILL; a machine of another program is disconnected from, after 20 seconds |
//! | the end of a process after SIGKILL | 10 seconds | [`Cause::Unkillable`] |
//! | the last output of a process that ended | 2 seconds; 4 during a launch | the channels are closed |
//! | the end of all [companions](Config::companion) after QEMU | 10 seconds, then SIGKILL, and 10 seconds after that | a fault in [`Outcome::faults`] |
//! | reading the log, then removing the files | 10 seconds each | a fault in [`Outcome::faults`] |
//!
//! A runtime has shorter bounds for a machine whose last handle or driver was dropped: two seconds for the process, then 250
//! milliseconds for each step of the clean-up.
//!
//! # A driver
//!
//! This is a complete driver. Instead of a process and a socket it has a `match`.
//!
//! ```
//! use std::time::Duration;
//!
//! use qemu_machine_core::{
//!     Channel, Config, Deadline, Effect, ExitStatus, Input, Machine, Moment, Prepared, Shutdown,
//! };
//!
//! /// What QEMU replies to a request.
//! fn qemu(request: &str) -> Option<&'static [u8]> {
//!     Some(match request {
//!         r#"{"execute":"qmp_capabilities","id":0}"# => b"{\"return\": {}, \"id\": 0}\r\n",
//!         // QEMU holds the guest (`-S`) until the monitor is ready; then the machine continues it.
//!         r#"{"execute":"query-status","id":1}"# => b"{\"return\": {\"status\": \"prelaunch\"}, \"id\": 1}\r\n",
//!         r#"{"execute":"cont","id":2}"# => b"{\"return\": {}, \"id\": 2}\r\n",
//!         r#"{"execute":"query-name","id":3}"# => b"{\"return\": {\"name\": \"vm\"}, \"id\": 3}\r\n",
//!         r#"{"execute":"quit","id":4}"# => b"{\"return\": {}, \"id\": 4}\r\n",
//!         _ => return None,
//!     })
//! }
//!
//! const GREETING: &[u8] =
//!     br#"{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}"#;
//!
//! /// Drives the machine until there is nothing more to do.
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
//!                 // Only a machine that fails, is killed, or outlives its parent needs these.
//!                 Effect::Close(channel) => machine.handle(now, Input::Closed(channel)),
//!                 Effect::Signal(signal) => machine.handle(now, Input::Signalled(signal, Ok(()))),
//!                 Effect::Detach => machine.handle(now, Input::Detached),
//!                 Effect::Companion(..) => unreachable!("this machine has none"),
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
//! let ticket = machine.execute(now, &"query-name", Deadline::after(Duration::from_secs(5)))?;
//! turn(&mut machine, now);
//! assert_eq!(machine.claim(&ticket).expect("the reply came")?["name"], "vm");
//!
//! machine.shutdown(now, Shutdown::default())?;
//! turn(&mut machine, now);
//! let outcome = machine.outcome().expect("the machine ended");
//! assert_eq!(outcome.exit, Some(ExitStatus::Code(0)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Promises
//!
//! - A run ends with exactly one [`Outcome`]. Before it, every accepted command was completed exactly once, and
//!   everything that was created on the host was removed, or [`Outcome::faults`] names what was not. (Logs at a path of
//!   the caller stay, and so do the files of a machine that runs on.)
//! - No wait is without a [deadline](#completions-and-deadlines), except where the caller wrote [`FOREVER`], if the
//!   driver completes each [`Effect::Close`].
//! - [`Limits`] bound what is retained of events, consoles and messages, and what is dropped is counted exactly.
//!   The number of commands is bounded; the size of unclaimed replies is not.
//! - No bytes of a peer cause a panic.
//! - No bytes of a peer, a guest, a log or a caller are printed raw: all that `Display` and `Debug` write is printable
//!   ([`UntrustedText`]).
//! - Errors are sorted by whose fault they are: the caller's ([`Misuse`]), QEMU's decision ([`Refusal`]), a peer that
//!   breaks the protocol ([`ProtocolError`]), the host's ([`HostFault`]).
//!
//! Each promise has a number, and tests that are named after it: `tests/promises.md` in the repository lists them.
//!
//! # Features
//!
//! None is on by default. Only `regex` and `arbitrary` bring crates, and only `arbitrary` and `std` bring `std`. The crate
//! needs an allocator and no other part of a system.
//!
//! | feature | what it adds | cost |
//! |---|---|---|
//! | `record` | `Config::recorded` and the module `record`: records of runs, which replay, and a mock of the monitor | some 2,000 lines to compile, most of them by serde's derives; without `Config::recorded`, one comparison for each call |
//! | `schema` | `Schema`, and the command `QuerySchema` that returns it | some 1,000 lines to compile |
//! | `regex` | `Wait::regex` and `Wait::line_regex`: waits for console text by a regular expression | the crates `regex-automata` and `regex-syntax`, without Unicode tables and without `std` |
//! | `std` | [`OsBytes`] for `OsStr`, `OsString`, `Path` and `PathBuf`, so that a [`Config`] takes them; the runtimes have it on | `std` |
//! | `arbitrary` | `arbitrary::Arbitrary` for plain data, to [fuzz a driver](#fuzzing-your-driver) | the crate `arbitrary`, its derive macro, and `std` |
//!
//! # Fuzzing your driver
//!
//! With the feature `arbitrary`, a fuzzer can generate what a host reports to a driver: [`Input`] with its [`Prepared`],
//! [`HostFault`] and [`ExitStatus`], and what a caller chooses: [`Limits`], [`Shutdown`], [`Deadline`], [`Address`]. This
//! is the body of a fuzz target (`libfuzzer_sys::fuzz_target!`) for the core; put your driver in place of
//! `machine.handle`. Here the host is honest, and the peer is not: effects are
//! completed in any order, with success or a fault, and the monitor sends any bytes.
#![cfg_attr(feature = "arbitrary", doc = "```")]
#![cfg_attr(not(feature = "arbitrary"), doc = "```ignore")]
//! use arbitrary::{Arbitrary, Unstructured};
//! use qemu_machine_core::{
//!     Channel, Config, Effect, ExitStatus, HostFault, Input, Limits, Machine, Moment, Prepared, Shutdown, State,
//! };
//!
//! #[derive(Arbitrary)]
//! enum Action<'a> {
//!     /// The host completes the effect with this number among those that are outstanding.
//!     Complete(usize, Result<(), HostFault>),
//!     Receive(&'a [u8]),
//!     Exit(ExitStatus),
//!     Shutdown(Shutdown),
//!     Pass(u8),
//! }
//!
//! fn fuzz(data: &[u8]) -> arbitrary::Result<()> {
//!     let mut data = Unstructured::new(data);
//!     let config = Config::new("qemu").limits(Limits::arbitrary(&mut data)?);
//!     let Ok(mut machine) = Machine::new(config) else { return Ok(()) };
//!     let (mut now, mut effects, mut is_alive) = (Moment::ORIGIN, Vec::new(), false);
//!     machine.launch(now).expect("it is idle");
//!     for action in data.arbitrary_iter()? {
//!         effects.extend(std::iter::from_fn(|| machine.poll_effect()));
//!         while machine.poll_notice().is_some() {}
//!         let input = match action? {
//!             Action::Complete(number, result) if !effects.is_empty() => {
//!                 match (effects.swap_remove(number % effects.len()), result) {
//!                     (Effect::Prepare(_), Ok(())) => Input::Prepared(Prepared::default()),
//!                     (Effect::Prepare(_), Err(fault)) => Input::PrepareFailed(fault),
//!                     (Effect::Spawn(_), Ok(())) => {
//!                         is_alive = true;
//!                         Input::Spawned { pid: 42 }
//!                     }
//!                     (Effect::Spawn(_), Err(fault)) => Input::SpawnFailed(fault),
//!                     (Effect::Open(channel), Ok(())) => Input::Opened(channel),
//!                     (Effect::Open(channel), Err(fault)) => Input::OpenFailed(channel, fault),
//!                     (Effect::Close(channel), _) => Input::Closed(channel),
//!                     (Effect::Signal(signal), result) => Input::Signalled(signal, result),
//!                     (Effect::ReadLog { .. }, _) => Input::LogRead(b"the log"),
//!                     (Effect::Remove, result) => Input::Removed(result),
//!                     (Effect::Detach, _) => Input::Detached,
//!                     (Effect::Companion(..), _) => unreachable!("this machine has none"),
//!                 }
//!             }
//!             Action::Receive(bytes) if machine.channels().contains(&Channel::Monitor) => {
//!                 Input::Received(Channel::Monitor, bytes)
//!             }
//!             Action::Exit(status) if core::mem::take(&mut is_alive) => Input::Exited(status),
//!             Action::Shutdown(policy) => {
//!                 machine.shutdown(now, policy).expect("it is launched");
//!                 Input::TimePassed
//!             }
//!             Action::Pass(seconds) => {
//!                 now = now.after(core::time::Duration::from_secs(seconds.into()));
//!                 Input::TimePassed
//!             }
//!             _ => Input::TimePassed,
//!         };
//!         machine.handle(now, input); // Call your driver here, and assert what it promises to its callers.
//!         assert_eq!(machine.outcome().is_some(), machine.state() == State::Ended);
//!     }
//!     Ok(())
//! }
//! # let (mut state, mut data) = (7_u32, [0_u8; 4_000]);
//! # for length in (0..data.len()).step_by(16) {
//! #     data[..length].iter_mut().for_each(|byte| {
//! #         state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
//! #         *byte = (state >> 24) as u8;
//! #     });
//! #     drop(fuzz(&data[..length]));
//! # }
//! ```
//!
//! A driver that is honest reports each completion once, and `Received`, `Closed` and `Exited` only of what exists. The
//! core must bear others as well: `Input` itself is `Arbitrary`. `core/tests/fuzzed/targets` in the repository has a
//! target with a model that predicts the answer of every command.
//!
//! [`launch`]: Machine::launch
//! [`execute`]: Machine::execute
//! [`wait`]: Machine::wait
//! [`subscribe`]: Machine::subscribe
//! [`shutdown`]: Machine::shutdown
//! [`handle`]: Machine::handle
//! [`sent`]: Machine::sent
//! [`disown`]: Machine::disown
//! [`disown_wait`]: Machine::disown_wait
//! [`disconnect`]: Machine::disconnect
//! [`detach`]: Machine::detach
//! [`kill`]: Machine::kill
//! [`kill_or_disconnect`]: Machine::kill_or_disconnect
//! [`abandon`]: Machine::abandon
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
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a peer must not end the program")]

extern crate alloc;
// The code that `arbitrary` derives names std, and `std` implements a trait for types of it.
#[cfg(any(test, feature = "arbitrary", feature = "std"))]
extern crate std;

mod accelerator;
mod base64;
mod batch;
mod channel;
mod command;
mod command_line;
mod command_name;
pub mod commands;
pub mod companion;
mod config;
mod console;
mod deadlines;
mod descriptor;
mod effect;
mod error;
mod event;
mod fault;
#[cfg(feature = "arbitrary")]
mod fuzzing;
mod host_forward;
mod human_monitor;
mod identity;
mod input;
mod json;
mod launch_cause;
pub mod lifecycle;
mod log_line;
mod machine;
mod notice;
mod omit_null;
mod os_bytes;
mod outbox;
mod outcome;
mod payload;
mod plain;
pub mod procedure;
#[cfg(feature = "record")]
pub mod record;
#[cfg(feature = "regex")]
mod regex;
#[cfg(feature = "schema")]
pub mod schema;
pub mod session;
mod signal;
mod template;
mod text;
mod time;
mod transport;
mod undo;
mod usernet;
mod wait;
pub mod wire;
mod work;

pub use accelerator::{Accelerator, AcceleratorProbe, Accelerators, Availability};
pub use batch::Batch;
pub use channel::Channel;
pub use command::{
    Band, Command, CommandId, Empty, FromReply, OutOfBand, QtestLine, Raw, RawReply, Ticket, WithRawReply,
};
pub use command_line::{CommandLine, escape_commas};
pub use companion::{Companion, CompanionFailure, CompanionSocket};
pub use config::{
    Config, Dialect, ExtraMonitor, Limits, MonitorSocket, ProcessAttributes, Resource, ResourceLimit, Service, Variable,
};
pub use console::Console;
pub use descriptor::Descriptor;
pub use effect::{CompanionEffect, CompanionPreparation, CompanionSpawn, Effect, Preparation, Spawn};
pub use error::{CommandError, LaunchError, Liveness, Progress, ServiceError, WaitError};
pub use event::{Event, History, SubscriptionId, Timestamp, matches};
pub use fault::{FaultKind, HostFault, Misuse, ProtocolError, Refusal};
pub use host_forward::{ForwardProtocol, HostForward};
pub use identity::{ExtraMonitorSocket, FileId, Gap, Identity};
pub use input::{CompanionInput, ExitStatus, Inherited, Input, Prepared, RunningProcess};
pub use json::drop_deep;
pub use launch_cause::LaunchCause;
pub use lifecycle::{LaunchFailure, Phase, Rung, Shutdown, State, Why};
pub use log_line::{LogLevel, LogLine};
pub use machine::Machine;
pub use notice::Notice;
pub use omit_null::OmitNull;
pub use os_bytes::OsBytes;
pub use outcome::{Cause, CompanionEnd, Outcome};
pub use payload::Payload;
#[cfg(feature = "regex")]
pub use regex::PatternError;
#[cfg(feature = "schema")]
pub use schema::Schema;
pub use serde_json::{Value, json};
pub use signal::{Signal, SignalName};
pub use template::{DiskFormat, Template, TemplateConfig, TemplateDisk};
pub use text::UntrustedText;
pub use time::{COMMAND_WITHIN, Deadline, FOREVER, Moment};
pub use transport::{Address, Monitor, Peer, Transport};
pub use wait::{Found, Hit, Mark, Missed, Wait, WaitId};
