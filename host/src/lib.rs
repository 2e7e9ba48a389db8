//! Carries out the effects of a QEMU machine on a Unix host. All runtimes share it.
//!
//! A [`Host`] belongs to one machine. It owns what it makes for it: the private directory, the log, the sockets as
//! long as they carry nothing any more, and the process. What differs between runtimes, how they wait, is behind
//! [`Watch`].

mod channels;
mod child;
mod clock;
mod dial;
mod fault;
mod handle;
mod host;
mod identity;
mod lock;
pub mod names;
mod play;
mod prepare;
#[cfg(feature = "qapi")]
pub mod qapi;
mod scratch_dir;
mod shared_fd;
mod socket;
mod subscription;
mod supervisor;
mod sys;
mod trace;
mod watch;

pub use clock::Clock;
pub use fault::fault;
pub use handle::{Handle, Shared};
pub use host::Host;
pub use identity::{IdentityError, identity};
pub use lock::{lock, try_lock};
#[doc(inline)]
pub use names::*;
pub use qemu_machine_core as core;
pub use subscription::Subscription;
pub use supervisor::{Next, Supervised, Supervisor, Wake};
pub use sys::{Interest, Poll, Poller, Ready, Source};
pub use watch::Watch;
