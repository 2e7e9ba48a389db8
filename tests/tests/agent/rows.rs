//! Decides what a story can do with a machine and with an agent, on each runtime. Its verbs wait, each in its row's way.

use std::time::Duration;

use qemu_machine_core::{CommandError, Config, Dialect, LaunchError, Mark, Outcome, Peer, Port, Value, Wait};
use qemu_machine_mio::Desk;
use smol::block_on;

/// How long a guest may take to boot, and for all that it does then. It takes some seconds; two may boot at once on each
/// core, and others build there.
pub(crate) const LONG: Duration = Duration::from_secs(40);

/// For what must not happen in time.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

/// A machine whose guest has an agent.
pub(crate) trait Row: Sized {
    type Agent: Agent;

    fn launch(config: Config) -> Result<Self, LaunchError>;
    fn agent(&mut self, within: Duration) -> Result<Self::Agent, LaunchError>;
    fn mark(&mut self) -> Mark;
    fn sees(&mut self, from: &Mark, text: &str);
    fn types(&mut self, line: &str);
    fn ends(&mut self) -> Outcome;
}

/// An agent.
pub(crate) trait Agent: Sized {
    fn attach(peer: Peer, within: Duration) -> Result<Self, LaunchError>;
    fn ask_within(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value, CommandError>;
    fn stale(&mut self) -> u64;
    fn leave(self) -> Outcome;

    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, CommandError> {
        self.ask_within(command, arguments, LONG)
    }
}

fn text(text: &str) -> [Wait; 1] {
    [Wait::text("tty", text)]
}

pub(crate) struct Blocking(qemu_machine_blocking::Vm);

impl Row for Blocking {
    type Agent = qemu_machine_blocking::Agent;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        qemu_machine_blocking::Vm::launch(config).map(Self)
    }

    fn agent(&mut self, within: Duration) -> Result<Self::Agent, LaunchError> {
        self.0.agent(within)
    }

    fn mark(&mut self) -> Mark {
        self.0.mark()
    }

    fn sees(&mut self, from: &Mark, what: &str) {
        self.0.wait_any(from, text(what), LONG).unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    fn types(&mut self, line: &str) {
        self.0.type_on("tty", line).expect("there is a console");
    }

    fn ends(&mut self) -> Outcome {
        self.0.wait(LONG).expect("an end")
    }
}

impl Agent for qemu_machine_blocking::Agent {
    fn attach(peer: Peer, within: Duration) -> Result<Self, LaunchError> {
        Self::attach(peer, within)
    }

    fn ask_within(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value, CommandError> {
        self.execute_by((command, arguments), within)
    }

    fn stale(&mut self) -> u64 {
        self.connection().counters().stale
    }

    fn leave(self) -> Outcome {
        self.disconnect().expect("it is not ours")
    }
}

pub(crate) struct Smol(qemu_machine_smol::Vm);

impl Row for Smol {
    type Agent = qemu_machine_smol::Agent;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        block_on(qemu_machine_smol::Vm::launch(config)).map(Self)
    }

    fn agent(&mut self, within: Duration) -> Result<Self::Agent, LaunchError> {
        block_on(self.0.agent(within))
    }

    fn mark(&mut self) -> Mark {
        self.0.mark()
    }

    fn sees(&mut self, from: &Mark, what: &str) {
        block_on(self.0.wait_any(from, text(what), LONG)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    fn types(&mut self, line: &str) {
        self.0.type_on("tty", line).expect("there is a console");
    }

    fn ends(&mut self) -> Outcome {
        block_on(self.0.wait(LONG)).expect("an end")
    }
}

impl Agent for qemu_machine_smol::Agent {
    fn attach(peer: Peer, within: Duration) -> Result<Self, LaunchError> {
        block_on(Self::attach(peer, within))
    }

    fn ask_within(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value, CommandError> {
        block_on(self.execute_by((command, arguments), within))
    }

    fn stale(&mut self) -> u64 {
        self.connection().counters().stale
    }

    fn leave(self) -> Outcome {
        block_on(self.disconnect()).expect("it is not ours")
    }
}

/// A machine, or an agent, which is a machine of its own there, each with a loop of its own.
pub(crate) struct Mio {
    desk: Desk,
    vm: qemu_machine_mio::Vm,
}

impl Mio {
    fn until<T>(&mut self, mut answer: impl FnMut(&mut qemu_machine_mio::Vm) -> Option<T>) -> T {
        let vms = std::slice::from_mut(&mut self.vm);
        self.desk.run(vms, |vms| answer(&mut vms[0])).expect("the poll works")
    }
}

impl Row for Mio {
    type Agent = Self;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        let mut desk = Desk::new().expect("there is a poll to be had");
        let (registry, tokens) = desk.parts();
        let vm = qemu_machine_mio::Vm::launch(config, registry, tokens)?;
        let mut machine = Self { desk, vm };
        machine.until(|vm| vm.launched())?;
        Ok(machine)
    }

    fn agent(&mut self, within: Duration) -> Result<Self, LaunchError> {
        Self::launch(self.vm.port(Port::GuestAgent)?.launch_within(within))
    }

    fn mark(&mut self) -> Mark {
        self.vm.mark()
    }

    fn sees(&mut self, from: &Mark, what: &str) {
        let wait = self.vm.wait_any(from, text(what), LONG).expect("there is a console");
        self.until(|vm| vm.claim_wait(wait)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    fn types(&mut self, line: &str) {
        self.vm.type_on("tty", line).expect("there is a console");
        self.until(|vm| vm.machine().outgoing(qemu_machine_core::Channel::Console(0)).is_empty().then_some(()));
    }

    fn ends(&mut self) -> Outcome {
        let wait = self.vm.wait_any(&Mark::default(), [Wait::end()], LONG).expect("it was launched");
        self.until(|vm| vm.claim_wait(wait)).and_then(qemu_machine_core::Hit::into_end).expect("an end")
    }
}

impl Agent for Mio {
    fn attach(peer: Peer, within: Duration) -> Result<Self, LaunchError> {
        Self::launch(Config::attach(peer).speaking(Dialect::GuestAgent).launch_within(within))
    }

    fn ask_within(&mut self, command: &str, arguments: Value, within: Duration) -> Result<Value, CommandError> {
        let ticket = self.vm.execute_by((command, arguments), within)?;
        self.until(|vm| vm.claim(&ticket))
    }

    fn stale(&mut self) -> u64 {
        self.vm.machine().session().counters().stale
    }

    fn leave(mut self) -> Outcome {
        self.vm.disconnect().expect("it is not ours");
        self.until(|vm| vm.outcome().cloned())
    }
}
