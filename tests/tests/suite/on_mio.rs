//! Row of mio: each story runs in the small event loop of the crate.

use qemu_machine_core::{
    CommandError, Config, Deadline, Event, Hit, LaunchError, Mark, Misuse, Outcome, RawReply, Shutdown, State,
    SubscriptionId, Value, Wait, WaitError, session::Counters,
};
use qemu_machine_mio::{EventLoop, Vm};

use crate::harness::Harness;

/// The row of mio.
pub(crate) struct Mio {
    pub(crate) event_loop: EventLoop,
    pub(crate) vm: Vm,
}

impl Mio {
    pub(crate) fn until<T>(&mut self, mut answer: impl FnMut(&mut Vm) -> Option<T>) -> T {
        let vms = std::slice::from_mut(&mut self.vm);
        self.event_loop.run(vms, |vms| answer(&mut vms[0])).expect("the poll works")
    }

    pub(crate) fn end(&mut self) -> Outcome {
        self.until(|vm| vm.outcome().cloned())
    }
}

impl Harness for Mio {
    const ROW: &'static str = "mio";

    type Events = SubscriptionId;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        let mut event_loop = EventLoop::new().expect("a poll can be created");
        let (registry, tokens) = event_loop.parts();
        let vm = Vm::launch(config, registry, tokens)?;
        let mut machine = Self { event_loop, vm };
        machine.until(|vm| vm.launched())?;
        Ok(machine)
    }

    fn execute(&mut self, command: &str, within: Deadline) -> Result<Value, CommandError> {
        let ticket = self.vm.execute_by(command, within)?;
        self.until(|vm| vm.claim(&ticket))
    }

    fn execute_raw_by(&mut self, object: &str, within: Deadline) -> Result<RawReply, CommandError> {
        let ticket = self.vm.execute_raw_by(object, within)?;
        self.until(|vm| vm.claim(&ticket))
    }

    fn execute_all(&mut self, commands: &[&str], within: Deadline) -> Vec<Result<Value, CommandError>> {
        let tickets: Vec<_> = commands.iter().map(|command| self.vm.execute_by(*command, within)).collect();
        tickets
            .into_iter()
            .map(|ticket| ticket.map_or_else(|error| Err(error.into()), |ticket| self.until(|vm| vm.claim(&ticket))))
            .collect()
    }

    fn mark(&mut self) -> Mark {
        self.vm.mark()
    }

    fn wait_any(&mut self, from: &Mark, things: &[Wait], within: Deadline) -> Result<Hit, WaitError> {
        let wait = self.vm.wait_any(from, things.to_vec(), within)?;
        self.until(|vm| vm.claim_wait(wait))
    }

    fn subscribe(&mut self, from: &Mark, filter: &[Wait]) -> Result<SubscriptionId, Misuse> {
        self.vm.subscribe(from, filter.to_vec())
    }

    fn next(&mut self, events: &mut SubscriptionId, within: Deadline) -> Result<Event, WaitError> {
        self.wait_any(&Mark::default(), &[Wait::queued(*events)], within)?;
        Ok(self.vm.next_event(*events).expect("the queue has an event"))
    }

    fn queued(&mut self, events: &mut SubscriptionId) -> Vec<Event> {
        std::iter::from_fn(|| self.vm.next_event(*events)).collect()
    }

    fn missed(&mut self, events: &SubscriptionId) -> u64 {
        self.vm.missed_events(*events)
    }

    fn unsubscribe(&mut self, events: SubscriptionId) {
        self.vm.unsubscribe(events);
    }

    fn console_write(&mut self, console: &str, text: &str) -> Result<(), Misuse> {
        self.vm.console_write(console, text)
    }

    fn shutdown(&mut self, how: Shutdown) -> Result<Outcome, Misuse> {
        self.vm.shutdown(how)?;
        Ok(self.end())
    }

    fn kill(&mut self) -> Result<Outcome, Misuse> {
        self.vm.kill()?;
        Ok(self.end())
    }

    fn wait(&mut self, within: Deadline) -> Result<Outcome, WaitError> {
        self.wait_any(&Mark::default(), &[Wait::end()], within).and_then(Hit::into_end)
    }

    fn state(&mut self) -> State {
        self.vm.machine().state()
    }

    fn pid(&mut self) -> Option<u32> {
        self.vm.machine().pid()
    }

    fn counters(&mut self) -> Counters {
        self.vm.machine().session().counters()
    }
}
