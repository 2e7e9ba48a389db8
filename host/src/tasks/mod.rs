//! Machine for tasks of an async runtime: futures that launch QEMU, speak QMP with it and own its lifetime, on any reactor.
//!
//! A runtime implements [`Reactor`], [`AsyncSource`] and [`AsyncTimer`], and names these types for its users:
//! `type Vm = tasks::Vm<MyReactor>`. A runtime with an executor that is found without an argument implements [`Spawn`] as
//! well. Everything else is here, once: a [`Vm`] is a handle that tasks clone and share, and its [`Driver`] is a future
//! that reads, sends and watches the deadline.
//!
//! # How the driver uses a reactor
//!
//! It polls a source, reads until nothing is left ([`Host::receive`](crate::Host::receive)), and polls again. A readiness
//! that a source reports is thus consumed, and reading costs no further call of the reactor. It polls for room to
//! write only while a socket is full. The timer is set when it would fire too late, and not for each command.
//!
//! # Where things happen
//!
//! A request is made, and its bytes are sent, on the thread of the task that makes it. Bytes are received on the thread
//! that polls the driver. When the last handle or the driver of a machine is dropped, SIGKILL is sent before `drop` returns;
//! the supervisor's thread reaps the process and removes everything. A launch waits, for less than a millisecond, while the
//! supervisor's thread clones a process.
//!
//! No call waits for a peer, a process or a file system, with three exceptions: [`Handle::log`](crate::Handle::log) and
//! [`FollowJob::log`](crate::procedure::FollowJob::log) read a file on the calling thread; a process that other code of the
//! program reaps may take one second; and at the limit of descriptors or threads, what is dropped is ended by the thread
//! that drops it, within three seconds.
//!
//! # Cancelling
//!
//! Every future may be dropped at any await: in `select!`, by a timeout, with its task.
//!
//! - *A command* that was not sent is dropped. One that was sent may still take effect; its late reply is counted and
//!   dropped, and reaches no other caller.
//! - *A wait* ends without a loss: the next one may begin at the same mark, and the events that [`Events`] had queued
//!   stay queued.
//! - *A shutdown*, a kill, a disconnect, a detach or a relaunch that was polled once continues in the driver. One that was
//!   never polled does nothing.
//! - *A procedure* ([`Vm::run`]) stops before its next step, and a command of it that was sent may still take effect. What
//!   it has created in QEMU is removed meanwhile: the driver cancels the job of a
//!   [`FollowJob`](crate::procedure::FollowJob) and the migration of a [`Migrate`](crate::procedure::Migrate), and removes
//!   the node and the fd set of an [`OpenNode`](crate::procedure::OpenNode). For a clean-up whose result you see, let the
//!   deadline pass instead.
//! - *A launch*: the machine is killed, since its only handle is dropped with the future. *An attachment*: the connection is
//!   closed.
//! - *The driver*, or its executor: the machine is killed, or disconnected from, and every task that waits receives a
//!   result. The same holds for a reactor that is shut down.
//!
//! ```no_run
//! # async fn example(vm: qemu_machine_tokio::Vm, mut signal: tokio::sync::oneshot::Receiver<()>)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! # use qemu_machine_tokio::{Mark, Shutdown, Wait};
//! # use std::time::Duration;
//! let start = Mark::default();
//! tokio::select! {
//!     panic = vm.wait_any(&start, [Wait::event("GUEST_PANICKED")], Duration::from_secs(600)) => drop(panic?),
//!     _ = &mut signal => drop(vm.shutdown(Shutdown::default()).await?),
//! }
//! # Ok(())
//! # }
//! ```

mod console;
mod driver;
mod events;
mod handed_over;
mod lines;
mod reactor;
mod rest;
mod services;
mod shared;
mod sources;
mod spawned;
mod streams;
mod vm;
mod waiters;
mod waiting;

pub use console::Console;
pub use driver::{Driver, SharedMachine};
pub use events::Events;
pub use lines::ConsoleLines;
pub use reactor::{AsyncSource, AsyncTimer, Reactor, Readiness};
pub use rest::wait_for_dropped;
pub use services::{Agent, Qtest};
pub use spawned::Spawn;
pub use vm::{Vm, WeakVm};
