//! Launch QEMU, speak QMP with it and own its run, from any async executor.
//!
//! A [`Vm`] is a handle that tasks clone and share. Its [`Driver`] is a future: [`Vm::launch`] spawns it on smol's
//! global executor, which has a thread of its own, and [`Vm::launch_with`] gives it to you. So a machine runs under
//! any executor, and there is no feature to choose one. Everything that is decided is decided by `qemu-machine-core`,
//! which is re-exported whole; what touches the host (processes, files) is shared with the other runtimes.
//!
//! There are [guides](qemu_machine_blocking::guides), which are those of all runtimes: for those who come from
//! [QEMU's Python classes](qemu_machine_blocking::guides::from_python), from
//! [the crates `qapi` and `qmp`](qemu_machine_blocking::guides::from_qapi) or from
//! [a script](qemu_machine_blocking::guides::from_shell), and for [troubleshooting](qemu_machine_blocking::guides::troubleshooting).
//!
//! Features, all off by default: `record` adds records of runs and a mock of a recorded monitor, `schema` adds QEMU's schema
//! as a value, and `qapi` makes commands of the types of the crate `qapi-qmp`.
//!
//! # Cancelling
//!
//! Every future may be dropped at any await: in `select!`, by a time-out, with its task. A dropped command may still
//! take effect, and its late reply reaches nobody else. A dropped wait loses nothing: the next one may begin at the
//! same mark, and what [`Events`] had to give is still there. A dropped shutdown goes on. A dropped driver ends the machine on the spot, and everybody who waits gets
//! an answer.
//!
//! # On smol
//!
//! ```no_run
#![doc = include_str!("../examples/on_smol.rs")]
//! ```
//!
//! # On tokio
//!
//! ```no_run
#![doc = include_str!("../examples/on_tokio.rs")]
//! ```
//!
//! # On async-std
//!
//! ```no_run
#![doc = include_str!("../examples/on_async_std.rs")]
//! ```
//!
//! # Logging
//!
//! With the feature `tracing`, which is off by default, a machine tells the crate [tracing](https://docs.rs/tracing)
//! what happens to it: under the target `qemu_machine::lifecycle` its run, and under `qemu_machine::wire`, at trace only
//! because it may carry secrets, what goes over its channels. `qemu-machine-blocking` has the list; all runtimes tell
//! the same.

mod driver;
mod events;
mod services;
mod vm;
mod wires;

pub use driver::Driver;
pub use events::Events;
pub use qemu_machine_core::*;
#[cfg(feature = "record")]
pub use qemu_machine_host::play;
#[cfg(feature = "qapi")]
pub use qemu_machine_host::{Qapi, qapi};
pub use qemu_machine_host::{descriptor, until};
pub use services::{Agent, Qtest};
pub use vm::Vm;
