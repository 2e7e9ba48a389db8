//! Services of a machine, for threads that may block: the guest agent and qtest.

use qemu_machine_core::procedure::Procedure;
use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, Config, Deadline, Dialect, LaunchError, Misuse, Outcome, Peer, Service,
    ServiceError, Wait,
};

use crate::events::Events;
use crate::vm::Vm;

impl Vm {
    /// Attaches to the agent in the guest, over the channel of [`Config::guest_agent`], and returns when the agent
    /// answers. The guest must have started it within the deadline.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without the agent, or has ended; [`Misuse::ServiceInUse`]
    /// while another handle is attached to the agent; [`ServiceError::Silent`] when the agent does not answer within
    /// the deadline, or [refuses to synchronize](crate::LaunchFailure::NotSynchronised). The machine is not
    /// affected, and the call may be repeated.
    pub fn agent(&self, deadline: impl Into<Deadline>) -> Result<Agent, ServiceError> {
        attach(Service::GuestAgent, self.service(Service::GuestAgent)?.launch_within(deadline)).map(Agent)
    }

    /// Attaches to QEMU's qtest, over the channel of [`Config::qtest`]. This works once in a run: the connection is
    /// closed with the last handle of it, since QEMU blocks while its qtest output is not read (QEMU, `system/qtest.c`,
    /// `qtest_server_char_be_send`).
    ///
    /// # Errors
    ///
    /// [`Misuse::NoService`] when the machine was configured without qtest, when this was called before in this run,
    /// and when the machine has ended; [`ServiceError::Silent`] when the attachment fails.
    pub fn qtest(&self) -> Result<Qtest, ServiceError> {
        attach(Service::Qtest, self.service(Service::Qtest)?).map(Qtest)
    }
}

fn attach(service: Service, config: Config) -> Result<Vm, ServiceError> {
    Vm::launch(config).map_err(|error| ServiceError::new(service, error))
}

/// Handle of the agent in a guest (`qemu-ga`), which executes one command after another.
///
/// Handles are clones of each other. Dropping the last one closes the connection; the agent keeps running.
///
/// ```no_run
/// # use std::time::Duration;
/// # use qemu_machine_blocking::{Config, Vm, json};
/// # let vm = Vm::launch(Config::new("qemu-system-x86_64").guest_agent())?;
/// let agent = vm.agent(Duration::from_secs(60))?;
/// println!("{}", agent.execute("guest-get-osinfo")?["pretty-name"]);
/// agent.execute(("guest-shutdown", json!({"mode": "powerdown"})))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Agent(Vm);

impl Agent {
    /// Attaches to an agent at an address of its own, and returns when it answers. Replies to earlier clients are
    /// counted and dropped: the agent is synchronized first (`guest-sync-delimited`, or `guest-sync` if the agent
    /// refuses that; QEMU, `qga/qapi-schema.json`).
    ///
    /// # Errors
    ///
    /// As [`Vm::attach`], and [`LaunchFailure::NotSynchronised`](crate::LaunchFailure::NotSynchronised).
    pub fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Vm::launch(Config::attach(peer).speaking(Dialect::GuestAgent).launch_within(deadline)).map(Self)
    }

    /// Executes a command within 60 seconds, and returns its reply.
    ///
    /// The agent does not reply to some commands that succeed (`guest-shutdown`, `guest-suspend-*`: `success-response`
    /// in QEMU, `qga/qapi-schema.json`). Their result is an empty object as soon as the agent answers the next command.
    /// It is [`CommandError::Disconnected`] when the guest is gone before that, as after a quick power-off.
    ///
    /// # Errors
    ///
    /// [`CommandError::Refused`], with the agent's error class and description; otherwise as [`Vm::execute`].
    pub fn execute<C: Command>(&self, command: C) -> Result<C::Reply, CommandError> {
        self.0.execute(command)
    }

    /// Executes a command within a deadline, and returns its reply. A command that was sent may still take effect after
    /// the deadline; the agent is synchronized before the next command, so that a late reply reaches no other caller.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute). [`CommandError::Refused`] also when the agent refuses to synchronize: the error
    /// then names `guest-sync`, and the command was not sent.
    pub fn execute_by<C: Command>(&self, command: C, deadline: impl Into<Deadline>) -> Result<C::Reply, CommandError> {
        self.0.execute_by(command, deadline)
    }

    /// Runs a [procedure](crate::procedure) of the agent, as [`Vm::run`] does: [`GuestExec`](crate::procedure::GuestExec),
    /// [`ReadGuestFile`](crate::procedure::ReadGuestFile), [`WriteGuestFile`](crate::procedure::WriteGuestFile),
    /// [`AskGuest`](crate::procedure::AskGuest).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use qemu_machine_blocking::{Config, Vm};
    /// # let vm = Vm::launch(Config::new("qemu-system-x86_64").guest_agent())?;
    /// use qemu_machine_blocking::procedure::GuestExec;
    ///
    /// let agent = vm.agent(Duration::from_secs(60))?;
    /// let end = agent.run(GuestExec::program("/bin/uname").args(["-r"]), Duration::from_secs(10))?;
    /// println!("{:?}: {:?}", end.exit, String::from_utf8_lossy(&end.stdout));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<P: Procedure>(&self, procedure: P, deadline: impl Into<Deadline>) -> P::Return {
        self.0.run(procedure, deadline)
    }

    /// Disconnects from the agent, which keeps running. Returns when the connection is closed.
    ///
    /// # Errors
    ///
    /// None.
    pub fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.0.disconnect()
    }

    /// Returns the connection, for its other methods: its state, its counters.
    #[must_use]
    pub fn connection(&self) -> &Vm {
        &self.0
    }
}

/// Handle of QEMU's qtest, which reads and writes the memory and the I/O ports of the guest, one line at a time (the
/// commands are listed in QEMU, `system/qtest.c`).
///
/// Handles are clones of each other. Dropping the last one closes the connection.
///
/// ```no_run
/// # use qemu_machine_blocking::{Config, Vm};
/// # let vm = Vm::launch(Config::new("qemu-system-x86_64").qtest())?;
/// let qtest = vm.qtest()?;
/// qtest.line("writel 0x1000 0xdeadbeef")?;
/// assert_eq!(qtest.line("readl 0x1000")?, "0x00000000deadbeef");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Qtest(Vm);

impl Qtest {
    /// Attaches to a qtest at an address of its own.
    ///
    /// # Errors
    ///
    /// As [`Vm::attach`].
    pub fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Vm::launch(Config::attach(peer).speaking(Dialect::Qtest).launch_within(deadline)).map(Self)
    }

    /// Executes one line within 60 seconds, and returns what follows `OK` in the reply.
    ///
    /// # Errors
    ///
    /// [`CommandError::Refused`] with the reply, when that is not `OK`; [`Misuse::QtestLine`] when the text is not
    /// exactly one line; otherwise as [`Vm::execute`].
    pub fn line(&self, line: &str) -> Result<String, CommandError> {
        self.line_by(line, COMMAND_WITHIN)
    }

    /// Executes one line within a deadline, and returns what follows `OK` in the reply.
    ///
    /// # Errors
    ///
    /// As [`line`](Self::line).
    pub fn line_by(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.0.execute_line(line, deadline)
    }

    /// Subscribes to the interrupts that `irq_intercept_in` or `irq_intercept_out` intercepts (QEMU, `system/qtest.c`,
    /// IRQ management): events `IRQ` with `{"raised": …, "line": …}`.
    ///
    /// # Errors
    ///
    /// As [`Handle::events`](crate::Handle::events).
    pub fn interrupts(&self) -> Result<Events, Misuse> {
        self.0.events([Wait::event("IRQ")])
    }

    /// Disconnects from qtest. Returns when the connection is closed.
    ///
    /// # Errors
    ///
    /// None.
    pub fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.0.disconnect()
    }
}
