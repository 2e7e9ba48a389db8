//! Runtime for tokio: futures that launch QEMU, speak QMP with it and own its lifetime, on tokio's own reactor.
//!
//! A [`Vm`] is a handle that tasks clone and share. Its [`Driver`] is a future, which [`Vm::launch`](tasks::Vm::launch)
//! spawns on the tokio runtime that it is called in. Both flavours of the runtime serve; it needs `enable_all`, or
//! `enable_io` and `enable_time`. `qemu-machine-core`, re-exported as [`core`], makes every decision; `qemu-machine-host`
//! does the IO.
//!
//! ```no_run
#![doc = include_str!("../examples/on_tokio.rs")]
//! ```
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
//! | feature | default | |
//! |---|---|---|
//! | `record` | off | Records of runs, and a mock of a recorded monitor. |
//! | `schema` | off | QEMU's schema as a value. |
//! | `regex` | off | Waits for console text by a regular expression. |
//! | `qapi` | off | Executes the command types of the crate `qapi-qmp`. |
//! | `tracing` | off | Logs through the crate `tracing`, as [`qemu-machine-blocking` lists](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/#logging). The span of a machine is a child of the span in which it was launched. |
//!
//! # Cancelling
//!
//! Every future may be dropped at any await: in `select!`, by a timeout, with its task. The module [`tasks`] lists what
//! each does then. With a token of `tokio-util`:
//!
//! ```no_run
//! # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
//! use tokio_util::sync::CancellationToken;
//!
//! let token = CancellationToken::new();
//! let asking = tokio::spawn(token.clone().run_until_cancelled_owned(async move { vm.execute("query-block").await }));
//! token.cancel();
//! if let Some(reply) = asking.await? {
//!     println!("{}", reply?); // It was faster.
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Runtimes
//!
//! A runtime that is shut down, as at the end of `#[tokio::main]`, kills the machines that were launched in it, also those
//! with [`Config::outlive_parent`], and resumed ones: [detach](tasks::Vm::detach) first. It disconnects from attached
//! ones. In a runtime without `enable_io`, or without `enable_time`, a launch panics, as tokio's own types do. Outside of a
//! runtime it fails with [`Misuse::NoRuntime`].
//!
//! Deadlines of machines are those of the real clock, but the timer of the driver is tokio's. Do not pause the time
//! (`tokio::time::pause`) of a runtime that drives machines: the timer then fires early, and the driver polls in a loop, or
//! it does not fire, and a deadline passes unobserved.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a peer must not end the program")]

mod console;
mod reactor;

pub use console::Console;
pub use qemu_machine_core as core;
#[doc(inline)]
pub use qemu_machine_host::names::*;
pub use qemu_machine_host::tasks;
pub use qemu_machine_host::{Handle, Subscription, WeakHandle};
pub use reactor::{Tokio, TokioSource, TokioTimer};

/// Handle of a machine: see [`tasks::Vm`].
pub type Vm = tasks::Vm<Tokio>;

/// Handle that does not keep its machine alive: see [`tasks::WeakVm`].
pub type WeakVm = tasks::WeakVm<Tokio>;

/// Future that drives a machine: see [`tasks::Driver`].
pub type Driver = tasks::Driver<Tokio>;

/// Subscription to events: see [`tasks::Events`].
pub type Events = tasks::Events<Tokio>;

/// Lines of a console: see [`tasks::ConsoleLines`].
pub type ConsoleLines = tasks::ConsoleLines<Tokio>;

/// Handle of the agent in a guest: see [`tasks::Agent`].
pub type Agent = tasks::Agent<Tokio>;

/// Handle of QEMU's qtest: see [`tasks::Qtest`].
pub type Qtest = tasks::Qtest<Tokio>;
