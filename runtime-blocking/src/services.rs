//! Decides what the ports of a machine look like to a caller that may block: the guest agent, and qtest.

use qemu_machine_core::{
    COMMAND_WITHIN, Command, CommandError, Config, Deadline, Dialect, LaunchError, Misuse, Outcome, Peer, Wait,
};

use crate::events::Events;
use crate::vm::Vm;

/// The agent in a guest (`qemu-ga`). It answers one command after another.
///
/// Handles are clones of each other. When the last one is dropped, the connection is closed and the agent runs on.
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
pub struct Agent(pub(crate) Vm);

impl Agent {
    /// Speaks with an agent that is reached by itself, and returns when it answers. What it still had to say to others
    /// is dropped and counted.
    ///
    /// # Errors
    ///
    /// As [`Vm::attach`].
    pub fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Vm::launch(Config::attach(peer).speaking(Dialect::GuestAgent).launch_within(deadline)).map(Self)
    }

    /// Executes a command, which may take a minute. One that the agent answers with silence (`guest-shutdown`) is
    /// answered by an empty object, when the agent goes on to the next; where the guest is gone before that, by
    /// [`CommandError::Disconnected`], which is how a guest that powers off quickly looks.
    ///
    /// # Errors
    ///
    /// The agent's refusal, in its words; or why there is no reply.
    pub fn execute<C: Command>(&self, command: C) -> Result<C::Reply, CommandError> {
        self.0.execute(command)
    }

    /// Executes a command within a deadline. When it passes, the command may still take effect, and the agent is asked
    /// to come back in step before the next one.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    pub fn execute_by<C: Command>(&self, command: C, deadline: impl Into<Deadline>) -> Result<C::Reply, CommandError> {
        self.0.execute_by(command, deadline)
    }

    /// Lets go of the agent, and returns when the connection is closed.
    ///
    /// # Errors
    ///
    /// None.
    pub fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.0.disconnect()
    }

    /// The connection, for what else can be asked of one: its state, its counters.
    #[must_use]
    pub fn connection(&self) -> &Vm {
        &self.0
    }
}

/// QEMU's qtest (`qtest`): it reads and writes the memory and the ports of the guest, line by line.
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
pub struct Qtest(pub(crate) Vm);

impl Qtest {
    /// Speaks with qtest that is reached by itself.
    ///
    /// # Errors
    ///
    /// As [`Vm::attach`].
    pub fn attach(peer: Peer, deadline: impl Into<Deadline>) -> Result<Self, LaunchError> {
        Vm::launch(Config::attach(peer).speaking(Dialect::Qtest).launch_within(deadline)).map(Self)
    }

    /// Executes one line, within a minute, and gives what stands behind `OK`.
    ///
    /// # Errors
    ///
    /// What it said instead of `OK`; or why it said nothing.
    pub fn line(&self, line: &str) -> Result<String, CommandError> {
        self.line_by(line, COMMAND_WITHIN)
    }

    /// Executes one line within a deadline.
    ///
    /// # Errors
    ///
    /// As [`line`](Self::line).
    pub fn line_by(&self, line: &str, deadline: impl Into<Deadline>) -> Result<String, CommandError> {
        self.0.execute_line(line, deadline)
    }

    /// The interrupts that were asked for with `irq_intercept_in` or `irq_intercept_out`, as events `IRQ` with
    /// `{"raised": …, "line": …}`.
    ///
    /// # Errors
    ///
    /// As [`Vm::events`].
    pub fn interrupts(&self) -> Result<Events, Misuse> {
        self.0.events([Wait::event("IRQ")])
    }

    /// Lets go of the qtest, and returns when the connection is closed.
    ///
    /// # Errors
    ///
    /// None.
    pub fn disconnect(&self) -> Result<Outcome, Misuse> {
        self.0.disconnect()
    }
}
