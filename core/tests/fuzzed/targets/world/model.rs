//! Reference model of a machine: what it was asked, what the world did to it, and so what it may and must answer.
//!
//! While the host and QEMU keep the rules, the model predicts the answer of every command and the state. Afterwards it
//! predicts a set of them.

mod cause;
mod outcome;
mod response;
mod stream;

use std::collections::{BTreeMap, BTreeSet};

use qemu_machine_core::{
    CommandError, CommandId, Effect, Event, ExitStatus, Found, Hit, Machine, Mark, Moment, Outcome, Payload, Rung,
    State, SubscriptionId, WaitError, WaitId,
};

use super::action::{Happening, How, Setup, Thing, Way};
use response::Response;
pub(super) use stream::TEXT;
use stream::{Finding, Stream, Wanted};

#[derive(Debug)]
struct Command {
    number: u64,
    until: Option<Moment>,
    how: How,
    is_disowned: bool,
    /// What QEMU answered, whenever it did.
    replied: Option<Response>,
    /// The answer that the command must have by now. `None` means that it may have none yet.
    must: Option<Response>,
    has: Option<Response>,
}

impl Command {
    /// Returns whether its deadline has passed. Then each input may time it out, and a reply in pieces is several.
    fn is_due(&self, now: Moment) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[derive(Debug)]
struct Waiting {
    wanted: Wanted,
    until: Option<Moment>,
    /// What it must have found by now. `None` means that it finds nothing.
    finds: Option<Finding>,
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
    events: Vec<Happening>,
    /// The caller itself executed `quit` or `system_powerdown`.
    asked_by_command: bool,
    /// QEMU has read a `quit`.
    quit_received: bool,
    /// The caller executed a `quit`.
    quit_executed: bool,
    quit_accepted: bool,
    button_pressed: bool,
    /// Whether a `quit` was sent before the last `SHUTDOWN`. `None` means that the model cannot know.
    quit_came_first: Option<bool>,
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
    stream: Stream,
    /// How many events QEMU has sent, in all runs.
    numbers: u64,
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
            stream: Stream::default(),
            numbers: 0,
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
        self.stream.restart();
    }

    pub(super) fn accepted(&mut self, id: CommandId, number: u64, until: Option<Moment>, how: How) {
        self.run.asked_by_command |= matches!(how, How::Quit | How::PowerDown);
        self.run.quit_executed |= how == How::Quit;
        let must = (self.run.was_running && self.run.closed && self.is_strict()).then_some(Response::Disconnected);
        let command = Command { number, until, how, is_disowned: false, replied: None, must, has: None };
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

    pub(super) fn waits_for(
        &mut self,
        id: WaitId,
        things: Vec<Thing>,
        subscription: Option<SubscriptionId>,
        until: Option<Moment>,
    ) {
        let wanted = self.stream.want(things, subscription);
        let finds = self.stream.find(&wanted, !self.is_odd());
        let waiting = Waiting { wanted, until, finds, must_be_over: false, is_over: false };
        assert!(self.waits.insert(id, waiting).is_none(), "an id was used twice");
    }

    pub(super) fn disown_wait(&mut self, which: usize) -> Option<WaitId> {
        let id = self.waits.keys().nth(which % self.waits.len().max(1)).copied()?;
        self.waits.remove(&id);
        Some(id)
    }

    pub(super) fn mark(&mut self) {
        self.stream.mark = self.stream.position();
    }

    pub(super) fn subscribed(&mut self, id: SubscriptionId) {
        self.stream.subscribe(id);
    }

    pub(super) fn unsubscribed(&mut self, id: SubscriptionId) {
        self.stream.unsubscribe(id);
    }

    pub(super) fn next_event(&mut self, id: SubscriptionId, event: Option<&Event>, missed: u64) {
        self.stream.check_next(id, event, missed, self.is_odd());
    }

    pub(super) fn queued(&mut self, id: SubscriptionId) {
        self.stream.announce(id, self.is_odd());
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
        self.stream.disconnect();
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
        run.quit_accepted |= well && name == "quit";
        run.button_pressed |= well && name == "system_powerdown";
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
        let now = self.now;
        if let Some(command) = self.commands.values_mut().find(|command| command.number == number) {
            command.replied = Some(answer);
        }
        // A machine that is ending may have stopped reading.
        if strict && run.opened && !run.closed && !run.is_ending {
            self.must(|command| (command.number == number && !command.is_due(now)).then_some(answer));
        }
    }

    pub(super) fn quit_received(&mut self) {
        self.run.quit_received = true;
    }

    /// QEMU sends an event. Returns its message.
    pub(super) fn event_sent(&mut self, happening: Happening) -> String {
        self.run.events.push(happening);
        self.numbers += 1;
        self.stream.send(happening, self.numbers)
    }

    /// The machine reports the event with this number.
    pub(super) fn happened(&mut self, number: u64, machine: &Machine) {
        let (is_odd, strict) = (self.is_odd(), self.is_strict());
        self.stream.report(number, machine.event(number), is_odd, strict);
        if machine.event(number).is_none_or(|event| event.name() == "SHUTDOWN") {
            let run = &mut self.run;
            let may_be_sent = run.quit_executed || machine.rungs().contains(&Rung::Quit);
            run.quit_came_first = if run.quit_received || !may_be_sent { Some(run.quit_received) } else { None };
        }
        self.look_for_findings();
    }

    pub(super) fn printed(&mut self, bytes: &[u8]) {
        self.stream.print(bytes);
        self.look_for_findings();
        self.stream.trim();
    }

    fn look_for_findings(&mut self) {
        let knows_queues = !self.is_odd();
        for wait in self.waits.values_mut().filter(|wait| wait.finds.is_none() && !wait.must_be_over) {
            wait.finds = self.stream.find(&wait.wanted, knows_queues);
        }
    }

    /// Returns whether the events are not those that QEMU sent.
    fn is_odd(&self) -> bool {
        self.run.is_host_odd || self.run.is_peer_odd
    }

    pub(super) fn passed(&mut self, now: Moment) {
        self.now = now;
        let run = &mut self.run;
        // No step of a launch takes longer.
        let limit = run.begun.after(core::time::Duration::from_secs(30));
        run.is_launch_odd |= !run.was_running && now >= limit;
        self.must(|command| command.is_due(now).then_some(Response::TimedOut));
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
            Response::Reply(_) | Response::Refusal(_) => command.replied == Some(answer) || run.is_peer_odd,
            Response::Foreign | Response::Broken => run.is_peer_odd,
            Response::TimedOut => command.is_due(self.now),
            Response::Disconnected => !is_connected || run.is_host_odd || run.is_peer_odd,
            Response::Misuse => command.how.is_out_of_band() && (!self.setup.offers_out_of_band || run.is_peer_odd),
        };
        assert!(is_allowed, "{answer:?} is not allowed for {command:?} in {run:?}");
        if strict && answer != Response::Misuse {
            let expected = command.must.or(command.replied.filter(|_| !command.is_due(self.now)));
            assert!(expected.is_none_or(|expected| expected == answer), "{answer:?} for {command:?} in {run:?}");
        }
    }

    /// Checks the result of a wait. Returns the mark that the next wait begins at; `None` means that it does not move.
    pub(super) fn waited(&mut self, id: WaitId, result: Option<Result<Hit, WaitError>>) -> Option<Mark> {
        let (over, is_odd) = (self.is_over(), self.is_odd());
        let Some(wait) = self.waits.get_mut(&id) else {
            assert_eq!(result, None, "it was disowned");
            return None;
        };
        let result = result.expect("a wait that is over has a result");
        assert!(!wait.is_over, "a wait is over twice: {wait:?}");
        wait.is_over = true;
        let (run, things, stream) = (&self.run, &wait.wanted.things, &mut self.stream);
        let must_fail = wait.finds.is_none() || run.is_host_odd || stream.is_blind();
        let is_gone = wait.wanted.subscription.is_none_or(|id| !stream.knows(id));
        let is_allowed = match &result {
            Ok(Hit { index, found: Found::End(_), .. }) => must_fail && over && things.get(*index) == Some(&Thing::End),
            Ok(hit) => run.is_host_odd || stream.is_found(wait.finds.as_ref(), &wait.wanted, hit, is_odd),
            Err(_) if !must_fail => false,
            Err(WaitError::TimedOut) => wait.until.is_some_and(|until| until <= self.now),
            Err(WaitError::Ended(_)) => over && !things.contains(&Thing::End),
            Err(WaitError::Disconnected) => {
                let has_none = self.setup.way == Way::WithoutMonitor;
                (run.closed || run.is_host_odd || run.is_launch_odd || has_none)
                    && !things.iter().any(|thing| matches!(thing, Thing::End | Thing::Text))
            }
            Err(WaitError::Unsubscribed) => is_gone && things.iter().all(|thing| *thing == Thing::Queued),
            Err(error) => panic!("no wait here can fail so: {error}"),
        };
        assert!(is_allowed, "{result:?} is not allowed for {wait:?} in {run:?}");
        // After an even number of events the next wait begins where this one ended, otherwise at an older mark.
        let hit = result.ok().filter(|_| !is_odd && self.numbers % 2 == 0)?;
        let finding = wait.finds.as_ref()?;
        stream.move_mark(finding);
        Some(hit.mark)
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
        let is_blind = run.is_host_odd || self.stream.is_blind();
        for (id, wait) in &self.waits {
            let must_be_over = over || wait.must_be_over || wait.finds.is_some() && !is_blind;
            assert!(wait.is_over || !must_be_over, "{id:?}: {wait:?} in {run:?}");
        }
        let must_read = strict && run.was_running && !run.closed;
        assert!(!must_read || self.stream.is_up_to_date(), "an event is lost: {:?}", self.stream);
        let (history, is_odd) = (machine.history(), self.is_odd());
        self.stream.check_first(history.first(), history.end(), is_odd);
        self.stream.check_announcements(is_odd);
        // Keep only what the machine can still answer: a world may have thousands of commands.
        self.commands.retain(|_, command| !command.is_disowned && command.has.is_none());
        self.waits.retain(|_, wait| !wait.is_over);
    }
}
