//! Reference model of a machine: what it was asked, what the world did to it, and so what it may and must answer.
//!
//! While the host and QEMU keep the rules, the model predicts the answer of every command and the state. Afterwards it
//! predicts a set of them.

mod outcome;
mod response;

use std::collections::{BTreeMap, BTreeSet};

use qemu_machine_core::{
    CommandError, CommandId, Effect, ExitStatus, Found, Hit, Machine, Moment, Outcome, Payload, State, WaitError,
    WaitId,
};

use super::action::{Happening, How, Setup, Thing, Way};
use response::Response;

#[derive(Debug)]
struct Command {
    number: u64,
    until: Option<Moment>,
    how: How,
    is_disowned: bool,
    /// What QEMU answered, whenever it did.
    said: Option<Response>,
    /// The answer that the command must have by now. `None` means that it may have none yet.
    must: Option<Response>,
    has: Option<Response>,
}

#[derive(Debug)]
struct Waiting {
    things: Vec<Thing>,
    until: Option<Moment>,
    must_be_over: bool,
    is_over: bool,
}

/// What happened in one run.
#[derive(Debug, Default)]
struct Run {
    begun: Moment,
    /// The host reported something that it must not report, or was not waited for.
    is_host_odd: bool,
    is_peer_odd: bool,
    /// The launch cannot go as it does without a fault.
    is_launch_odd: bool,
    spawned: bool,
    exited: Option<ExitStatus>,
    opened: bool,
    negotiated: bool,
    queried: bool,
    closed: bool,
    /// The end has begun, by a request or by itself.
    is_ending: bool,
    may_disconnect: bool,
    is_detached: bool,
    was_running: bool,
    said: Vec<Happening>,
    /// The caller itself executed `quit` or `system_powerdown`.
    asked_by_command: bool,
    disowned: bool,
    /// The commands that the model saw end without a reply.
    unanswered: usize,
}

pub(super) struct Model {
    setup: Setup,
    pub(super) now: Moment,
    pub(super) runs: usize,
    ends: usize,
    run: Run,
    commands: BTreeMap<CommandId, Command>,
    answered: BTreeSet<CommandId>,
    waits: BTreeMap<WaitId, Waiting>,
    has_unsubscribed: bool,
    has_strayed: bool,
    outcome: Option<Outcome>,
}

impl Model {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            now: Moment::ORIGIN,
            runs: 0,
            ends: 0,
            run: Run::default(),
            commands: BTreeMap::new(),
            answered: BTreeSet::new(),
            waits: BTreeMap::new(),
            has_unsubscribed: false,
            has_strayed: false,
            outcome: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.runs == self.ends
    }

    /// Returns whether every answer can be predicted: no part of the world has broken a rule.
    fn is_strict(&self) -> bool {
        let run = &self.run;
        self.setup.way.speaks_qmp() && !run.is_host_odd && !run.is_peer_odd && !run.is_launch_odd
    }

    /// Returns whether all steps of the launch are done. `None` means that the model does not know this protocol.
    fn is_ready(&self) -> Option<bool> {
        let (run, way) = (&self.run, self.setup.way);
        match way {
            Way::WithoutMonitor => Some(run.spawned),
            _ if !way.speaks_qmp() => None,
            _ => Some(run.opened && run.negotiated && (way.is_attached() || self.setup.autostart || run.queried)),
        }
    }

    pub(super) fn launched(&mut self) {
        assert!(self.is_over(), "launched before the end of the run");
        self.runs += 1;
        self.run = Run { begun: self.now, is_host_odd: self.has_strayed, ..Run::default() };
        self.outcome = None;
    }

    pub(super) fn accepted(&mut self, id: CommandId, number: u64, until: Option<Moment>, how: How) {
        self.run.asked_by_command |= matches!(how, How::Quit | How::PowerDown);
        let must = (self.run.was_running && self.run.closed && self.is_strict()).then_some(Response::Disconnected);
        let command = Command { number, until, how, is_disowned: false, said: None, must, has: None };
        assert!(self.commands.insert(id, command).is_none(), "an id was used twice");
    }

    /// Returns the command with this number among all, and notes that it is disowned.
    pub(super) fn disown(&mut self, which: usize) -> Option<CommandId> {
        let which = which % self.commands.len().max(1);
        let (id, command) = self.commands.iter_mut().nth(which)?;
        command.is_disowned = true;
        self.run.disowned = true;
        Some(*id)
    }

    pub(super) fn waits_for(&mut self, id: WaitId, things: Vec<Thing>, until: Option<Moment>) {
        let waiting = Waiting { things, until, must_be_over: false, is_over: false };
        assert!(self.waits.insert(id, waiting).is_none(), "an id was used twice");
    }

    pub(super) fn disown_wait(&mut self, which: usize) -> Option<WaitId> {
        let id = self.waits.keys().nth(which % self.waits.len().max(1)).copied()?;
        self.waits.remove(&id);
        Some(id)
    }

    pub(super) fn unsubscribed(&mut self) {
        self.has_unsubscribed = true;
    }

    /// The end was requested, and the request was accepted.
    pub(super) fn end_requested(&mut self) {
        if !self.is_over() {
            self.run.is_ending = true;
            self.run.may_disconnect = true;
        }
    }

    /// The machine runs on, and what becomes of its process is of no interest.
    pub(super) fn detached(&mut self) {
        self.run.is_detached |= !self.is_over();
        self.end_requested();
    }

    /// The caller does not wait for the host any longer.
    pub(super) fn abandoned(&mut self) {
        self.run.is_host_odd = true;
    }

    pub(super) fn completed(&mut self, effect: &Effect, well: bool) {
        let run = &mut self.run;
        run.is_launch_odd |= !well && !run.was_running;
        match effect {
            Effect::Spawn(_) if well => run.spawned = true,
            Effect::Open(qemu_machine_core::Channel::Monitor) if well => {
                (run.opened, run.closed, run.negotiated, run.queried) = (true, false, false, false);
            }
            _ => {}
        }
    }

    /// The host reported something that did not happen, and may report what did in a later run.
    pub(super) fn strayed(&mut self) {
        self.has_strayed = true;
        self.run.is_host_odd = true;
    }

    pub(super) fn garbled(&mut self) {
        self.run.is_peer_odd = true;
    }

    pub(super) fn exited(&mut self, status: ExitStatus) {
        if !self.run.is_detached {
            self.run.exited.get_or_insert(status);
        }
        // A launch first reads what the process has written.
        self.run.is_ending |= self.run.was_running;
        self.run.is_launch_odd |= !self.run.was_running;
    }

    /// The monitor reached its end. An attached machine ends with it.
    pub(super) fn closed(&mut self) {
        let strict = self.is_strict();
        let run = &mut self.run;
        run.closed = true;
        if !run.was_running {
            run.is_launch_odd = true;
            return;
        }
        run.is_ending |= self.setup.way.is_attached();
        if strict {
            self.must(|_| Some(Response::Disconnected));
        }
    }

    /// QEMU answered a command of the machine itself, or of the caller.
    pub(super) fn answered_by_qemu(&mut self, name: &str, number: Option<u64>, well: bool) {
        let (strict, run) = (self.is_strict(), &mut self.run);
        let Some(number) = number else {
            match name {
                "qmp_capabilities" => run.negotiated = true,
                "query-status" => run.queried = true,
                _ => {}
            }
            run.is_launch_odd |= !well && !run.was_running;
            return;
        };
        let answer = if well { Response::Reply(number) } else { Response::Refusal(number) };
        if let Some(command) = self.commands.values_mut().find(|command| command.number == number) {
            command.said = Some(answer);
        }
        // A machine that is ending may have stopped reading.
        if strict && run.opened && !run.closed && !run.is_ending {
            self.must(|command| (command.number == number).then_some(answer));
        }
    }

    pub(super) fn said(&mut self, happening: Happening) {
        self.run.said.push(happening);
        if self.is_strict() && self.run.was_running && !self.run.is_ending && !self.run.closed {
            let is_found =
                |thing: &Thing| *thing == Thing::AnyEvent || *thing == Thing::Stop && happening == Happening::Stop;
            let waits = self.waits.values_mut().filter(|wait| wait.things.iter().any(is_found));
            waits.for_each(|wait| wait.must_be_over = true);
        }
    }

    pub(super) fn passed(&mut self, now: Moment) {
        self.now = now;
        let run = &mut self.run;
        // No step of a launch takes longer.
        let limit = run.begun.after(core::time::Duration::from_secs(30));
        run.is_launch_odd |= !run.was_running && now >= limit;
        self.must(|command| command.until.is_some_and(|until| until <= now).then_some(Response::TimedOut));
        for wait in self.waits.values_mut() {
            wait.must_be_over |= wait.until.is_some_and(|until| until <= now);
        }
    }

    /// Sets the answer of each open command for which there is one.
    fn must(&mut self, answer: impl Fn(&Command) -> Option<Response>) {
        for command in self.commands.values_mut().filter(|command| command.has.is_none() && command.must.is_none()) {
            command.must = answer(command);
        }
    }

    /// Checks the answer of a command. `None` means that the machine has none, because the command was disowned.
    pub(super) fn answered(&mut self, id: CommandId, result: Option<Result<Payload, CommandError>>) {
        let over = self.is_over();
        let (strict, run) = (self.is_strict(), &mut self.run);
        assert!(self.answered.insert(id), "{id:?} was answered twice");
        let Some(command) = self.commands.get_mut(&id) else { return assert_eq!(result, None, "it was disowned") };
        let Some(result) = result else {
            return assert!(command.is_disowned, "{command:?} has a notice, but no answer");
        };
        let answer = Response::of(result);
        command.has = Some(answer);
        run.unanswered += usize::from(matches!(answer, Response::TimedOut | Response::Disconnected));
        let is_connected = run.opened && !run.closed && !run.is_ending && !run.is_launch_odd && !over;
        let is_allowed = match answer {
            Response::Reply(_) | Response::Refusal(_) => command.said == Some(answer) || run.is_peer_odd,
            Response::Foreign | Response::Broken => run.is_peer_odd,
            Response::TimedOut => command.until.is_some_and(|until| until <= self.now),
            Response::Disconnected => !is_connected || run.is_host_odd || run.is_peer_odd,
            Response::Misuse => command.how.is_out_of_band() && (!self.setup.offers_out_of_band || run.is_peer_odd),
        };
        assert!(is_allowed, "{answer:?} is not allowed for {command:?} in {run:?}");
        if strict && answer != Response::Misuse {
            let expected = command.must.or(command.said);
            assert!(expected.is_none_or(|expected| expected == answer), "{answer:?} for {command:?} in {run:?}");
        }
    }

    /// Checks the result of a wait.
    pub(super) fn waited(&mut self, id: WaitId, result: Option<Result<Hit, WaitError>>) {
        let over = self.is_over();
        let Some(wait) = self.waits.get_mut(&id) else { return assert_eq!(result, None, "it was disowned") };
        let result = result.expect("a wait that is over has a result");
        assert!(!wait.is_over, "a wait is over twice: {wait:?}");
        wait.is_over = true;
        let (run, things) = (&self.run, &wait.things);
        let is_allowed = match &result {
            Ok(hit) => match (things.get(hit.index), &hit.found) {
                (Some(Thing::Stop), Found::Event(event)) => {
                    event.name() == "STOP" && (run.said.contains(&Happening::Stop) || run.is_peer_odd)
                }
                (Some(Thing::AnyEvent), Found::Event(_)) => !run.said.is_empty() || run.is_peer_odd,
                (Some(Thing::Text), Found::Text(text)) => text.ends_with("ok"),
                (Some(Thing::Queued), Found::Queued(_)) => true,
                (Some(Thing::End), Found::End(_)) => over,
                _ => false,
            },
            Err(WaitError::TimedOut) => wait.until.is_some_and(|until| until <= self.now),
            Err(WaitError::Ended(_)) => over && !things.contains(&Thing::End),
            Err(WaitError::Disconnected) => {
                let has_none = self.setup.way == Way::WithoutMonitor;
                (run.closed || run.is_host_odd || run.is_launch_odd || has_none)
                    && !things.iter().any(|thing| matches!(thing, Thing::End | Thing::Text))
            }
            Err(WaitError::Unsubscribed) => self.has_unsubscribed && things.iter().all(|thing| *thing == Thing::Queued),
            Err(error) => panic!("no wait here can fail so: {error}"),
        };
        assert!(is_allowed, "{result:?} is not allowed for {wait:?} in {run:?}");
    }

    /// Checks the state, and that what must have been answered was answered.
    pub(super) fn check(&mut self, machine: &Machine) {
        let (state, over) = (machine.state(), self.is_over());
        assert_eq!(machine.outcome(), self.outcome.as_ref(), "an outcome exists from the end on, and never changes");
        match state {
            State::Idle => assert_eq!(self.runs, 0),
            State::Ended => assert!(over && self.runs > 0),
            _ => assert!(!over),
        }
        self.run.was_running |= state == State::Running;
        let run = &self.run;
        if !run.is_host_odd && !over {
            // Of a process that ended during its launch, the last output is read first, whatever is requested.
            let may_launch = run.exited.is_some() && !run.was_running;
            assert!(
                !run.is_ending || state == State::Ending || may_launch,
                "{state:?}, but the end has begun: {run:?}"
            );
            assert!(!run.was_running || run.is_ending || state == State::Running, "{state:?} by itself: {run:?}");
            let is_ready = self.is_ready();
            assert!(state != State::Running || is_ready != Some(false) || run.is_peer_odd, "not ready: {run:?}");
            let must_run = self.is_strict() && is_ready == Some(true) && !run.is_ending;
            assert!(!must_run || state == State::Running, "{state:?}, but it is ready: {run:?}");
        }
        let strict = self.is_strict() && !run.is_ending;
        for (id, command) in &self.commands {
            let is_due = over || command.must.is_some_and(|must| strict || must == Response::TimedOut);
            let is_answered = command.is_disowned || command.has.is_some();
            assert!(is_answered || !is_due || command.how.is_out_of_band() && !over, "{id:?}: {command:?} in {run:?}");
        }
        for (id, wait) in &self.waits {
            assert!(wait.is_over || !(over || wait.must_be_over), "{id:?}: {wait:?} in {run:?}");
        }
        // Keep only what the machine can still answer: a world may have thousands of commands.
        self.commands.retain(|_, command| !command.is_disowned && command.has.is_none());
        self.waits.retain(|_, wait| !wait.is_over);
    }
}
