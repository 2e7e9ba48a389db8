//! Handle of a machine that several callers share, with the methods that return at once, for every runtime.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

#[cfg(feature = "record")]
use qemu_machine_core::record::Record;
use qemu_machine_core::session::Counters;
use qemu_machine_core::wire::Greeting;
use qemu_machine_core::{
    Address, CommandLine, Config, HostFault, Identity, Machine, Mark, Misuse, Moment, Outcome, Service, Shutdown, State,
};

use crate::host::Host;
use crate::identity::{IdentityError, identity};
use crate::log_reader::LogReader;
use crate::wire::Wire;

/// State of one machine that its handles share. A runtime implements it, and gets [`Handle`] and
/// [`Subscription`](crate::Subscription) in return.
///
/// Every method may be called on any thread at any time. The closures run under the lock of the implementation. They
/// must call no code of the user and no other method of the same value: with a lock that is not reentrant, that
/// deadlocks.
pub trait Shared: Send + Sync + Sized + 'static {
    /// The runtime's subscription to events, made of a [`Subscription`](crate::Subscription): it adds the runtime's way
    /// of waiting for the next event.
    type Events;

    /// Makes a request, and does what follows from it before it returns: lock, call `ask`, [`Host::serve`], pop the
    /// notices, wake the driver if it must be woken, unlock, call the wakers.
    fn ask<T>(&self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T;

    /// Calls the machine for a query, or to pop what is queued already. It is not for requests: their effects would
    /// wait for the next [`ask`](Self::ask).
    fn with_machine<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T;

    /// Reads from the machine without waiting for the lock. `None` means that another thread holds it.
    fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> Option<T>;

    /// Calls the host side of the machine.
    fn with_host<T>(&self, act: impl FnOnce(&mut Host) -> T) -> T;

    /// Ends the machine, as [`Host::end`] does, and wakes the callers and the driver. Dropping the last handle calls it, on
    /// the thread that drops it.
    fn end(self: &Arc<Self>);
}

/// Handle of a machine, with the methods that return at once. A runtime's `Vm` dereferences to it and adds the methods
/// that wait.
///
/// Handles are clones of each other, and a [`Subscription`](crate::Subscription) holds one. Dropping the last one kills
/// a machine that was launched, and disconnects from one that was attached to. A [`WeakHandle`] does not count.
pub struct Handle<S: Shared>(Arc<Owner<S>>);

/// Owner of the machine, which all handles share: dropping it ends the machine.
struct Owner<S: Shared>(Arc<S>);

impl<S: Shared> Handle<S> {
    /// Creates the handle of a machine. Call it once for each machine, and clone the result. Only clones share the
    /// ownership: the result of a second call would end the machine when it is dropped, while the first is in use.
    #[must_use]
    pub fn new(shared: Arc<S>) -> Self {
        Self(Arc::new(Owner(shared)))
    }

    /// Returns the runtime's state of the machine, for the runtime.
    #[must_use]
    pub fn shared(&self) -> &Arc<S> {
        &self.0.0
    }

    /// Returns a handle that does not keep the machine alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakHandle<S> {
        WeakHandle { owner: Arc::downgrade(&self.0), shared: Arc::clone(self.shared()) }
    }

    /// Returns the position after everything that was received so far. Take a mark, act, and wait from the mark:
    /// nothing that happens in between is missed.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.shared().with_machine(|machine| machine.mark())
    }

    /// Queues text to be written to a console, and returns at once. The text is sent as fast as the guest reads it.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`]; [`Misuse::ConsoleInputFull`] when more than
    /// [`Limits::console_input`](qemu_machine_core::Limits::console_input) bytes would wait (1 MiB by default);
    /// [`Misuse::NotLaunched`] and [`Misuse::Ended`]. Then nothing is queued.
    pub fn console_write(&self, console: &str, text: impl AsRef<[u8]>) -> Result<(), Misuse> {
        let text = text.as_ref();
        self.shared().ask(|machine, now| machine.console_write(now, console, text))
    }

    /// Returns what a console printed from a mark on, as far as it is retained: the last
    /// [`Limits::console`](qemu_machine_core::Limits::console) bytes, 1 MiB by default.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console(&self, name: &str, from: &Mark) -> Result<Vec<u8>, Misuse> {
        self.shared().with_machine(|machine| machine.console_since(name, from).map(<[u8]>::to_vec))
    }

    /// Returns what a console printed from a mark on, and the mark after it, to read a console piece by piece.
    /// [`Wait::output`](qemu_machine_core::Wait::output) waits for the next piece.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console_from(&self, name: &str, from: &Mark) -> Result<(Vec<u8>, Mark), Misuse> {
        self.shared()
            .with_machine(|machine| machine.console_from(name, from).map(|(bytes, mark)| (bytes.to_vec(), mark)))
    }

    /// Begins to end the machine by `quit`, then SIGTERM, then SIGKILL, and returns at once. The `shutdown` and the `wait`
    /// of the runtime return how it ended. For many machines: begin with each, and wait for each, so that they end at the
    /// same time; `shutdown_all` of the runtime does that.
    ///
    /// [`Shutdown::within`] of zero is SIGKILL at once. A second shutdown joins the one in progress, whose time limits
    /// stay.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotLaunched`] before the first launch.
    pub fn begin_shutdown(&self, how: Shutdown) -> Result<(), Misuse> {
        self.shared().ask(|machine, now| machine.shutdown(now, how))
    }

    /// Returns the state of the machine: idle, launching, running, ending or ended.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared().with_machine(|machine| machine.state())
    }

    /// Returns how the machine ended. `None` means that it has not ended, or that something of it is not removed yet.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.shared().with_machine(|machine| machine.outcome().cloned())
    }

    /// Returns the [name](Config::name) of the machine, also of one that is resumed.
    #[must_use]
    pub fn name(&self) -> String {
        self.shared().with_machine(|machine| machine.name().to_owned())
    }

    /// Returns the id of the process that was started, while it lives: QEMU, or its [wrapper](Config::wrapper). `None` means
    /// that no process was started, that it has ended or was left to another program, or that the machine was attached to.
    /// The system may give the id of an ended process to another one, which a caller would signal; [`Outcome::pid`] has it
    /// for reports.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.shared().with_machine(|machine| machine.pid())
    }

    /// Returns the id of the process of QEMU, also behind a [wrapper](Config::wrapper) that stays, while the process that was
    /// started lives. `None` means that it is not known, that the process has ended, or that the machine was attached to.
    #[must_use]
    pub fn qemu_pid(&self) -> Option<u32> {
        self.shared().with_machine(|machine| machine.qemu_pid())
    }

    /// Returns the identity of a machine that [outlives its parent](Config::outlive_parent), or was resumed. Another
    /// program, or this one after a restart, resumes the machine with it. Store it as soon as the machine runs: a crash
    /// leaves no time to do so later. [`registered`](crate::registered) finds those that were not stored.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Misuse`] with [`Misuse::NotDetachable`] when the machine was not configured to outlive its
    /// parent, and with [`Misuse::NotRunning`] before its launch is complete and after its end has begun.
    /// [`IdentityError::Host`] when the operating system does not report what identifies the process or its socket.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        self.shared().with_machine(|machine| identity(machine))
    }

    /// Returns QEMU's greeting: its version, and the capabilities of its monitor (`docs/interop/qmp-spec.rst`, Server
    /// Greeting). `None` means that none was received.
    #[must_use]
    pub fn greeting(&self) -> Option<Greeting> {
        self.shared().with_machine(|machine| machine.greeting().cloned())
    }

    /// Returns whether out-of-band execution was negotiated (`docs/interop/qmp-spec.rst`, Out-of-band execution).
    #[must_use]
    pub fn out_of_band(&self) -> bool {
        self.shared().with_machine(|machine| machine.session().out_of_band())
    }

    /// Returns the command line of the process, also after its end. It is empty for a machine that was attached to. That
    /// of a resumed one is the one that the operating system reports, and is empty if this user may not read it.
    #[must_use]
    pub fn command_line(&self) -> CommandLine {
        self.shared().with_machine(|machine| machine.command_line().clone())
    }

    /// Returns counters of messages that reached no caller: replies that were late or unmatched, and messages that were
    /// unreadable or too large. Events are not counted here.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared().with_machine(|machine| machine.session().counters())
    }

    /// Returns the inputs and outputs of the machine so far, for a bug report or for tests without a QEMU. `None` means
    /// that the machine is not [recorded](Config::recorded).
    #[cfg(feature = "record")]
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.shared().with_machine(|machine| machine.record())
    }

    /// Calls these functions with the bytes that are sent and received on the monitor from now on, in place of earlier
    /// ones, for a log of the wire. The pieces are those of the socket: a message may be in several, and several in one.
    /// The bytes are the peer's, and may be secret (`set_password`, `object-add`).
    ///
    /// They are called while the machine is locked, on the thread that sends or receives. They must return soon, and must
    /// not use the machine, or they deadlock: pass the bytes on, as to a channel. They must not own a handle of the
    /// machine either: the machine owns them, so it would never be dropped.
    ///
    /// Their panic is resumed in the call in which they are called, when its work is done. In the driver of a task, and on
    /// the supervisor's thread, the panic hook alone reports it.
    ///
    /// ```no_run
    /// # use std::sync::mpsc::channel;
    /// # use qemu_machine_blocking::{Config, Vm};
    /// # let vm = Vm::launch(Config::new("qemu-system-x86_64"))?;
    /// let (log, lines) = channel();
    /// let other = log.clone();
    /// vm.observe_wire(
    ///     move |sent| drop(log.send(format!("> {}", sent.escape_ascii()))),
    ///     move |received| drop(other.send(format!("< {}", received.escape_ascii()))),
    /// );
    /// vm.execute("query-status")?;
    /// println!("{}", lines.recv()?); // > {"execute":"query-status","id":…}
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observe_wire(&self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static) {
        // The earlier ones are dropped without the lock: that may run the caller's code, which may use the machine.
        drop(self.shared().with_host(|host| host.replace_wire(Wire::observed(sent, received))));
    }

    /// Returns the configuration that attaches to a service of the machine, for callers that launch the attachment
    /// themselves.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without the service, when its only connection was given
    /// away (qtest), or when the machine has ended; [`Misuse::ServiceInUse`] while another client is attached to it.
    pub fn service(&self, service: Service) -> Result<Config, Misuse> {
        self.shared().with_host(|host| host.service(service))
    }

    /// Returns the private directory of the machine. Files that are created there are removed with it; if this program
    /// is killed, the directory stays with files that the library did not create. `None` means that nothing needed a
    /// directory, as by default: [`Config::temporary_directory`] lists what does.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        self.shared().with_machine(|machine| machine.prepared().directory.clone()).map(path)
    }

    /// Returns the address of the monitor's socket that was created for this machine, with the real TCP port. `None`
    /// means that no socket with an address was created.
    #[must_use]
    pub fn monitor_address(&self) -> Option<Address> {
        self.shared().with_machine(|machine| machine.prepared().monitor.clone())
    }

    /// Returns each console that has a [log](Config::console_log), with the path of that, also for a machine that is resumed.
    #[must_use]
    pub fn console_logs(&self) -> Vec<(String, PathBuf)> {
        let logs = |machine: &mut Machine| {
            machine.console_logs().map(|(console, log)| (console.to_owned(), path(log.to_vec()))).collect()
        };
        self.shared().with_machine(logs)
    }

    /// Returns the id of the process of a [companion](Config::companion). `None` means that it is not alive.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownCompanion`].
    pub fn companion_pid(&self, name: &str) -> Result<Option<u32>, Misuse> {
        self.shared().with_machine(|machine| machine.companion_pid(name))
    }

    /// Returns a reader of what a [companion](Config::companion) prints, while it runs and after its end. Reading may block,
    /// as with [`log`](Self::log).
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownCompanion`].
    pub fn companion_log(&self, name: &str) -> Result<LogReader, Misuse> {
        let position = |machine: &mut Machine| machine.companion_names().position(|other| other == name);
        let index = self.shared().with_machine(position).ok_or_else(|| Misuse::UnknownCompanion(name.into()))?;
        Ok(self.shared().with_host(|host| host.companion_log(index)))
    }

    /// Returns the path of each [extra monitor](Config::extra_monitor), also for a machine that is resumed.
    #[must_use]
    pub fn extra_monitors(&self) -> Vec<PathBuf> {
        let paths = |machine: &mut Machine| machine.extra_monitors().map(|monitor| path(monitor.to_vec())).collect();
        self.shared().with_machine(paths)
    }

    /// Returns the path of the log, to which QEMU's standard output and error are written, also after the end. A log in
    /// [`Config::log_directory`] is kept after the end; that of a machine that [outlives its
    /// parent](Config::outlive_parent) is removed with its private directory. `None` means that the log has no path, as
    /// by default, or that no process was started. [`log`](Self::log) reads it in any case.
    #[must_use]
    pub fn log_path(&self) -> Option<PathBuf> {
        self.shared().with_machine(|machine| machine.prepared().log.clone()).map(path)
    }

    /// Returns the last bytes that QEMU printed, at most `limit`, while it runs and after its end. The result is empty
    /// for a machine that was attached to. It reads a file, and may block for as long as the file system does not
    /// answer: in a task, call [`log_reader`](Self::log_reader), and read on a thread for blocking calls.
    ///
    /// # Errors
    ///
    /// [`HostFault`] when the log cannot be read.
    pub fn log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.log_reader().read(limit)
    }

    /// Returns a reader of what QEMU prints, which does not need this machine, for example for
    /// [`FollowJob::log`](qemu_machine_core::procedure::FollowJob::log). It reads the log of the present run.
    #[must_use]
    pub fn log_reader(&self) -> LogReader {
        self.shared().with_host(|host| host.log())
    }
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

impl<S: Shared> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Prints the [`Machine`], or `in use` while another thread holds its lock: printing does not wait.
impl<S: Shared> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = f.alternate();
        // The formatter is code of the caller, which may call the machine: it is called after the lock was released.
        let shown = self.shared().peek(|machine| if lines { format!("{machine:#?}") } else { format!("{machine:?}") });
        f.write_str(shown.as_deref().unwrap_or("in use"))
    }
}

impl<S: Shared> Drop for Owner<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Handle of a machine that does not keep the machine alive. A runtime's `WeakVm` is a newtype of it, and adds the wait
/// for the end.
///
/// It keeps the runtime's state of the machine, in which the outcome stays known, and so the memory of that until it is
/// dropped.
pub struct WeakHandle<S: Shared> {
    owner: Weak<Owner<S>>,
    shared: Arc<S>,
}

impl<S: Shared> WeakHandle<S> {
    /// Returns a handle that keeps the machine alive. `None` means that the last one was dropped.
    #[must_use]
    pub fn upgrade(&self) -> Option<Handle<S>> {
        self.owner.upgrade().map(Handle)
    }

    /// Returns the runtime's state of the machine, for the runtime. A runtime waits with it for the end, and for nothing
    /// else: other requests are for the owners of the machine.
    #[must_use]
    pub fn shared(&self) -> &Arc<S> {
        &self.shared
    }
}

impl<S: Shared> Clone for WeakHandle<S> {
    fn clone(&self) -> Self {
        Self { owner: Weak::clone(&self.owner), shared: Arc::clone(&self.shared) }
    }
}

/// Prints no part of the machine.
impl<S: Shared> fmt::Debug for WeakHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(Weak)")
    }
}
