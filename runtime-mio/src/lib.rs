//! Runtime for event loops on mio: sources in the caller's loop, which launch QEMU, speak QMP with it and own its
//! lifetime.
//!
//! A [`Vm`] registers its sources with the caller's `Registry`, under the caller's tokens. The loop passes each event
//! of its poll to [`Vm::ready`], and calls [`Vm::turn`], which returns notices. [`Vm::timeout`] returns when the next
//! turn is due. Requests do not block: they return a ticket with which the caller [claims](Vm::claim) the reply. One
//! loop drives hundreds of machines, and [`EventLoop`] is a small one for callers that have none. `qemu-machine-core`,
//! re-exported as [`core`], makes every decision; `qemu-machine-host` does the IO.
//!
//! # Guides
//!
//! The [guides](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/guides/) of all runtimes are
//! in the docs of `qemu-machine-blocking`: for users of
//! [QEMU's Python classes](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/guides/from_python/), of
//! [the crates `qapi` and `qmp`](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/guides/from_qapi/) or of
//! [a script](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/guides/from_shell/), and for
//! [troubleshooting](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/guides/troubleshooting/).
//!
//! # Features
//!
//! None is on by default. `record` adds records of runs and a mock of a recorded monitor, `schema` QEMU's schema as a
//! value, `regex` waits for console text by a regular expression. `qapi` executes the command types of the crate `qapi-qmp`.
//! `tracing` logs through the crate `tracing`, as
//! [`qemu-machine-blocking` lists](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/#logging).
//!
//! # A loop
//!
//! ```no_run
#![doc = include_str!("../examples/own_loop.rs")]
//! ```
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a peer must not end the program")]

mod event_loop;
mod sources;
mod vm;

pub use event_loop::EventLoop;
pub use qemu_machine_core as core;
pub use qemu_machine_core::{Batch, Notice, SubscriptionId, Ticket, WaitId};
pub use qemu_machine_host::ReaderId;
#[doc(inline)]
pub use qemu_machine_host::names::*;
pub use vm::Vm;
