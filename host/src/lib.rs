//! Carries out the effects of a QEMU machine on a Unix host. All runtimes share it.
//!
//! A [`Host`] belongs to one machine. It owns what it makes for it: the private directory, the log, the sockets as
//! long as they carry nothing any more, and the process. What differs between runtimes, how they wait, is behind
//! [`Watch`].

#[cfg(not(target_os = "linux"))]
compile_error!("the runtimes need Linux 5.4 or later: processes are watched by pidfd and epoll");

mod channels;
mod child;
mod clock;
mod dial;
mod fault;
mod host;
mod identity;
#[cfg(feature = "record")]
mod play;
mod prepare;
#[cfg(feature = "qapi")]
pub mod qapi;
mod scratch_dir;
mod shared_fd;
mod socket;
mod subscription;
mod supervisor;
mod trace;
mod verbs;
mod watch;

#[doc(hidden)]
pub use clock::timespec;
pub use clock::{Clock, until};
pub use fault::fault;
pub use host::Host;
pub use identity::{IdentityError, identity};
#[cfg(feature = "record")]
pub use play::play;
#[cfg(feature = "qapi")]
pub use qapi::Qapi;
pub use qemu_machine_core as core;
pub use shared_fd::descriptor;
#[doc(hidden)]
pub use supervisor::{Kept, Next, Supervisor, Wake};
#[doc(hidden)]
pub use verbs::try_lock;
pub use watch::Watch;
