//! Machine under test, with the simulated host and QEMU: performs actions, notifies the model of them, and checks what
//! holds whatever happens.

mod checks;

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use qemu_machine_core::{
    Channel, Descriptor, Effect, ExitStatus, HostFault, Input, Machine, Mark, Notice, OutOfBand, Signal, SignalName,
    State, SubscriptionId, Wait, json,
};

use super::super::host::completion;
use super::action::{Action, Ending, Happening, How, KINDS, Message, Setup, Thing, Within};
use super::model::{Model, TEXT};
use super::qemu::Qemu;

const KILLED: ExitStatus = ExitStatus::Signal { number: 9, name: SignalName::Kill, core_dumped: false };

pub(super) struct World {
    setup: Setup,
    machine: Machine,
    model: Model,
    qemu: Qemu,
    has_greeted: bool,
    is_alive: bool,
    /// The effects of this run so far, and those that are outstanding.
    effects: Vec<Effect>,
    open: Vec<Effect>,
    /// The channels that closed, or could not be opened, since they were last opened.
    closed: BTreeSet<Channel>,
    numbers: u64,
    subscriptions: Vec<SubscriptionId>,
    mark: Mark,
    /// The descriptors that were passed to commands, each with the number of its command.
    descriptors: Vec<Arc<u64>>,
    /// The numbers of the commands whose descriptor was sent.
    carried: BTreeSet<u64>,
}

/// Returns a descriptor with this number, and keeps a reference to it.
fn describe(descriptors: &mut Vec<Arc<u64>>, number: u64) -> Descriptor {
    let shared = Arc::new(number);
    descriptors.push(shared.clone());
    Descriptor::new(shared)
}

impl World {
    pub(super) fn new(setup: &Setup) -> Self {
        let machine = Machine::new(setup.config()).expect("a good configuration");
        let mut world = Self {
            setup: setup.clone(),
            mark: machine.mark(),
            machine,
            model: Model::new(setup.clone()),
            qemu: Qemu::default(),
            has_greeted: false,
            is_alive: false,
            effects: Vec::new(),
            open: Vec::new(),
            closed: BTreeSet::new(),
            numbers: 0,
            subscriptions: Vec::new(),
            descriptors: Vec::new(),
            carried: BTreeSet::new(),
        };
        if setup.begins_ready() {
            world.apply(&Action::Launch);
        }
        world
    }

    pub(super) fn apply(&mut self, action: &Action<'_>) {
        let now = self.model.now;
        let is_connected = self.is_connected();
        match action {
            Action::Launch => {
                self.launch();
                if self.setup.begins_ready() {
                    self.serve();
                }
            }
            Action::Execute(commands) => commands.iter().for_each(|(how, within)| self.execute(*how, *within)),
            Action::Disown(which) => {
                if let Some(id) = self.model.disown((*which).into()) {
                    self.machine.disown(id);
                    assert_eq!(self.machine.take(id), None);
                }
            }
            Action::Wait(things, within) => self.wait(things.clone(), *within),
            Action::DisownWait(which) => {
                self.model.disown_wait((*which).into()).into_iter().for_each(|id| self.machine.disown_wait(id));
            }
            Action::Mark => {
                self.mark = self.machine.mark();
                self.model.mark();
            }
            Action::Subscribe => {
                if let Ok(id) = self.machine.subscribe(&self.mark, [Wait::any_event()]) {
                    self.subscriptions.push(id);
                    self.model.subscribed(id);
                }
            }
            Action::Unsubscribe => {
                if let Some(id) = self.subscriptions.pop() {
                    self.model.unsubscribed(id);
                    self.machine.unsubscribe(id);
                }
            }
            Action::NextEvent => {
                for id in &self.subscriptions {
                    let event = self.machine.next_event(*id);
                    self.model.next_event(*id, event.as_ref(), self.machine.missed_events(*id));
                }
            }
            Action::Write(text) => drop(self.machine.console_write(now, "tty", text.as_bytes())),
            Action::Shutdown(how) => {
                let accepted = self.machine.shutdown(now, *how).is_ok();
                self.requested(accepted);
            }
            Action::Kill => {
                let accepted = self.machine.kill(now).is_ok();
                self.requested(accepted);
            }
            Action::Disconnect => {
                let accepted = self.machine.disconnect(now).is_ok();
                self.requested(accepted);
            }
            Action::Detach if self.machine.detach(now).is_ok() => self.model.detached(),
            Action::KillOrDisconnect => {
                self.machine.kill_or_disconnect(now);
                self.requested(true);
            }
            Action::Abandon if self.setup.is_odd => {
                self.model.abandoned();
                self.machine.abandon(now);
            }
            Action::Complete(which, result) if !self.open.is_empty() => {
                let effect = self.open.remove(usize::from(*which) % self.open.len());
                self.complete(&effect, result.clone());
            }
            Action::Exit(status) if self.is_alive => self.exit(*status),
            Action::Close(which) if !self.machine.channels().is_empty() => {
                let channels = self.machine.channels();
                self.close(channels[usize::from(*which) % channels.len()]);
            }
            Action::Print(bytes) if self.machine.channels().contains(&Channel::Console(0)) => {
                self.model.printed(bytes);
                self.report(Input::Received(Channel::Console(0), bytes));
            }
            Action::Stray(input) if self.setup.is_odd => {
                self.model.strayed();
                self.is_alive &= !matches!(input, Input::Exited(_));
                if matches!(input, Input::Received(Channel::Monitor, _)) {
                    self.model.garbled();
                }
                self.report(input.clone());
            }
            Action::Send(most) => self.send(most.map_or(usize::MAX, usize::from)),
            Action::Greet if is_connected => self.greet(),
            Action::Talk(messages, piece) if is_connected => {
                let bytes: Vec<u8> = messages.iter().flat_map(|message| self.encode(*message)).collect();
                bytes.chunks(*piece).for_each(|piece| self.receive(piece));
            }
            Action::Garble(garbage) if is_connected && self.setup.is_odd => {
                self.model.garbled();
                self.receive(&garbage.bytes());
            }
            Action::Pass(seconds) => self.pass(Duration::from_secs((seconds % 64).into())),
            Action::PassToDeadline => {
                let until = self.machine.deadline().map(|(until, _)| until.since(now));
                self.pass(until.unwrap_or_default());
            }
            Action::Serve => self.serve(),
            _ => {}
        }
        self.look();
    }

    fn report(&mut self, input: Input<'_>) {
        if let Input::Closed(channel) | Input::OpenFailed(channel, _) = &input {
            self.closed.insert(*channel);
        }
        self.machine.handle(self.model.now, input);
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.report(Input::Received(Channel::Monitor, bytes));
    }

    /// Returns whether the host has opened the monitor, so that it can receive.
    fn is_connected(&self) -> bool {
        let is_opening = self.open.contains(&Effect::Open(Channel::Monitor));
        self.machine.channels().contains(&Channel::Monitor) && !is_opening
    }

    fn launch(&mut self) {
        if self.machine.launch(self.model.now).is_ok() {
            assert!(self.open.is_empty() || self.effects.last() == Some(&Effect::Remove), "{:?}", self.open);
            self.model.launched();
            self.effects.clear();
            self.closed.clear();
        }
    }

    fn execute(&mut self, how: How, within: Within) {
        let (now, number, within) = (self.model.now, self.numbers, within.deadline());
        let (machine, arguments) = (&mut self.machine, json!({"n": number}));
        let id = match how {
            How::Plain => machine.execute(now, &("query-name", arguments), within).map(|ticket| ticket.id()),
            How::OutOfBand => {
                machine.execute(now, &OutOfBand(("query-yank", arguments)), within).map(|ticket| ticket.id())
            }
            How::Raw => {
                let object = json!({"execute": "raw", "arguments": arguments}).to_string();
                machine.execute_raw(now, object.as_bytes(), within).map(|ticket| ticket.id())
            }
            How::Quit => machine.execute(now, &("quit", arguments), within).map(|ticket| ticket.id()),
            How::PowerDown => machine.execute(now, &("system_powerdown", arguments), within).map(|ticket| ticket.id()),
            How::WithDescriptor => {
                let descriptor = describe(&mut self.descriptors, number);
                machine.execute_with_fd(now, &("add-fd", arguments), descriptor, within).map(|ticket| ticket.id())
            }
            How::OutOfBandWithDescriptor => {
                let (descriptor, command) = (describe(&mut self.descriptors, number), OutOfBand(("add-fd", arguments)));
                machine.execute_with_fd(now, &command, descriptor, within).map(|ticket| ticket.id())
            }
            How::QtestLine => machine.execute_line(now, "readb 0x70", within).map(|ticket| ticket.id()),
        };
        if let Ok(id) = id {
            self.numbers += 1;
            self.model.accepted(id, number, within.passes_at(now), how);
        }
    }

    fn wait(&mut self, things: Vec<Thing>, within: Within) {
        let subscription = self.subscriptions.last();
        let mut wanted = Vec::new();
        let things: Vec<_> =
            things.into_iter().filter(|thing| *thing != Thing::Queued || subscription.is_some()).collect();
        for thing in &things {
            wanted.push(match (thing, subscription) {
                (Thing::Stop, _) => Wait::event("STOP"),
                (Thing::ResetOf(kind), _) => Wait::event("RESET").with(json!({"kind": kind % KINDS})),
                (Thing::Text, _) => Wait::text("tty", TEXT),
                (Thing::End, _) => Wait::end(),
                (Thing::Queued, Some(id)) => Wait::queued(*id),
                (Thing::AnyEvent | Thing::Queued, _) => Wait::any_event(),
            });
        }
        let (now, within) = (self.model.now, within.deadline());
        if let Ok(id) = self.machine.wait(now, &self.mark, wanted, within) {
            let subscription = subscription.copied().filter(|_| things.contains(&Thing::Queued));
            self.model.waits_for(id, things, subscription, within.passes_at(now));
        }
    }

    fn requested(&mut self, accepted: bool) {
        if accepted {
            self.model.end_requested();
        }
    }

    fn complete(&mut self, effect: &Effect, result: Result<(), HostFault>) {
        let well = result.is_ok();
        self.model.completed(effect, well);
        match effect {
            Effect::Spawn(_) => self.is_alive = well,
            Effect::Detach => self.is_alive = false,
            Effect::Open(Channel::Monitor) => (self.qemu, self.has_greeted) = (Qemu::default(), false),
            Effect::Close(Channel::Monitor) => self.model.closed(),
            _ => {}
        }
        self.report(completion(effect, result));
    }

    fn exit(&mut self, status: ExitStatus) {
        self.is_alive = false;
        self.model.exited(status);
        self.report(Input::Exited(status));
    }

    fn close(&mut self, channel: Channel) {
        if channel == Channel::Monitor {
            self.model.closed();
        }
        self.report(Input::Closed(channel));
    }

    fn greet(&mut self) {
        if self.has_greeted || !self.setup.way.speaks_qmp() {
            self.model.garbled();
        }
        self.has_greeted = true;
        self.receive(&Qemu::greeting(self.setup.offers_out_of_band));
    }

    fn answer(&mut self, which: usize, well: bool) {
        let message = self.reply(which, well);
        self.receive(&message);
    }

    /// Returns the answer to a command that QEMU has read. It is empty if there is none.
    fn reply(&mut self, which: usize, well: bool) -> Vec<u8> {
        let Some((asked, message)) = self.qemu.answer(which, well) else { return Vec::new() };
        self.model.answered_by_qemu(&asked.name, asked.number, well);
        message
    }

    fn encode(&mut self, message: Message) -> Vec<u8> {
        match message {
            Message::Reply(which, well) => self.reply(which.into(), well),
            Message::Event(happening) => {
                if !self.setup.way.speaks_qmp() {
                    self.model.garbled();
                }
                self.model.event_sent(happening).into_bytes()
            }
        }
    }

    /// Reports that time has passed. No deadline may remain in the past: a runtime would spin on it.
    fn pass(&mut self, duration: Duration) {
        self.model.passed(self.model.now.after(duration));
        self.report(Input::TimePassed);
        let deadline = self.machine.deadline();
        assert!(deadline.is_none_or(|(until, _)| until > self.model.now), "{deadline:?}");
    }

    /// Sends some bytes. Sent bytes are not sent again, unsent ones come next, and a descriptor is sent once, with the
    /// first byte of its command.
    fn send(&mut self, most: usize) {
        for channel in [Channel::Monitor, Channel::Console(0), Channel::Console(4)] {
            let outgoing = self.machine.outgoing(channel).to_vec();
            let count = if channel == Channel::Monitor { most.min(outgoing.len()) } else { most };
            if let Some(descriptor) = self.machine.outgoing_descriptor(channel).filter(|_| count > 0) {
                let number = **descriptor.get::<Arc<u64>>().expect("one of ours");
                let text = String::from_utf8_lossy(&outgoing);
                let (command, rest) = text.split_once('}').expect("a whole command");
                assert!(command.contains(&format!("\"add-fd\",\"arguments\":{{\"n\":{number}")), "{number}: {command}");
                assert!(!rest.contains("add-fd"), "two commands with one descriptor: {text}");
                assert!(self.carried.insert(number), "a descriptor is sent twice");
            }
            self.machine.sent(channel, count);
            let rest = outgoing.get(count..).unwrap_or_default();
            assert!(self.machine.outgoing(channel).starts_with(rest));
            if channel == Channel::Monitor && self.setup.way.speaks_qmp() {
                self.qemu.receive(&outgoing[..count]);
                if self.qemu.asked.iter().any(|asked| asked.name == "quit") {
                    self.model.quit_received();
                }
            }
        }
    }

    /// Everything goes well until nothing is left to do. A `quit` ends QEMU, and so does SIGKILL.
    fn serve(&mut self) {
        for _ in 0..40 {
            if self.open.is_empty() && self.qemu.asked.is_empty() && self.machine.outgoing(Channel::Monitor).is_empty()
            {
                break;
            }
            while !self.open.is_empty() {
                let effect = self.open.remove(0);
                self.complete(&effect, Ok(()));
                if effect == Effect::Signal(Signal::Kill) && self.is_alive {
                    self.exit(KILLED);
                }
                self.look();
            }
            self.send(usize::MAX);
            let is_connected = self.is_connected();
            if is_connected && !self.has_greeted && self.setup.way.speaks_qmp() {
                self.greet();
            } else if is_connected && !self.qemu.asked.is_empty() {
                let is_quit = self.qemu.asked[0].name == "quit";
                self.answer(0, true);
                if is_quit {
                    self.look();
                    self.close(Channel::Monitor);
                    if self.is_alive {
                        self.exit(ExitStatus::Code(0));
                    }
                }
            } else {
                self.qemu.asked.clear();
            }
            self.look();
        }
    }

    /// Takes the outputs of the machine, and checks them.
    fn look(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            assert!(self.machine.state() != State::Ended || self.effects.last() != Some(&Effect::Remove));
            let is_of_process = matches!(effect, Effect::Spawn(_) | Effect::Signal(_));
            assert!(!is_of_process || !self.setup.way.is_attached(), "{effect:?} for the process of another program");
            self.note_opening(&effect);
            assert!(!self.effects.contains(&effect), "{effect:?} twice");
            self.effects.push(effect.clone());
            self.open.push(effect);
        }
        let prepares = self.effects.iter().filter(|effect| matches!(effect, Effect::Prepare(_))).count();
        assert_eq!(prepares, self.model.runs.min(1), "each run begins once");
        let removed = self.effects.iter().position(|effect| *effect == Effect::Remove);
        assert!(removed.is_none_or(|at| at + 1 == self.effects.len()), "an effect after Remove: {:?}", self.effects);
        let notices: Vec<_> = core::iter::from_fn(|| self.machine.poll_notice()).collect();
        // The answers and waits are over with the end, in any order.
        if notices.contains(&Notice::Ended) {
            self.model.ended(self.machine.outcome().expect("the run is over"));
        }
        for notice in notices {
            match notice {
                Notice::Answered(id) => self.model.answered(id, self.machine.take(id)),
                Notice::Waited(id) => {
                    let result = self.machine.claim_wait(id);
                    self.mark = self.model.waited(id, result).unwrap_or_else(|| self.mark.clone());
                }
                Notice::Event(number) => self.model.happened(number, &self.machine),
                Notice::Queued(id) => self.model.queued(id),
                _ => {}
            }
        }
        self.model.check(&self.machine);
        self.check();
    }

    /// Ends the run, by the rules that a runtime keeps.
    pub(super) fn end(&mut self) {
        match self.setup.ending {
            Ending::Caller => self.apply(&Action::KillOrDisconnect),
            Ending::Qemu(reason, code) => {
                // Another run begins with a mark of the previous one.
                if self.model.is_over() {
                    self.apply(&Action::Launch);
                    self.apply(&Action::Wait(vec![Thing::Stop], Within::Forever));
                    self.apply(&Action::Talk(vec![Message::Event(Happening::Stop)], usize::MAX));
                }
                if let Some(reason) = reason {
                    self.apply(&Action::Talk(vec![Message::Event(Happening::Shutdown(reason))], usize::MAX));
                }
                if self.is_alive {
                    self.apply(&Action::Exit(ExitStatus::Code((code % 4).into())));
                }
                self.apply(&Action::KillOrDisconnect);
            }
        }
        for _ in 0..12 {
            while !self.open.is_empty() {
                let effect = self.open.remove(0);
                self.complete(&effect, Ok(()));
                self.look();
            }
            if self.is_alive {
                self.exit(KILLED);
            }
            for channel in self.machine.channels().to_vec() {
                self.close(channel);
            }
            self.look();
        }
        self.check_end();
    }
}
