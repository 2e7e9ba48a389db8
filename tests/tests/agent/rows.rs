//! Rows of the agent's stories: the operations on a machine and on an agent, on each runtime. Each row waits in its
//! way.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use qemu_machine_core::procedure::{Procedure, Run};
use qemu_machine_core::{
    CommandError, Config, Dialect, LaunchError, Mark, Outcome, Peer, Service, ServiceError, Value, Wait,
};
use qemu_machine_mio::EventLoop;
use smol::block_on;

/// Deadline for a guest to boot and for each story: it takes a few seconds, but two guests may boot at once on each
/// processor while other programs build.
pub(crate) const LONG: Duration = Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2);

/// Deadline of what must not happen in time.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

/// A machine whose guest has an agent.
pub(crate) trait Row: Sized {
    type Agent: Agent;

    fn launch(config: Config) -> Result<Self, LaunchError>;
    fn agent(&mut self, within: Duration) -> Result<Self::Agent, ServiceError>;
    fn mark(&mut self) -> Mark;
    /// Waits for something that must come before the deadline.
    fn comes(&mut self, from: &Mark, thing: Wait);
    fn types(&mut self, line: &str);
    fn run<P: Procedure>(&mut self, procedure: P) -> P::Return;
    fn executes(&mut self, command: &str, arguments: Value);
    fn ends(&mut self) -> Outcome;

    fn sees(&mut self, from: &Mark, text: &str) {
        self.comes(from, Wait::text("tty", text));
    }
}

/// An agent.
pub(crate) trait Agent: Sized {
    fn attach(peer: Peer, within: Duration) -> Result<Self, LaunchError>;
    fn ask_within(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value, CommandError>;
    fn run_within<P: Procedure>(&mut self, procedure: P, within: Duration) -> P::Return;
    fn stale(&mut self) -> u64;
    fn finish(self) -> Outcome;

    fn run<P: Procedure>(&mut self, procedure: P) -> P::Return {
        self.run_within(procedure, LONG)
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, CommandError> {
        self.ask_within(command, arguments, LONG)
    }
}

pub(crate) struct Blocking(qemu_machine_blocking::Vm);

impl Row for Blocking {
    type Agent = qemu_machine_blocking::Agent;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        qemu_machine_blocking::Vm::launch(config).map(Self)
    }

    fn agent(&mut self, within: Duration) -> Result<Self::Agent, ServiceError> {
        self.0.agent(within)
    }

    fn mark(&mut self) -> Mark {
        self.0.mark()
    }

    fn comes(&mut self, from: &Mark, thing: Wait) {
        let what = format!("{thing:?}");
        self.0.wait_any(from, [thing], LONG).unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    fn run<P: Procedure>(&mut self, procedure: P) -> P::Return {
        self.0.run(procedure, LONG)
    }

    fn executes(&mut self, command: &str, arguments: Value) {
        self.0.execute((command, arguments)).unwrap_or_else(|error| panic!("{error}"));
    }

    fn types(&mut self, line: &str) {
        self.0.console_write("tty", line).expect("there is a console");
    }

    fn ends(&mut self) -> Outcome {
        self.0.wait(LONG).expect("the machine ends")
    }
}

impl Agent for qemu_machine_blocking::Agent {
    fn attach(peer: Peer, within: Duration) -> Result<Self, LaunchError> {
        Self::attach(peer, within)
    }

    fn ask_within(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value, CommandError> {
        self.execute_by((command, arguments), within)
    }

    fn run_within<P: Procedure>(&mut self, procedure: P, within: Duration) -> P::Return {
        qemu_machine_blocking::Agent::run(self, procedure, within)
    }

    fn stale(&mut self) -> u64 {
        self.connection().counters().stale
    }

    fn finish(self) -> Outcome {
        self.disconnect().expect("the machine is not ours")
    }
}

pub(crate) struct Smol(qemu_machine_smol::Vm);

impl Row for Smol {
    type Agent = qemu_machine_smol::Agent;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        block_on(qemu_machine_smol::Vm::launch(config)).map(Self)
    }

    fn agent(&mut self, within: Duration) -> Result<Self::Agent, ServiceError> {
        block_on(self.0.agent(within))
    }

    fn mark(&mut self) -> Mark {
        self.0.mark()
    }

    fn comes(&mut self, from: &Mark, thing: Wait) {
        let what = format!("{thing:?}");
        block_on(self.0.wait_any(from, [thing], LONG)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    fn run<P: Procedure>(&mut self, procedure: P) -> P::Return {
        block_on(self.0.run(procedure, LONG))
    }

    fn executes(&mut self, command: &str, arguments: Value) {
        block_on(self.0.execute((command, arguments))).unwrap_or_else(|error| panic!("{error}"));
    }

    fn types(&mut self, line: &str) {
        self.0.console_write("tty", line).expect("there is a console");
    }

    fn ends(&mut self) -> Outcome {
        block_on(self.0.wait(LONG)).expect("the machine ends")
    }
}

impl Agent for qemu_machine_smol::Agent {
    fn attach(peer: Peer, within: Duration) -> Result<Self, LaunchError> {
        block_on(Self::attach(peer, within))
    }

    fn ask_within(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value, CommandError> {
        block_on(self.execute_by((command, arguments), within))
    }

    fn run_within<P: Procedure>(&mut self, procedure: P, within: Duration) -> P::Return {
        block_on(qemu_machine_smol::Agent::run(self, procedure, within))
    }

    fn stale(&mut self) -> u64 {
        self.connection().counters().stale
    }

    fn finish(self) -> Outcome {
        block_on(self.disconnect()).expect("the machine is not ours")
    }
}

/// A machine or an agent, which on mio is a machine as well: one loop drives both, so that the guest's console is read
/// while the agent executes.
pub(crate) struct Mio {
    turning: Rc<RefCell<Loop>>,
    index: usize,
}

struct Loop {
    event_loop: EventLoop,
    vms: Vec<qemu_machine_mio::Vm>,
}

impl Mio {
    fn launch_in(turning: Rc<RefCell<Loop>>, config: Config) -> Result<Self, LaunchError> {
        let index = {
            let Loop { event_loop, vms } = &mut *turning.borrow_mut();
            let (registry, tokens) = event_loop.parts();
            vms.push(qemu_machine_mio::Vm::launch(config, registry, tokens)?);
            vms.len() - 1
        };
        let machine = Self { turning, index };
        machine.until(|vm| vm.launched())?;
        Ok(machine)
    }

    fn with<T>(&self, act: impl FnOnce(&mut qemu_machine_mio::Vm) -> T) -> T {
        act(&mut self.turning.borrow_mut().vms[self.index])
    }

    fn until<T>(&self, mut answer: impl FnMut(&mut qemu_machine_mio::Vm) -> Option<T>) -> T {
        let Loop { event_loop, vms } = &mut *self.turning.borrow_mut();
        event_loop.run(vms, |vms| answer(&mut vms[self.index])).expect("the poll works")
    }
}

/// Removes the machine from the loop. An agent is the only one after its machine, so `truncate` removes no other.
impl Drop for Mio {
    fn drop(&mut self) {
        self.turning.borrow_mut().vms.truncate(self.index);
    }
}

impl Row for Mio {
    type Agent = Self;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        let event_loop = EventLoop::new().expect("a poll can be created");
        Self::launch_in(Rc::new(RefCell::new(Loop { event_loop, vms: Vec::new() })), config)
    }

    fn agent(&mut self, within: Duration) -> Result<Self, ServiceError> {
        let config = self.with(|vm| vm.service(Service::GuestAgent))?.launch_within(within);
        Self::launch_in(Rc::clone(&self.turning), config).map_err(|error| ServiceError::new(Service::GuestAgent, error))
    }

    fn mark(&mut self) -> Mark {
        self.with(|vm| vm.mark())
    }

    fn comes(&mut self, from: &Mark, thing: Wait) {
        let what = format!("{thing:?}");
        let wait = self.with(|vm| vm.wait_any(from, [thing], LONG)).expect("there is a console");
        self.until(|vm| vm.claim_wait(wait)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    fn run<P: Procedure>(&mut self, procedure: P) -> P::Return {
        self.run_within(procedure, LONG)
    }

    fn executes(&mut self, command: &str, arguments: Value) {
        self.ask(command, arguments).unwrap_or_else(|error| panic!("{error}"));
    }

    fn types(&mut self, line: &str) {
        self.with(|vm| vm.console_write("tty", line)).expect("there is a console");
    }

    fn ends(&mut self) -> Outcome {
        self.until(|vm| vm.outcome().cloned())
    }
}

impl Agent for Mio {
    fn attach(peer: Peer, within: Duration) -> Result<Self, LaunchError> {
        Self::launch(Config::attach(peer).speaking(Dialect::GuestAgent).launch_within(within))
    }

    fn ask_within(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value, CommandError> {
        let ticket = self.with(|vm| vm.execute_by((command, arguments), within))?;
        self.until(|vm| vm.claim(&ticket))
    }

    fn run_within<P: Procedure>(&mut self, procedure: P, within: Duration) -> P::Return {
        let mut run = Run::new(procedure, within.into());
        self.until(|vm| vm.advance(&mut run))
    }

    fn stale(&mut self) -> u64 {
        self.with(|vm| vm.machine().session().counters().stale)
    }

    fn finish(self) -> Outcome {
        self.with(|vm| vm.disconnect()).expect("the machine is not ours");
        self.until(|vm| vm.outcome().cloned())
    }
}
