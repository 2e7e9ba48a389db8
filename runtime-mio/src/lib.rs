//! Launch QEMU, speak QMP with it and own its run, from your own mio loop.
//!
//! A [`Vm`] registers its sources with your `Registry`, under tokens that you give it. Your loop tells it what is
//! [`ready`](Vm::ready), and [turns](Vm::turn) it; it says what happened, and [when](Vm::timeout) it wants to be
//! turned again at the latest. Requests never wait: they give a ticket to [claim](Vm::claim) the answer with. One
//! loop drives hundreds of machines, and [`EventLoop`] is a small one for those who have none. Everything that is decided
//! is decided by `qemu-machine-core`, which is re-exported whole.
//!
//! There are [guides](qemu_machine_blocking::guides), which are those of all runtimes: for those who come from
//! [QEMU's Python classes](qemu_machine_blocking::guides::from_python), from
//! [the crates `qapi` and `qmp`](qemu_machine_blocking::guides::from_qapi) or from
//! [a script](qemu_machine_blocking::guides::from_shell), and for [troubleshooting](qemu_machine_blocking::guides::troubleshooting).
//!
//! Features, all off by default: `record` adds records of runs and a mock of a recorded monitor, `schema` adds QEMU's schema
//! as a value, and `qapi` makes commands of the types of the crate `qapi-qmp`.
//!
//! # A loop
//!
//! ```no_run
#![doc = include_str!("../examples/own_loop.rs")]
//! ```
//!
//! # Logging
//!
//! With the feature `tracing`, which is off by default, a machine tells the crate [tracing](https://docs.rs/tracing)
//! what happens to it: under the target `qemu_machine::lifecycle` its run, and under `qemu_machine::wire`, at trace only
//! because it may carry secrets, what goes over its channels. `qemu-machine-blocking` has the list; all runtimes tell
//! the same.

mod event_loop;
mod sources;
mod vm;

pub use event_loop::EventLoop;
pub use qemu_machine_core::*;
#[cfg(feature = "record")]
pub use qemu_machine_host::play;
#[cfg(feature = "qapi")]
pub use qemu_machine_host::{Qapi, qapi};
pub use qemu_machine_host::{descriptor, until};
pub use vm::Vm;
