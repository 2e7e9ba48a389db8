//! Runtime for threads: calls that block, which launch QEMU, speak QMP with it and own its lifetime.
//!
//! A [`Vm`] is a handle that threads clone and share. A call that waits drives the machine itself, without another
//! thread in between. While no call waits, a thread of the library, the supervisor, reads what QEMU and the guest send,
//! so that neither blocks on a full socket. `qemu-machine-core`, re-exported as [`core`], makes every decision;
//! `qemu-machine-host` does the IO.
//!
//! # Guides
//!
//! | coming from | guide |
//! |---|---|
//! | QEMU's Python classes | [`guides::from_python`]: each of their members, and the differences |
//! | QEMU's `qmp-shell` | [`guides::from_qmp_shell`]: the same sessions in `qmpsh`, and the differences |
//! | the crates `qapi` and `qmp` | [`guides::from_qapi`]: the replacement of each item |
//! | a script with `sleep`, `nc` and `expect` | [`guides::from_shell`]: where such a script fails, and the same test here |
//! | programs beside QEMU: virtiofsd, swtpm, passt | [`guides::companions`]: the command line of each |
//! | a scheduler: Kubernetes, Slurm, systemd, ssh | [`guides::schedulers`]: what each guarantees for machines, and what is not possible |
//! | tests that boot a guest each | [`guides::templates`]: boot once, clone in a tenth of a second |
//! | an error | [`guides::troubleshooting`]: by symptom, with the texts that are printed |
//!
//! # Overview
//!
//! | to | use |
//! |---|---|
//! | launch, command and end a machine | [`Config`], [`Vm`] (and the methods of [`Handle`]), [`Shutdown`], and the [`Outcome`] |
//! | execute commands with types | [`Command`] for your own, [`commands`] for common ones, the feature `qapi` for QEMU's whole schema |
//! | wait for events, console text, the end | [`Wait`] from a [`Mark`] on; [`Events`] for every event of a kind |
//! | run commands in a shell on a console, read its lines | [`Vm::run`] with [`procedure::Shell`]; [`Vm::lines`] |
//! | follow what QEMU itself prints | [`Config::follow_log`], and [`Wait::log`] by [`LogLevel`] |
//! | start a file server, a TPM or a network with the machine | [`Config::companion`] and [`Companion`] |
//! | give another program a monitor | [`Config::extra_monitor`] |
//! | execute commands of the human monitor | [`commands::HumanMonitorCommand`] |
//! | read a console as a stream of bytes | [`Handle::console_reader`], with back-pressure on request |
//! | end many machines at the same time | [`Vm::shutdown_all`] |
//! | watch the end of a machine that others own | [`Vm::downgrade`], and [`WeakVm::wait`] |
//! | run several commands and events as one | [`procedure`]: a job, an unplug, a migration, a reboot, a program in the guest, or one of your own |
//! | check what this QEMU supports | [`Schema`], and [`Schema::check`] before a command is sent (feature `schema`) |
//! | report a bug, or test without a QEMU | [`Config::recorded`], and [a guide](guides::records) (feature `record`) |
//! | find out whether QEMU is busy or stuck | [`Liveness`], in [`CommandError::TimedOut`] |
//!
//! # Threads
//!
//! ```no_run
#![doc = include_str!("../examples/on_threads.rs")]
//! ```
//!
//! # Cancelling
//!
//! A call that waits ends at its deadline; several calls share one deadline with [`until`]. [`Cancel`] gives up one call
//! earlier, or several, from another thread, also a launch. To stop all waits, end the machine from another thread
//! ([`Vm::kill`], [`Vm::shutdown`]), or disconnect or detach from it ([`Vm::disconnect`], [`Vm::detach`]). A wait then
//! returns [`WaitError::Ended`], or the end if it waited for that, and a command returns [`CommandError::Disconnected`].
//!
//! ```no_run
//! use qemu_machine_blocking::{Config, FOREVER, Mark, Vm, Wait, WaitError};
//!
//! let vm = Vm::launch(Config::new("qemu-system-x86_64").serial("tty"))?;
//! let watch = vm.clone();
//! let waiting = std::thread::spawn(move || watch.wait_any(&Mark::default(), [Wait::text("tty", "login: ")], FOREVER));
//! std::io::stdin().read_line(&mut String::new())?; // The user presses Enter to stop.
//! vm.kill()?;
//! assert!(matches!(waiting.join(), Ok(Ok(_) | Err(WaitError::Ended(_)))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Add a [`Wait`] for each thing that makes a wait pointless: an event, a text, the end. A wait may also be split into
//! several shorter ones: each that begins at the same [`Mark`] finds what happened in between.
//!
//! # Features
//!
//! None is on by default. All runtimes have them; `qemu-machine-smol` also has `smol`.
//!
//! | feature | what it adds | crates that it brings |
//! |---|---|---|
//! | `record` | [`Config::recorded`], the module [`record`], [`play`], and [a guide](guides::records) | none |
//! | `schema` | [`Schema`], and the command [`QuerySchema`](commands::QuerySchema) that returns it | none |
//! | `regex` | `Wait::regex` and `Wait::line_regex`: console text by a regular expression | `regex-automata`, `regex-syntax` |
//! | `tracing` | logs, as below | 3 |
//! | `qapi` | execution of the command types of the crate `qapi-qmp`, as [a guide](guides::from_qapi) shows | those of `qapi-qmp` |
//!
//! # Logging
//!
//! With the feature `tracing`, which is off by default, a machine logs through the crate
//! [tracing](https://docs.rs/tracing), in a span `machine` with its `name` ([`Config::name`]) and the `pid` of its process.
//! All runtimes have the feature, and log the same.
//!
//! | target | level | what |
//! |---|---|---|
//! | `qemu_machine::lifecycle` | warn | `fault`: an operation of the host that failed |
//! | | info | `spawned`, `ready` (`version`), `failed` (`why`), `ended` (`cause`); `companion started` (`companion`, `pid`), `companion exited` (`companion`, `status`) |
//! | | debug | `prepared` (`command`, `directory`, `log`), `ending` (`rung`), `exited` (`status`) |
//! | `qemu_machine::wire` | trace | `sent` and `received` (`channel`, `text`): the monitor, and the consoles by their names |
//!
//! **The wire may carry secrets**: passwords in `set_password`, keys in `object-add`, console input. That is why the
//! wire has a target of its own and is logged at the lowest level only. The levels above contain names, paths, the
//! command line (which other users of the host can read as well: `/proc/pid/cmdline` in `proc(5)`), and how the machine
//! ended.
//!
//! With the `EnvFilter` of tracing-subscriber, `RUST_LOG=qemu_machine=debug` shows lifecycles and
//! `RUST_LOG=qemu_machine=trace` the wire as well; `RUST_LOG=qemu_machine::wire=trace` shows the wire alone, without
//! the span that names the machine.
//!
//! Set a subscriber for the whole program, since the supervisor's thread logs as well. The subscriber is called while
//! the machine is locked, so it must not call the machine: that would deadlock. Printing a handle (`{vm:?}`) is
//! allowed, and does not wait for the lock.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a peer must not end the program")]

mod cancel;
mod driver;
mod events;
mod followers;
pub mod guides;
mod services;
mod shared;
mod vm;
mod wires;

pub use cancel::Cancel;
pub use events::Events;
pub use qemu_machine_core as core;
#[doc(inline)]
pub use qemu_machine_host::names::*;
pub use qemu_machine_host::{Handle, Subscription, WeakHandle};
pub use services::{Agent, Qtest};
pub use vm::{Vm, WeakVm};

/// Console of a machine as a stream of bytes to read: see [`qemu_machine_host::ConsoleReader`].
pub type ConsoleReader = qemu_machine_host::ConsoleReader<driver::SharedMachine>;
