//! Services of a machine, for tasks of any executor: the guest agent and qtest.

use std::fmt;

use qemu_machine_core::procedure::Procedure;
use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, Config, Deadline, Dialect, LaunchError, Misuse, Outcome, Peer, Service,
    ServiceError, Wait,
};

use super::driver::Driver;
use super::events::Events;
use super::reactor::Reactor;
use super::vm::Vm;

impl<R: Reactor> Vm<R> {
    /// Attaches to the agent in the guest, over the channel of [`Config::guest_agent`], and completes when the agent
    /// answers. The guest must have started it within the deadline. `spawn` receives the driver of the connection, as
    /// in [`launch_with`](Self::launch_with). Dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without the agent, or has ended; [`Misuse::ServiceInUse`]
    /// while another handle is attached to the agent; [`ServiceError::Silent`] when the agent does not answer within
    /// the deadline, or [refuses to synchronize](crate::LaunchFailure::NotSynchronised). The machine is not
    /// affected, and the call may be repeated.
    pub async fn agent_with(
        &self,
        deadline: impl Into<Deadline>,
        spawn: impl FnOnce(Driver<R>),
    ) -> Result<Agent<R>, ServiceError> {
        let config = self.service(Service::GuestAgent)?.launch_within(deadline);
        attach(Service::GuestAgent, config, spawn).await.map(Agent)
    }

    /// Attaches to QEMU's qtest, over the channel of [`Config::qtest`]. `spawn` receives the driver of the connection,
    /// as in [`launch_with`](Self::launch_with). Dropping the future closes the connection. This works once in a run:
    /// the connection is closed with the last handle of it, since QEMU blocks while its qtest output is not read (QEMU,
    /// `system/qtest.c`, `qtest_server_char_be_send`).
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without qtest, when this was called before in this run,
    /// and when the machine has ended; [`ServiceError::Silent`] when the attachment fails.
    pub async fn qtest_with(&self, spawn: impl FnOnce(Driver<R>)) -> Result<Qtest<R>, ServiceError> {
        attach(Service::Qtest, self.service(Service::Qtest)?, spawn).await.map(Qtest)
    }
}

async fn attach<R: Reactor>(
    service: Service,
    config: Config,
    spawn: impl FnOnce(Driver<R>),
) -> Result<Vm<R>, ServiceError> {
    Vm::launch_with(config, spawn).await.map_err(|error| ServiceError::new(service, error))
}

/// Handle of the agent in a guest (`qemu-ga`), which executes one command after another.
///
/// Handles are clones of each other. Dropping the last one closes the connection; the agent keeps running.
///
/// ```no_run
/// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
/// # use std::time::Duration;
/// # use qemu_machine_tokio::json;
/// let agent = vm.agent(Duration::from_secs(60)).await?;
/// println!("{}", agent.execute("guest-get-osinfo").await?["pretty-name"]);
/// agent.execute(("guest-shutdown", json!({"mode": "powerdown"}))).await?;
/// # Ok(())
/// # }
/// ```
pub struct Agent<R: Reactor>(Vm<R>);

impl<R: Reactor> Agent<R> {
    /// Attaches to an agent at an address of its own, and completes when it answers. Replies to earlier clients are
    /// counted and dropped: the agent is synchronized first (`guest-sync-delimited`, or `guest-sync` if the agent
    /// refuses that; QEMU, `qga/qapi-schema.json`).
    /// `spawn` receives the driver, as in [`Vm::launch_with`].
    ///
    /// # Errors
    ///
    /// As [`Vm::attach_with`], and [`LaunchFailure::NotSynchronised`](crate::LaunchFailure::NotSynchronised).
    pub async fn attach_with(
        peer: Peer,
        deadline: impl Into<Deadline>,
        spawn: impl FnOnce(Driver<R>),
    ) -> Result<Self, LaunchError> {
        let config = Config::attach(peer).speaking(Dialect::GuestAgent).launch_within(deadline);
        Vm::launch_with(config, spawn).await.map(Self)
    }

    /// Executes a command within 60 seconds, and returns its reply.
    ///
    /// The agent does not reply to some commands that succeed (`guest-shutdown`, `guest-suspend-*`: `success-response`
    /// in QEMU, `qga/qapi-schema.json`). Their result is an empty object as soon as the agent answers the next command.
    /// It is [`CommandError::Disconnected`] when the guest is gone before that, as after a quick power-off.
    ///
    /// Dropping the future has the effect that it has for [`Vm::execute`].
    ///
    /// # Errors
    ///
    /// [`CommandError::Refused`], with the agent's error class and description; otherwise as [`Vm::execute`].
    pub async fn execute<C: Command>(&self, command: C) -> Result<C::Reply, CommandError> {
        self.0.execute(command).await
    }

    /// Executes a command within a deadline, and returns its reply. A command that was sent may still take effect after
    /// the deadline; the agent is synchronized before the next command, so that a late reply reaches no other caller.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute). [`CommandError::Refused`] also when the agent refuses to synchronize: the error
    /// then names `guest-sync`, and the command was not sent.
    pub async fn execute_by<C: Command>(
        &self,
        command: C,
        deadline: impl Into<Deadline>,
    ) -> Result<C::Reply, CommandError> {
        self.0.execute_by(command, deadline).await
    }

    /// Runs a [procedure](crate::procedure) of the agent, as [`Vm::run`] does: [`GuestExec`](crate::procedure::GuestExec),
    /// [`ReadGuestFile`](crate::procedure::ReadGuestFile), [`WriteGuestFile`](crate::procedure::WriteGuestFile),
    /// [`AskGuest`](crate::procedure::AskGuest).
    ///
    /// ```no_run
    /// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// use qemu_machine_tokio::procedure::GuestExec;
    ///
    /// let agent = vm.agent(Duration::from_secs(60)).await?;
    /// let end = agent.run(GuestExec::program("/bin/uname").args(["-r"]), Duration::from_secs(10)).await?;
    /// println!("{:?}: {:?}", end.exit, String::from_utf8_lossy(&end.stdout));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<P: Procedure>(&self, procedure: P, deadline: impl Into<Deadline>) -> P::Return {
        self.0.run(procedure, deadline).await
    }

    /// Disconnects from the agent, which keeps running. Completes when the connection is closed.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.0.disconnect().await
    }

    /// Returns the connection, for its other methods: its state, its counters.
    #[must_use]
    pub fn connection(&self) -> &Vm<R> {
        &self.0
    }
}

/// Handle of QEMU's qtest, which reads and writes the memory and the I/O ports of the guest, one line at a time (the
/// commands are listed in QEMU, `system/qtest.c`).
///
/// Handles are clones of each other. Dropping the last one closes the connection.
///
/// ```no_run
/// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
/// let qtest = vm.qtest().await?;
/// qtest.line("writel 0x1000 0xdeadbeef").await?;
/// assert_eq!(qtest.line("readl 0x1000").await?, "0x00000000deadbeef");
/// # Ok(())
/// # }
/// ```
pub struct Qtest<R: Reactor>(Vm<R>);

impl<R: Reactor> Qtest<R> {
    /// Attaches to a qtest at an address of its own. `spawn` receives the driver, as in [`Vm::launch_with`].
    ///
    /// # Errors
    ///
    /// As [`Vm::attach_with`].
    pub async fn attach_with(
        peer: Peer,
        deadline: impl Into<Deadline>,
        spawn: impl FnOnce(Driver<R>),
    ) -> Result<Self, LaunchError> {
        let config = Config::attach(peer).speaking(Dialect::Qtest).launch_within(deadline);
        Vm::launch_with(config, spawn).await.map(Self)
    }

    /// Executes one line within 60 seconds, and returns what follows `OK` in the reply. Dropping the future has the
    /// effect that it has for [`Vm::execute`].
    ///
    /// # Errors
    ///
    /// [`CommandError::Refused`] with the reply, when that is not `OK`; [`Misuse::QtestLine`] when the text is not
    /// exactly one line; otherwise as [`Vm::execute`].
    pub async fn line(&self, line: &str) -> Result<String, CommandError> {
        self.line_by(line, COMMAND_WITHIN).await
    }

    /// Executes one line within a deadline, and returns what follows `OK` in the reply.
    ///
    /// # Errors
    ///
    /// As [`line`](Self::line).
    pub async fn line_by(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.0.execute_line(line, deadline).await
    }

    /// Subscribes to the interrupts that `irq_intercept_in` or `irq_intercept_out` intercepts (QEMU, `system/qtest.c`,
    /// IRQ management): events `IRQ` with `{"raised": …, "line": …}`.
    ///
    /// # Errors
    ///
    /// As [`Handle::events`](crate::Handle::events).
    pub fn interrupts(&self) -> Result<Events<R>, Misuse> {
        self.0.events([Wait::event("IRQ")])
    }

    /// Disconnects from qtest. Completes when the connection is closed.
    ///
    /// # Errors
    ///
    /// None.
    pub async fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.0.disconnect().await
    }
}

impl<R: Reactor> Clone for Agent<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Reactor> Clone for Qtest<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Reactor> fmt::Debug for Agent<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Agent").field(&self.0).finish()
    }
}

impl<R: Reactor> fmt::Debug for Qtest<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Qtest").field(&self.0).finish()
    }
}
