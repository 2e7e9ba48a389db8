//! Host side of a QEMU machine: carries out its effects on a Unix host, for every runtime.
//!
//! `qemu-machine-core` decides, and does no IO. This crate does the IO: it starts and reaps processes, creates sockets
//! and files, sends and receives. A runtime decides only how to wait. Users of a runtime do not need this crate; the
//! rest of this page is for the author of one.
//!
//! # The parts
//!
//! | part | provided by | what it does |
//! |---|---|---|
//! | [`Host`] | this crate | Carries out effects, reports inputs, owns the process, its guard and the sockets of one machine. |
//! | [`Watch`] | the runtime | Registers descriptors with the runtime's poller, and unregisters them. |
//! | [`Clock`] | this crate | Returns the [`Moment`](core::Moment) that every call takes. |
//! | [`Shared`] | the runtime | State of a machine behind a lock, for a runtime whose handles are shared. |
//! | [`Handle`], [`Subscription`] | this crate | The methods that return at once, on top of `Shared`. |
//! | [`WeakHandle`] | this crate | A handle that does not keep the machine alive. |
//! | [`ConsoleReader`] | this crate | A console as a stream of bytes, on top of [`WaitOnThread`], for a runtime for threads. In a loop, [`Host::read_console`]. |
//! | [`Supervisor`] | this crate | The thread `qemu-supervisor`, one in each program, started by the first launch. It starts processes for every runtime, and reaps those that no driver reaps. It also drives machines that are given to it, for a runtime without a loop of its own ([`Supervised`], [`Next`], [`Wake`]; `qemu-machine-blocking` uses it so). |
//! | [`Poller`] | this crate | epoll, or `poll(2)` on other systems than Linux, for a runtime without a poller of its own. |
//! | `tasks` | this crate, with that feature | The driver and all methods of a runtime for tasks, for any reactor that watches descriptors and has timers. `qemu-machine-tokio` and `qemu-machine-smol` use it. |
//! | [`names`] | this crate | The names that a runtime re-exports to its users. |
//!
//! # A driver
//!
//! A driver keeps a [`Machine`](core::Machine), a [`Host`], a [`Clock`] and an implementation of [`Watch`] together.
//! One turn is:
//!
//! 1. *Read the clock* after the wait. All reports of the turn get the same moment.
//! 2. *Report what is ready.* For each readable channel call [`Host::receive`]; when a descriptor of
//!    [`Watch::watch_completion`] is readable call [`Host::reap`]: without that report the launch does not continue.
//!    Writable channels need no call: step 4 sends.
//! 3. *Report the deadline* with [`Host::check_deadline`], after every wait. It does nothing while the deadline has not
//!    passed. A driver that omits it observes deadlines only when something else happens.
//! 4. *Serve* with [`Host::serve`]: it carries out effects, and sends what is outgoing. A driver that waits earlier
//!    leaves commands unsent.
//! 5. *Pop the notices* with [`Machine::poll_notice`](core::Machine::poll_notice), and collect the callers whom they
//!    concern, to wake them once the lock is released.
//! 6. *Wait* until a descriptor is ready, at most until [`Machine::deadline`](core::Machine::deadline). Read it right
//!    before, since any call may change it.
//!
//! After a request (`execute`, `wait`, `disown`, `shutdown`, …), the thread that made it does steps 4 and 5. Otherwise
//! the request stays in memory until something else happens. Step 6 is the driver's alone.
//!
//! The thread that drops the last owner of a machine calls [`Host::end`] (or [`Host::end_watched`], if descriptors must
//! be unregistered). It kills a process that was launched, disconnects from any other, and removes everything. It waits
//! for three seconds at most. Then it does step 5: callers may still wait through a [`WeakHandle`], which keeps the
//! machine, so that what [`Host::take_unused`] returns is dropped as well. What is not over by then is finished later:
//! the supervisor reaps the process, and a thread removes the files. (The module `tasks` leaves all of that to the
//! supervisor, since a thread of an executor must not wait.) To end a machine without blocking a thread, request a
//! shutdown or a kill first, and drop the machine when it has an outcome: then `end` has nothing left to do. A `Host`
//! that is dropped without `end` kills the process, but callers that wait get no result.
//!
//! `Machine` and `Host` are `Send`, and a [`Watch`] that is shared between threads must be too. One `Clock` may serve
//! several machines. A `Host` serves all runs of its machine.
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
//!     fn open(&mut self, _: Channel, socket: &Arc<OwnedFd>, interest: Interest) -> io::Result<()> {
//!         self.0.add(Source::Descriptor(socket.as_fd()), 1, interest)
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
//!     fn watch_completion(&mut self, process: &Arc<OwnedFd>) -> io::Result<()> {
//!         self.0.add(Source::Descriptor(process.as_fd()), 0, Interest::Read)
//!     }
//!
//!     fn unwatch_completion(&mut self, process: &Arc<OwnedFd>) {
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
//! # How long a call takes
//!
//! Except for [`Host::end`], no call waits for a peer, or for a file system, which may not answer. Files are created,
//! read and removed on threads named `qemu-files`, one for each operation that is in progress; logs with a limit are
//! shortened on a thread `qemu-log`; and a program is executed by a process that is not waited for. [`Host::reap`]
//! reports each of these when it is complete. The descriptors that say so are given to [`Watch::watch_completion`], and
//! may all have the same token. At the limit of descriptors or threads, the log is read and the files are removed in
//! [`Host::serve`] itself. What takes time:
//!
//! | call | what takes time | when |
//! |---|---|---|
//! | [`Host::serve`] | a clone of a process on the supervisor's thread: less than a millisecond | at the start of the process, and of each companion |
//! | [`Host::serve`], [`Host::receive`] | the start of a guard, which copies the page tables of the program: milliseconds for a program of some gigabytes | at the start of the process, or at the greeting, only if the machine has a guard; at the start of each companion |
//! | [`Host::serve`] | a read of `/proc/net/unix`: a millisecond for some thousand sockets | when a companion has created its socket and is probed |
//! | [`Host::receive`] | a search of `/proc` for the process that has dialled, and for the command line of QEMU | when QEMU dials the monitor, and at the greeting |
//! | [`Host::reap`] | a process that has ended but is not released, one second at most | at the end of a process that other code of the program reaps, or while SIGCHLD is ignored |
//! | [`Host::serve`] | a search of `/proc` for processes that still hold the monitor, and the end of the guard | at the end of a run |
//!
//! # Processes
//!
//! [`Host`] knows up to three processes of a machine, and no call of the runtime is needed for the last two:
//!
//! - *The process that was started*: QEMU, or its wrapper. The runtime watches it, and a run ends with it.
//! - *QEMU behind a wrapper*. The sender of the greeting, or the process that dialled the monitor, is reported as
//!   [`Input::PeerProcess`](core::Input::PeerProcess). It gets each signal, and is killed when the process that was
//!   started has ended.
//! - *The guard*: a child that kills both and removes sockets and the private directory when this program ends before
//!   it has done so. It is started only where the kernel would leave something behind:
//!   [`Config::wrapper`](core::Config::wrapper) lists when, and what it costs.
//!
//! Beside these are the [companions](core::Config::companion), each with a guard. A runtime watches them by
//! [`Watch::watch_completion`] and reports them by [`Host::reap`], as it does the process.
//!
//! # Operating systems
//!
//! On Linux the crate uses what Linux has: pidfds, epoll, `/proc`. On any other Unix it uses what POSIX has (`fork(2)`,
//! `waitid(2)`, `poll(2)`): this second implementation is selected without a setting, and compiles for FreeBSD, macOS and
//! Android; not for OpenBSD, where rustix has no `waitid(2)`. For tests, `RUSTFLAGS="--cfg qemu_machine_portable"`
//! selects it on Linux too. It differs from the first:
//!
//! - *The process of the peer is unknown*, and so are its arguments. A QEMU that has left the process group of its wrapper
//!   is neither signalled nor killed. A launch in which QEMU dials ([`Monitor::Socket`], [`Monitor::At`]) fails, unless
//!   [`Config::trust_peer`](core::Config::trust_peer) accepts any peer.
//! - *A machine has no identity*: it may outlive this program, but [`identity`] fails with
//!   [`FaultKind::Unsupported`], and a machine that another program left is not resumed.
//! - *It is unknown which sockets listen*: a companion that creates its socket by itself fails to launch, and a monitor that
//!   serves another client is noticed only because it sends no greeting. When more clients wait for it than its backlog
//!   holds, FreeBSD and macOS refuse the connection as if no process listened. Then a launch fails at once with a fault of
//!   the kind [`FaultKind::RefusedOrBusy`], unless it
//!   [waits for a listener](core::Config::wait_for_listener), and never with
//!   [`LaunchFailure::Dead`].
//! - *A socket that the caller gives does not block afterwards* on macOS, for all who share it: no flag of `send(2)` keeps
//!   one call from blocking there.
//! - *Templates need `/proc`*: QEMU opens the memory of a clone by its descriptor, as `/proc/self/fd/N`.
//! - *Abstract sockets, cgroups, network namespaces, and files without a path* do not exist. The first three are an error
//!   with [`FaultKind::Unsupported`]; the log has a path until it is open.
//! - *The size of logs is not bounded*: [`Config::log_limit`](core::Config::log_limit) has no effect, since POSIX has no call
//!   that removes the head of a file. Only the feature `tracing` reports that.
//! - *Each process has a guard*, except with [`Config::outlive_parent`](core::Config::outlive_parent): POSIX has no signal at
//!   the end of a parent. A program that is killed while its guard starts, within milliseconds after the process, leaves
//!   the process running.
//! - *Each process has a thread* `qemu-waiter`, which waits for its end. The start of a process copies the page tables of
//!   this program, and so takes milliseconds for a program of some gigabytes. The guard is a copy of this program: each page
//!   of memory that this program changes later exists twice until the guard ends.
//! - *A guard acts when the last process that has its socket has ended*: also a child of `fork(2)` that executes no program,
//!   and one that other code of the program starts while the guard starts. A program with more than 65,536 open descriptors
//!   leaves them to its guards.
//! - *When other code waits for all children* (`waitpid(2)`, -1), the exit status is lost, and a signal that is sent at that
//!   moment may reach a process that got the same id.
//! - *A poller takes time in proportion to the number of its sources*, and holds a copy of each descriptor.
//! - *A process that other code of the program starts* may inherit a descriptor that is created in the same moment.
//!
//! # Readiness
//!
//! [`Host::receive`] reads once, and returns whether there may be more. A hang-up or an error of a descriptor counts as
//! readable: the read returns the end or the error.
//!
//! | poller | what the driver does |
//! |---|---|
//! | level-triggered (poll, epoll, kqueue) | One [`Host::receive`] for each readable channel and wait. What is left is ready at the next wait. |
//! | edge-triggered (mio), or one-shot, or readiness that is cached (tokio, async-io) | Consume the readiness, then [`Host::receive`] until it returns `false`. Bytes that are left are not announced again before the peer sends more, which may be never. |
//!
//! - *A hang-up needs one more call.* `false` means that there are no bytes now. An edge-triggered driver that saw a
//!   hang-up or an error calls [`Host::receive`] once more after `false`, to read the end. The edge does not come
//!   again, so without that call the machine never learns that its peer is gone.
//! - *Share the loop.* A peer that sends without end keeps a socket readable for ever. A driver that serves more than
//!   one machine stops after a few rounds, remembers that the channel is still readable, and returns to it in the next
//!   turn.
//! - *After the end of a channel* the host calls [`Watch::close`], and the channel is not among
//!   [`Machine::channels`](core::Machine::channels) any more. Readiness that arrives for it later is stale: `receive`
//!   ignores it. The process may still run; its descriptor stays watched until [`Watch::unwatch_completion`]. The same
//!   holds for the other descriptors of that kind: a [`Host::reap`] too many does nothing.
//! - *The log*, if it is followed, is a channel whose descriptor is the reading end of a pipe. It is never written to.
//! - *A channel that listens* is readable when a process dials. `true` then means that the host has accepted or refused
//!   it, and that there may be more: another process may wait to be accepted.
//! - *On [`Watch::set_write_interest`]`(true)`, discard any readiness for writing that the poller had cached*, and wait
//!   for the next edge: the host has just found the socket full, or a connect is in progress. Otherwise the driver is
//!   woken at once, again and again, and spins. On `false`, end the interest; a level-triggered poller that keeps it
//!   spins as well, since a socket is almost always writable.
//! - *Watch calls happen inside of [`Host`] calls*, so a source may appear or vanish in each of them. A driver that
//!   collects ready sources first must expect that one of them is gone when it comes to it.
//!
//! # Several callers
//!
//! A runtime whose machines are used by several callers at once keeps the parts of the driver behind a lock, and
//! implements [`Shared`] for it. The rules:
//!
//! - *Serve after every request*, whichever thread makes it: the caller's thread holds the lock, so it calls
//!   [`Host::serve`] itself and sends at once.
//! - *Wake the driver.* The thread that made a request does so, after it released the lock, in three cases:
//!   1. [`Machine::deadline`](core::Machine::deadline) is now earlier than the end of the driver's wait: the driver
//!      would sleep past it. So the driver stores that end beside the machine before it unlocks to wait.
//!   2. [`Watch`] added a source, registered one again, or added interest in writing, that the wait in progress does not
//!      notice. `epoll_wait(2)` notices it, `poll(2)` does not, and an async source must be polled by the driver's task.
//!   3. The request ended the run (the machine has an outcome), so that the driver returns. A relaunch begins with a
//!      new driver.
//!
//!   A wake-up must persist (an eventfd, a waker): it may come before the wait begins. Waking the driver after every
//!   request is correct too, and costs one system call a command.
//! - *Call wakers after the lock was released*, and drop them there too. A waker is code of the executor: it may poll a
//!   task that takes the lock, or drop the last handle, which ends the machine. Under the lock both deadlock.
//! - *Call no code of the user under the lock*: encode commands ([`Encoded`](core::wire::Encoded)) before, and parse
//!   replies ([`Payload`](core::Payload)) after.
//! - *Resume panics last.* The host stores a panic of code that it called, such as an observer of the wire.
//!   [Take](Host::take_panic) it before the lock is released, and resume it after that, when others drive the machine, and
//!   what the caller waited for is disowned. A driver that unwinds earlier leaves the other callers without a driver.
//! - *Disown what a caller no longer waits for*: [`Machine::disown`](core::Machine::disown) for a command,
//!   [`Machine::disown_wait`](core::Machine::disown_wait) for a wait, which includes a wait for the end. Otherwise the
//!   result is kept until it is claimed. Ids are never reused, so disowning after a claim, or twice, does nothing: a
//!   guard that disowns whenever it is dropped is correct.
//! - *Wake by notice.* [`Answered`](core::Notice::Answered), [`Waited`](core::Notice::Waited) and
//!   [`Queued`](core::Notice::Queued) carry the id of the one command, wait or subscription; `Ready` and `Ended`
//!   concern the caller that waits for a launch, and `Gap` follows the `Ready` of a resumed machine. A wait for
//!   the end is a wait like others, and ends with `Waited`. Other notices (`Event`, `Printed`) are for callers that
//!   look at the machine themselves, and may be ignored. A runtime that wakes all callers for each notice is correct,
//!   and slow.
//! - *No lock is held while the driver waits*, otherwise requests of other callers wait for the next event.
//!
//! # The verbs of a runtime
//!
//! A runtime's `Vm` is a newtype of [`Handle`] that dereferences to it, its `WeakVm` wraps a [`WeakHandle`], and its
//! `Events` wraps a [`Subscription`]. They bring the methods that return at once. A runtime adds those that wait, and
//! those alone:
//!
//! | type | methods | request, and how its end is observed |
//! |---|---|---|
//! | `Vm` | `launch`, `attach`, `resume`, `relaunch` | [`Machine::launch`](core::Machine::launch); `Ready` or `Ended`, then [`launched`](core::Machine::launched) |
//! | | `execute`, `execute_by`, `execute_with_fd`, `execute_with_fd_by`, `execute_raw`, `execute_raw_by`, `execute_line` | [`send`](core::Machine::send); `Answered`, then [`take`](core::Machine::take) |
//! | | `wait_any` | [`wait`](core::Machine::wait); `Waited`, then [`claim_wait`](core::Machine::claim_wait) |
//! | `Vm`, `WeakVm` | `wait`, which waits for the end | [`wait_for_end`](core::Machine::wait_for_end); `Waited`, then [`claim_wait`](core::Machine::claim_wait) |
//! | `Vm` | `shutdown`, `kill`, `disconnect`, `detach` | the request of that name; [`wait_for_end`](core::Machine::wait_for_end); `Waited`, then [`claim_end`](core::Machine::claim_end) |
//! | | `shutdown_all` | [`begin_shutdown`](Handle::begin_shutdown) of each, then `shutdown` of each |
//! | | `run` | [`procedure::Run`] with a command or a wait for each step, in a [`DisownOnDrop`], which disowns it when the call is dropped |
//! | | `agent`, `qtest` | `launch` of [`Handle::service`], as a machine of its own |
//! | `Events` | `next` | [`wait_for_event`](core::Machine::wait_for_event); `Waited`, then [`claim_event`](core::Machine::claim_event) |
//! | `Agent`, `Qtest` | `attach`, `execute`, `line`, `disconnect`, … | as `Vm`; the error of the launch becomes a [`ServiceError`] |
//!
//! `execute` and `execute_raw` wait for one minute at most, and have a form with a deadline (`…_by`). In an async
//! runtime every future may be dropped at any await. In a runtime without handles (`qemu-machine-mio`) requests return
//! tickets, and the caller's loop receives the notices.
//!
//! `qemu-machine-mio` is the shortest runtime to compare with; `qemu-machine-blocking` and the module `tasks` have shared
//! handles. A runtime for tasks needs none of this: it implements the traits of `tasks`.
//!
//! # Portability
//!
//! The operating system is behind the private traits of the module `sys`, with an implementation for Linux 5.4 or later and
//! one for any Unix.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a peer must not end the program")]

mod background;
mod channels;
mod child;
mod clock;
mod companion_process;
mod companions;
mod console_cursor;
mod console_reader;
mod dial;
mod disown_on_drop;
mod ending;
mod fault;
mod file_id;
mod file_operation;
mod files;
mod handle;
mod home;
mod host;
mod identity;
mod local_end;
mod lock;
mod log_bound;
mod log_pipe;
mod log_reader;
pub mod names;
mod panic;
#[cfg(feature = "record")]
mod play;
mod prepare;
#[cfg(feature = "qapi")]
pub mod qapi;
mod qemu_process;
mod readers;
mod registry;
mod scratch_dir;
mod shared_fd;
mod signal_name;
mod socket;
mod subscription;
mod supervisor;
mod sys;
#[cfg(feature = "tasks")]
pub mod tasks;
mod template;
mod trace;
mod watch;
mod wire;

pub use clock::Clock;
pub use console_reader::{ConsoleReader, WaitOnThread};
pub use disown_on_drop::DisownOnDrop;
pub use fault::fault;
pub use handle::{Handle, Shared, WeakHandle};
pub use home::{Home, Local};
pub use host::Host;
pub use identity::{IdentityError, identity};
pub use lock::{lock, try_lock};
#[doc(inline)]
pub use names::*;
pub use panic::CaughtPanic;
pub use qemu_machine_core as core;
pub use readers::ReaderId;
pub use subscription::Subscription;
pub use supervisor::{Next, Supervised, Supervisor, Wake};
pub use sys::{Interest, Poll, Poller, Ready, Source};
pub use watch::Watch;
