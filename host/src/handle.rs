//! Handle of a machine that several callers share: the methods that return at once, for every runtime.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "record")]
use qemu_machine_core::record::Record;
use qemu_machine_core::session::Counters;
use qemu_machine_core::wire::Greeting;
use qemu_machine_core::{
    Address, CommandLine, Config, HostFault, Identity, Machine, Mark, Misuse, Moment, Outcome, Service, State,
};

use crate::host::Host;
use crate::identity::{IdentityError, identity};

/// State of one machine that its handles share. A runtime implements it, and gets [`Handle`] and
/// [`Subscription`](crate::Subscription).
///
/// Every method may be called on any thread at any time. The closures run under the lock of the implementation. They call
/// no code of the user and no other method of the same value: with a lock that is not reentrant that would deadlock.
pub trait Shared: Send + Sync + Sized + 'static {
    /// The runtime's subscription to events, made of a [`Subscription`](crate::Subscription): it adds the runtime's way of
    /// waiting for the next event.
    type Events;

    /// Calls the machine, and carries out the effects of the call before it returns.
    fn ask<T>(&self, ask: impl FnOnce(&mut Machine, Moment) -> T) -> T;

    /// Calls the machine where no effect can follow: for queries, and to take what is queued already.
    fn with_machine<T>(&self, act: impl FnOnce(&mut Machine) -> T) -> T;

    /// Reads from the machine without waiting for the lock. `None` means that another thread holds it.
    fn peek<T>(&self, look: impl FnOnce(&Machine) -> T) -> Option<T>;

    /// Calls the host side of the machine.
    fn with_host<T>(&self, act: impl FnOnce(&mut Host) -> T) -> T;

    /// Ends the machine ([`Host::end`]). The last handle calls it when it is dropped.
    fn end(&self);
}

/// Handle of a machine, with the methods that return at once. A runtime's `Vm` dereferences to it and adds those that wait.
///
/// Handles are clones of each other. The last one that is dropped ends the machine.
pub struct Handle<S: Shared>(Arc<Owner<S>>);

/// What all handles of a machine own together.
struct Owner<S: Shared>(Arc<S>);

impl<S: Shared> Handle<S> {
    /// Creates the handle of a machine. Call it once, and clone the result: a second handle would end the machine when it is
    /// dropped, while the first is in use.
    #[must_use]
    pub fn new(shared: Arc<S>) -> Self {
        Self(Arc::new(Owner(shared)))
    }

    /// Returns the runtime's state of the machine, for the runtime.
    #[must_use]
    pub fn shared(&self) -> &Arc<S> {
        &self.0.0
    }

    /// Returns the position after everything that was received so far. Take a mark, act, and wait from the mark: nothing
    /// that happens in between is missed.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.shared().with_machine(|machine| machine.mark())
    }

    /// Writes to a console, and returns at once. The text is queued and sent as fast as the guest reads it.
    ///
    /// # Errors
    ///
    /// [`Misuse`] when there is no console of this name, or when the queue is full: it holds at most
    /// [`Limits::console_input`](qemu_machine_core::Limits::console_input) bytes.
    pub fn console_write(&self, console: &str, text: impl AsRef<[u8]>) -> Result<(), Misuse> {
        let text = text.as_ref();
        self.shared().ask(|machine, now| machine.console_write(now, console, text))
    }

    /// Returns what a console printed from a mark on, as far as it is retained.
    ///
    /// # Errors
    ///
    /// [`Misuse`] when there is no console of this name.
    pub fn console(&self, name: &str, from: &Mark) -> Result<Vec<u8>, Misuse> {
        self.shared().with_machine(|machine| machine.console_since(name, from).map(<[u8]>::to_vec))
    }

    /// Returns what a console printed from a mark on, and the mark after it: to read a console piece by piece.
    /// [`Wait::output`](qemu_machine_core::Wait::output) waits for the next piece.
    ///
    /// # Errors
    ///
    /// [`Misuse`] when there is no console of this name.
    pub fn console_from(&self, name: &str, from: &Mark) -> Result<(Vec<u8>, Mark), Misuse> {
        self.shared()
            .with_machine(|machine| machine.console_from(name, from).map(|(bytes, mark)| (bytes.to_vec(), mark)))
    }

    /// Returns where the machine is in its run.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared().with_machine(|machine| machine.state())
    }

    /// Returns how the machine ended. `None` means that it has not ended.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.shared().with_machine(|machine| machine.outcome().cloned())
    }

    /// Returns the id of the process. `None` means that no process runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.shared().with_machine(|machine| machine.pid())
    }

    /// Returns the identity of a machine that [outlives its parent](Config::outlive_parent), with which another program, or
    /// this one after a restart, resumes it. Store it as soon as the machine runs: a crash gives no time to do so later.
    ///
    /// # Errors
    ///
    /// [`Misuse::NotDetachable`] and [`Misuse::NotRunning`]; a [`HostFault`] when the operating system does not report
    /// what identifies the process.
    pub fn identity(&self) -> Result<Identity, IdentityError> {
        self.shared().with_machine(|machine| identity(machine))
    }

    /// Returns QEMU's greeting: its version, and the capabilities of its monitor. `None` means that none was received.
    #[must_use]
    pub fn greeting(&self) -> Option<Greeting> {
        self.shared().with_machine(|machine| machine.greeting().cloned())
    }

    /// Returns whether out-of-band execution was negotiated.
    #[must_use]
    pub fn out_of_band(&self) -> bool {
        self.shared().with_machine(|machine| machine.session().out_of_band())
    }

    /// Returns the command line of the process.
    #[must_use]
    pub fn command_line(&self) -> CommandLine {
        self.shared().with_machine(|machine| machine.command_line().clone())
    }

    /// Returns how many messages of the monitor matched no command of a caller: late replies, and lines that are no valid
    /// messages.
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

    /// Returns the configuration that attaches to a service of the machine, for callers who launch it themselves.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without the service, or has ended;
    /// [`Misuse::ServiceInUse`] while another client is attached to it.
    pub fn service(&self, service: Service) -> Result<Config, Misuse> {
        self.shared().with_host(|host| host.service(service))
    }

    /// Returns the private directory of the machine, for files that are to be removed with it. `None` means that nothing
    /// needed one.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        self.shared().with_machine(|machine| machine.prepared().directory.clone()).map(path)
    }

    /// Returns the address at which the monitor listens for QEMU, with the real port. `None` means that it does not listen.
    #[must_use]
    pub fn monitor_address(&self) -> Option<Address> {
        self.shared().with_machine(|machine| machine.prepared().monitor.clone())
    }

    /// Returns the path of the log, which holds what QEMU prints. A log in [`Config::log_directory`] is kept after the end;
    /// any other is removed with the machine.
    #[must_use]
    pub fn log_path(&self) -> Option<PathBuf> {
        self.shared().with_machine(|machine| machine.prepared().log.clone()).map(path)
    }

    /// Returns the last bytes that QEMU printed, at most `limit`, while it runs and after its end.
    ///
    /// # Errors
    ///
    /// [`HostFault`] when the log cannot be read.
    pub fn log(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        self.shared().with_host(|host| host.read_log(limit))
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

/// The [`Machine`], or `in use` while another thread holds its lock: printing does not wait.
impl<S: Shared> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = f.alternate();
        // The formatter is the caller's, and may call the machine itself: write to it after the lock was released.
        let shown = self.shared().peek(|machine| if lines { format!("{machine:#?}") } else { format!("{machine:?}") });
        f.write_str(shown.as_deref().unwrap_or("in use"))
    }
}

impl<S: Shared> Drop for Owner<S> {
    fn drop(&mut self) {
        self.0.end();
    }
}
