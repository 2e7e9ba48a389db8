//! Host side of a QEMU machine: carries out its effects on a Unix host, for every runtime.
//!
//! `qemu-machine-core` decides, and does no IO. This crate does the IO: it starts and reaps processes, creates sockets and
//! files, sends and receives. A runtime decides only how to wait. Users of a runtime do not need this crate; the rest of
//! this page is for the author of one.
//!
//! # The parts
//!
//! | part | provided by | what it does |
//! |---|---|---|
//! | [`Host`] | this crate | Carries out effects, reports inputs, owns the process and the sockets of one machine. |
//! | [`Watch`] | the runtime | Registers descriptors with the runtime's poller, and unregisters them. |
//! | [`Clock`] | this crate | Returns the [`Moment`](core::Moment) that every call takes. |
//! | [`Shared`] | the runtime | State of a machine behind a lock, for a runtime whose handles are shared. |
//! | [`Handle`], [`Subscription`] | this crate | The methods that return at once, on top of `Shared`. |
//! | [`Supervisor`], [`Poller`] | this crate | The thread that forks, and drives machines that no caller drives; epoll. |
//! | [`names`] | this crate | The names that a runtime re-exports to its users. |
//!
//! # A driver
//!
//! A driver keeps a [`Machine`](core::Machine), a [`Host`], a [`Clock`] and an implementation of [`Watch`] together. One turn
//! is:
//!
//! 1. *Read the clock* once. All calls of the turn get the same moment.
//! 2. *Report what is ready.* For each readable channel call [`Host::receive`]; when the descriptor of the process is readable
//!    call [`Host::reap`]. With level-triggered readiness one `receive` for each wait suffices. With edge-triggered
//!    readiness call it until it returns `false`, and once more after a hang-up; otherwise bytes, or the end, stay unread
//!    until the peer sends more, which may be never. Room to write needs no call: the next step sends.
//! 3. *Report the deadline* with [`Host::check_deadline`], after every wait. It does nothing while the deadline has not
//!    passed. A driver that omits it observes deadlines only when something else happens.
//! 4. *Serve* with [`Host::serve`]: it carries out effects, and sends what is outgoing. A driver that waits earlier leaves
//!    commands unsent.
//! 5. *Pop the notices* with [`Machine::poll_notice`](core::Machine::poll_notice), and wake the callers whom they concern.
//! 6. *Wait* until a descriptor is ready, at most until [`Machine::deadline`](core::Machine::deadline), which changes with
//!    every call.
//!
//! After a request of a caller (`execute`, `wait`, `shutdown`), the driver begins at step 4. If it is waiting on another
//! thread, it must be woken when the deadline has become earlier than the end of that wait.
//!
//! When the last owner drops the machine, the driver calls [`Host::end`]: it kills the process and removes everything before
//! it returns, in at most two seconds. A caller that stops waiting for a command calls
//! [`Machine::disown`](core::Machine::disown), and one that stops waiting for anything else
//! [`Machine::disown_wait`](core::Machine::disown_wait); otherwise the machine keeps the answers in memory.
//!
//! This is a whole driver for one caller.
//!
//! ```no_run
//! use std::io;
//! use std::os::fd::{AsFd, OwnedFd};
//! use std::sync::Arc;
//!
//! use qemu_machine_host::core::{Channel, Machine};
//! use qemu_machine_host::{Clock, Config, Host, Interest, Outcome, Poll, Poller, Shutdown, Source, Watch};
//!
//! /// Watches with a poller. The token of the process is 0, that of the monitor 1.
//! struct Wires(Poller);
//!
//! impl Watch for Wires {
//!     fn open(&mut self, _: Channel, socket: &Arc<OwnedFd>) -> io::Result<()> {
//!         self.0.add(Source::Descriptor(socket.as_fd()), 1, Interest::Read)
//!     }
//!
//!     fn set_write_interest(&mut self, _: Channel, socket: &Arc<OwnedFd>, wanted: bool) {
//!         let interest = if wanted { Interest::ReadWrite } else { Interest::Read };
//!         self.0.modify(Source::Descriptor(socket.as_fd()), 1, interest);
//!     }
//!
//!     fn close(&mut self, _: Channel, socket: &Arc<OwnedFd>) {
//!         self.0.remove(Source::Descriptor(socket.as_fd()));
//!     }
//!
//!     fn process_started(&mut self, process: &Arc<OwnedFd>) -> io::Result<()> {
//!         self.0.add(Source::Descriptor(process.as_fd()), 0, Interest::Read)
//!     }
//!
//!     fn process_reaped(&mut self, process: &Arc<OwnedFd>) {
//!         self.0.remove(Source::Descriptor(process.as_fd()));
//!     }
//! }
//!
//! /// Drives the machine until `answer` returns something.
//! fn drive<T>(
//!     machine: &mut Machine,
//!     host: &mut Host,
//!     (clock, wires): (Clock, &mut Wires),
//!     mut answer: impl FnMut(&mut Machine) -> Option<T>,
//! ) -> T {
//!     loop {
//!         host.serve(machine, clock.now(), wires);
//!         while machine.poll_notice().is_some() {} // One caller: it looks at the answer itself.
//!         if let Some(answer) = answer(machine) {
//!             return answer;
//!         }
//!         let timeout = machine.deadline().map(|(until, _)| until.since(clock.now()));
//!         let ready = wires.0.wait(timeout);
//!         let now = clock.now();
//!         for token in ready.tokens() {
//!             match token {
//!                 0 => host.reap(machine, now, wires),
//!                 _ => drop(host.receive(Channel::Monitor, machine, now, wires)),
//!             }
//!         }
//!         host.check_deadline(machine, now);
//!     }
//! }
//!
//! let (mut host, clock, mut wires) = (Host::default(), Clock::new(), Wires(Poller::new()?));
//! let mut machine = Machine::new(Config::new("qemu-system-x86_64"))?;
//! machine.launch(clock.now())?;
//! drive(&mut machine, &mut host, (clock, &mut wires), |machine| machine.launched())?;
//! machine.shutdown(clock.now(), Shutdown::default())?;
//! let outcome: Outcome = drive(&mut machine, &mut host, (clock, &mut wires), |machine| machine.outcome().cloned());
//! println!("{outcome}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Shared handles
//!
//! A runtime whose machines are used by several callers at once keeps the parts of the driver behind a lock, and implements
//! [`Shared`] for it. Its `Vm` is a newtype of [`Handle`] that dereferences to it, and its `Events` a newtype of
//! [`Subscription`]. So only the methods that wait are written for each runtime: `launch`, `execute`, `wait_any`, `wait`,
//! `shutdown`, `kill`, `disconnect`, `detach`, `run`, and `Events::next`. Under the lock, call no code of the user: encode
//! commands before, and parse replies after.
//!
//! `qemu-machine-mio` has no shared handles, and is the shortest runtime to learn from; `qemu-machine-blocking` has them.
//!
//! # Portability
//!
//! The operating system is behind one private trait, which Linux 5.4 or later implements.

mod channels;
mod child;
mod clock;
mod dial;
mod fault;
mod handle;
mod host;
mod identity;
mod local_end;
mod lock;
pub mod names;
#[cfg(feature = "record")]
mod play;
mod prepare;
#[cfg(feature = "qapi")]
pub mod qapi;
mod scratch_dir;
mod shared_fd;
mod signal_name;
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
