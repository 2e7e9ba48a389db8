//! Checks of what holds whatever happens: effects, memory, and what is left after the end.

use std::sync::Arc;

use qemu_machine_core::{Channel, Effect, State};

use super::super::action::limits;
use super::World;

/// More bytes than any command here has on the wire, including the synchronization that a guest agent needs after it.
const COMMAND: usize = 200;

impl World {
    /// Lets a channel be opened, and then closed, once more: it closed, or could not be opened, during the launch.
    pub(super) fn note_opening(&mut self, effect: &Effect) {
        let Effect::Open(channel) = effect else { return };
        let closed = self.closed.remove(channel);
        if self.effects.contains(effect) {
            assert!(closed, "{channel:?} is opened again while it is open");
            let state = self.machine.state();
            assert!(matches!(state, State::Launching(_)), "{channel:?} is opened again after the launch");
            self.effects.retain(|earlier| earlier != effect && *earlier != Effect::Close(*channel));
        }
    }

    pub(super) fn check(&self) {
        let over = self.model.is_over();
        let waits = self.machine.deadline().is_some() || !self.open.is_empty() || self.machine.pid().is_some();
        let state = self.machine.state();
        assert!(waits || over || state == State::Running, "the machine waits for nothing: {:?}", self.machine);
        assert_eq!(format!("{:?}", self.machine).lines().count(), 1);
        self.check_memory();
    }

    /// Asserts that retained data stays within the limits.
    fn check_memory(&self) {
        let (machine, limits) = (&self.machine, limits());
        let history = machine.history();
        let events = (history.first()..history.end()).map(|number| history.get(number).expect("it is kept"));
        let sizes: Vec<usize> = events.map(|event| event.name().len() + event.data().map_or(0, str::len)).collect();
        assert!(sizes.len() == 1 || sizes.iter().sum::<usize>() <= limits.events, "{sizes:?}");
        for name in machine.console_names() {
            let console = machine.console(name).expect("it has a name");
            let span = console.end() - console.first();
            assert!(console.since(0).len() <= limits.console && span <= limits.console as u64);
        }
        // The handshake and the ladder have commands in addition.
        assert!(machine.session().commands() <= limits.commands + 3, "{machine:?}");
        assert!(self.subscriptions.len() <= limits.subscriptions);
        let channels = machine.channels().iter();
        for (channel, outgoing) in channels.map(|channel| (channel, machine.outgoing(*channel).len())) {
            let most = if *channel == Channel::Monitor { limits.commands * COMMAND } else { limits.console_input };
            assert!(outgoing <= most, "{outgoing} bytes for {channel:?}");
        }
    }

    /// Checks what is left after the end.
    pub(super) fn check_end(&mut self) {
        assert!(matches!(self.machine.state(), State::Idle | State::Ended), "{:?}", self.machine);
        assert!(self.model.runs == 0 || self.effects.last() == Some(&Effect::Remove), "{:?}", self.effects);
        assert_eq!((self.machine.deadline(), self.machine.session().commands()), (None, 0));
        assert!(self.machine.channels().is_empty());
        if let (Some(expected), Some(outcome)) = (self.model.unanswered(), self.machine.outcome()) {
            assert_eq!(outcome.unanswered, expected, "{outcome:?}");
        }
        for number in &self.descriptors {
            assert_eq!(Arc::strong_count(number), 1, "the descriptor of command {number} is still held");
        }
        let record = self.machine.record().expect("it is recorded");
        assert!(record.dropped() > 0 || record.replay().is_ok(), "{:?}", record.replay());
    }
}
