//! Runtime for any async executor: futures that launch QEMU, speak QMP with it and own its lifetime.
//!
//! A [`Vm`] is a handle that tasks clone and share. Its [`Driver`] is a future, which
//! [`Vm::launch_with`](tasks::Vm::launch_with) passes to the caller's executor. [`Vm::launch`](tasks::Vm::launch) spawns
//! it on smol's global executor, which has its own threads. Sockets and timers are those of the reactor of async-io, which
//! has its own thread as well and wakes tasks of any executor. `qemu-machine-core`, re-exported as [`core`], makes every
//! decision; `qemu-machine-host` does the IO. Users of tokio have `qemu-machine-tokio`, with the same methods on tokio's
//! own reactor.
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
//! | `smol` | on | The methods without `_with`, which spawn the driver on the global executor of the crate `smol`. Without it, 17 crates fewer are built. |
//! | `record` | off | Records of runs, and a mock of a recorded monitor. |
//! | `schema` | off | QEMU's schema as a value. |
//! | `regex` | off | Waits for console text by a regular expression. |
//! | `qapi` | off | Executes the command types of the crate `qapi-qmp`. |
//! | `tracing` | off | Logs through the crate `tracing`, as [`qemu-machine-blocking` lists](https://docs.rs/qemu-machine-blocking/latest/qemu_machine_blocking/#logging). |
//!
//! # Cancelling
//!
//! Every future may be dropped at any await. The module [`tasks`] lists what each does then.
//!
//! # On smol
//!
//! ```no_run
#![doc = include_str!("../examples/on_smol.rs")]
//! ```
//!
//! # On async-std
//!
//! ```no_run
#![doc = include_str!("../examples/on_async_std.rs")]
//! ```
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a peer must not end the program")]

mod console;
mod reactor;
#[cfg(feature = "smol")]
mod spawn;

pub use console::Console;
pub use qemu_machine_core as core;
#[doc(inline)]
pub use qemu_machine_host::names::*;
pub use qemu_machine_host::tasks;
pub use qemu_machine_host::{Handle, Subscription, WeakHandle};
pub use reactor::{Smol, SmolSource, SmolTimer};

/// Handle of a machine: see [`tasks::Vm`].
pub type Vm = tasks::Vm<Smol>;

/// Handle that does not keep its machine alive: see [`tasks::WeakVm`].
pub type WeakVm = tasks::WeakVm<Smol>;

/// Future that drives a machine: see [`tasks::Driver`].
pub type Driver = tasks::Driver<Smol>;

/// Subscription to events: see [`tasks::Events`].
pub type Events = tasks::Events<Smol>;

/// Lines of a console: see [`tasks::ConsoleLines`].
pub type ConsoleLines = tasks::ConsoleLines<Smol>;

/// Handle of the agent in a guest: see [`tasks::Agent`].
pub type Agent = tasks::Agent<Smol>;

/// Handle of QEMU's qtest: see [`tasks::Qtest`].
pub type Qtest = tasks::Qtest<Smol>;
