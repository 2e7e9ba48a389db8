//! Launch QEMU, speak QMP with it and own its life, with plain threads and calls that block.
//!
//! A [`Vm`] is a handle that threads clone and share. A call that waits drives the machine itself, without another
//! thread in between; while nobody calls, a thread of the library, the keeper, reads what QEMU and the guest say, so
//! that neither ever stops because nobody listens. Everything that is decided is decided by `qemu-machine-core`,
//! which is re-exported whole. The module [`host`] carries its orders out on Linux, for the other runtimes as well.
//!
//! # Threads
//!
//! ```no_run
#![doc = include_str!("../examples/on_threads.rs")]
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("the runtimes need Linux 5.4 or later: processes are watched by pidfd and epoll");

mod driver;
mod events;
pub mod host;
mod vm;
mod wires;

pub use events::Events;
pub use qemu_machine_core::*;
pub use vm::Vm;
