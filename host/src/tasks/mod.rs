//! Machine for tasks of an async runtime: futures that launch QEMU, speak QMP with it and own its lifetime, on any reactor.
//!
//! A runtime implements [`Reactor`], [`AsyncSource`] and [`AsyncTimer`], and names these types for its users:
//! `type Vm = tasks::Vm<MyReactor>`. A runtime with an executor that is found without an argument implements [`Spawn`] as
//! well. Everything else is here, once: a [`Vm`] is a handle that tasks clone and share, and its [`Driver`] is a future
//! that reads, sends and watches the deadline.
//!
//! # How the driver uses a reactor
//!
//! It polls a source, reads until nothing is left ([`Host::receive`](crate::Host::receive)), and polls again. So a
//! readiness that a source reports is consumed, and one read costs no further call of the reactor. It polls for room to
//! write only while a socket is full. The timer is set when it would fire too late, and not for each command.
//!
//! # Where things happen
//!
//! A request is made, and its bytes are sent, on the thread of the task that makes it. Bytes are received on the thread
//! that polls the driver. No call waits for a peer or a process: what is left of a machine whose last handle or driver was
//! dropped is driven by the supervisor's thread.

mod console;
mod driver;
mod events;
mod reactor;
mod rest;
mod services;
mod shared;
mod sources;
mod spawned;
mod streams;
mod vm;
mod waiting;

pub use console::Console;
pub use driver::{Driver, SharedMachine};
pub use events::Events;
pub use reactor::{AsyncSource, AsyncTimer, Reactor, Readiness};
pub use rest::wait_for_dropped;
pub use services::{Agent, Qtest};
pub use spawned::Spawn;
pub use vm::Vm;
