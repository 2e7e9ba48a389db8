//! Launch QEMU, speak QMP with it and own its run, with plain threads and calls that block.
//!
//! A [`Vm`] is a handle that threads clone and share. A call that waits drives the machine itself, without another
//! thread in between; while nobody calls, a thread of the library, the supervisor, reads what QEMU and the guest say, so
//! that neither ever stops because nobody listens. Everything that is decided is decided by `qemu-machine-core`,
//! which is re-exported whole. The module [`host`] carries its orders out on Linux, for the other runtimes as well.
//!
//! # Guides
//!
//! | where you come from, or are | guide |
//! |---|---|
//! | QEMU's Python classes | [`guides::from_python`]: each of their members, and what is other here |
//! | the crates `qapi` and `qmp` | [`guides::from_qapi`]: what each thing becomes |
//! | a script with `sleep`, `nc` and `expect` | [`guides::from_shell`]: what goes wrong there, and the same test here |
//! | stuck | [`guides::troubleshooting`]: by symptom, in the words that are printed |
//!
//! # From here on
//!
//! | for | there is |
//! |---|---|
//! | launching, speaking, ending | [`Config`], [`Vm`], [`Shutdown`], and how it ended: [`Outcome`] |
//! | commands with types | [`Command`] for your own, [`commands`] for the usual, the feature `qapi` for QEMU's whole schema |
//! | waiting for events, texts, the end | [`Wait`] from a [`Mark`] on; [`Events`] for all of a kind |
//! | what takes several commands and events | [`procedure`]: a job, an unplug, a migration, or one of your own |
//! | what this QEMU can do | [`Schema`], and [`Schema::check`] before a command is sent (feature `schema`) |
//! | a bug report, or a test without a QEMU | [`Config::recorded`], and [a guide](guides::records) (feature `record`) |
//! | whether QEMU is busy or stuck | [`Liveness`], in [`CommandError::TimedOut`] |
//!
//! # Threads
//!
//! ```no_run
#![doc = include_str!("../examples/on_threads.rs")]
//! ```
//!
//! # Giving up
//!
//! A call that waits is over at its deadline; several calls share one with [`until`]. Before that, another thread frees
//! everybody who waits by ending the machine ([`Vm::kill`], [`Vm::shutdown`]), or by letting go of one that is not ours
//! ([`Vm::disconnect`]): a wait then has [`WaitError::Ended`] or the end that it waited for, and a command
//! [`CommandError::Disconnected`].
//!
//! ```no_run
//! use qemu_machine_blocking::{Config, FOREVER, Mark, Vm, Wait, WaitError};
//!
//! let vm = Vm::launch(Config::new("qemu-system-x86_64").serial("tty"))?;
//! let watch = vm.clone();
//! let waiting = std::thread::spawn(move || watch.wait_any(&Mark::default(), [Wait::text("tty", "login: ")], FOREVER));
//! std::io::stdin().read_line(&mut String::new())?; // Somebody has had enough.
//! vm.kill()?;
//! assert!(matches!(waiting.join(), Ok(Ok(_) | Err(WaitError::Ended(_)))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! To give up one wait and leave the machine alone, give it [`Wait`]s for what would make it pointless: an event, a text,
//! the end. A wait may also be made in pieces, since one that begins at the same [`Mark`] finds what came in between.
//!
//! # Features
//!
//! None is on by default. All runtimes have the same.
//!
//! | feature | what it adds | crates that it brings |
//! |---|---|---|
//! | `record` | [`Config::recorded`], the module [`record`], [`play`], and [a guide](guides::records) | none |
//! | `schema` | [`Schema`], and the command [`QuerySchema`](commands::QuerySchema) that returns it | none |
//! | `tracing` | logs, as below | 3 |
//! | `qapi` | commands of the types of the crate `qapi-qmp`, as [a guide](guides::from_qapi) shows | those of `qapi-qmp` |
//!
//! # Logging
//!
//! With the feature `tracing`, which is off by default, a machine tells the crate [tracing](https://docs.rs/tracing)
//! what happens to it, in a span `machine` with its `name` ([`Config::name`]) and the `pid` of its process. All runtimes
//! have the feature, and tell the same.
//!
//! | target | level | what |
//! |---|---|---|
//! | `qemu_machine::lifecycle` | warn | `fault`: what the host could not do |
//! | | info | `spawned`, `ready` (`version`), `failed` (`why`), `ended` (`cause`) |
//! | | debug | `prepared` (`command`, `directory`, `log`), `ending` (`rung`), `exited` (`status`) |
//! | `qemu_machine::wire` | trace | `sent` and `received` (`channel`, `text`): the monitor, and the consoles by their names |
//!
//! **The wire may carry secrets**: passwords in `set_password`, keys in `object-add`, whatever is typed. That is why it
//! has a target of its own and is told at the lowest level only. Above it stand names, paths, the command line (which
//! everybody on the host can read as well), and how it ended.
//!
//! With the `EnvFilter` of tracing-subscriber, `RUST_LOG=qemu_machine=debug` shows lives and
//! `RUST_LOG=qemu_machine=trace` also the wire; `RUST_LOG=qemu_machine::wire=trace` shows the wire alone, without the
//! span that says whose it is.
//!
//! Set a subscriber for the whole program: what happens while nobody calls is told by another thread. It is called in
//! the middle of things, so it must not ask the machine anything. Printing it (`{vm:?}`) is allowed: that waits for
//! nobody.

mod driver;
mod events;
pub mod guides;
mod services;
mod vm;
mod wires;

pub use events::Events;
pub use qemu_machine_core::*;
#[cfg(feature = "record")]
pub use qemu_machine_host::play;
#[cfg(feature = "qapi")]
pub use qemu_machine_host::{Qapi, qapi};
pub use qemu_machine_host::{descriptor, until};
pub use services::{Agent, Qtest};
pub use vm::Vm;
