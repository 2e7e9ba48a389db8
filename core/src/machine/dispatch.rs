//! Dispatch between the parts of a machine: each input goes to its part, and the outputs of that part to the next.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::outstanding::Completion;
use super::queries::last_words;
use super::request::{self, Request};
use super::{Answers, Machine};
use crate::channel::Channel;
use crate::command::CommandId;
use crate::companion;
use crate::console::Console;
use crate::effect::{Effect, Preparation, Spawn};
use crate::error::CommandError;
use crate::event::Event;
use crate::fault::{FaultKind, HostFault};
use crate::input::{Input, Prepared};
use crate::lifecycle::{self, Cleaning, LaunchFailure, LinkEvent, Process, ProcessEvent, Rung};
use crate::notice::Notice;
use crate::outcome::{Cause, Evidence, Outcome};
use crate::payload::Payload;
use crate::session;
use crate::signal::Signal;
use crate::text::UntrustedText;
use crate::time::Moment;
use crate::wire::Encoded;
use crate::work;

impl Machine {
    /// Applies an input of the driver. Inputs never fail: an error is reported as a reply, a notice or the outcome. An
    /// input that completes no effect, or comes from a channel that is not open, counts as [`Input::TimePassed`].
    pub fn handle(&mut self, now: Moment, input: Input<'_>) {
        self.request(now, input);
    }

    /// Records that the driver sent so many of the [`outgoing`](Self::outgoing) bytes of a channel. A number beyond
    /// them counts as all of them; on a closed channel none count.
    pub fn sent(&mut self, channel: Channel, bytes: usize) {
        self.request(self.now, request::Sent { channel, bytes })
    }

    /// Advances the clock. A time before the latest counts as the latest.
    pub(crate) fn advance_clock(&mut self, now: Moment) {
        self.now = self.now.max(now);
    }

    /// Applies the deadlines that have passed.
    fn time_passed(&mut self) {
        if self.session.deadline().is_some_and(|until| until <= self.now) {
            self.step_session(session::Input::TimePassed);
        }
        let companions = self.companions.as_ref().and_then(|companions| companions.deadline());
        if companions.is_some_and(|until| until <= self.now) {
            // Before the lifecycle: the companion that is late explains why the deadline of the launch passes.
            self.step_companions(companion::Input::TimePassed);
        }
        if self.lifecycle.deadline().is_some_and(|(until, _)| until <= self.now) {
            self.step_lifecycle(lifecycle::Input::TimePassed);
        }
        if self.waits.deadline().is_some_and(|until| until <= self.now) {
            self.waits.expire(self.now);
        }
        self.announce_waits();
    }

    fn host_prepared(&mut self, prepared: Prepared) {
        self.command_line = self.config.command_line_with(&prepared);
        self.step_session(session::Input::Nonce(prepared.nonce));
        // The machine drops its copy of the caller's descriptor, so that the driver's close ends the connection.
        self.used_up |= self.config.drop_given_connection();
        let found = prepared.process.as_ref().filter(|_| self.config.is_resumed());
        let event = found.map_or(ProcessEvent::Prepared, |process| ProcessEvent::Found { pid: process.pid });
        self.last_pid = found.map(|process| process.pid);
        if matches!(event, ProcessEvent::Found { .. }) {
            // The evidence may hold what happened before, such as faults.
            if let Some(found) = Evidence::of_arguments(self.command_line.arguments()) {
                self.evidence().debug_exit = found.debug_exit;
            }
            self.outstanding.add(Completion::Exit);
        }
        self.prepared = prepared;
        match event {
            ProcessEvent::Prepared => self.start_companions(),
            found => self.step_process(found),
        }
    }

    fn printed(&mut self, index: usize, bytes: &[u8]) {
        if let Some(console) = self.consoles.get_mut(index) {
            console.printed(bytes);
            self.waits.printed(index, console);
            console.trim();
            self.notices.push_back(Notice::Printed(index));
        }
    }

    fn closed(&mut self, channel: Channel) {
        match channel {
            Channel::Monitor => {
                let awaits_next_peer = self.lifecycle.awaits_next_peer();
                self.step_session(if awaits_next_peer { session::Input::Reopening } else { session::Input::Closed });
                self.step_link(LinkEvent::HungUp);
            }
            // A caller that reads the console waits for its end as for its output.
            Channel::Console(index) => self.notices.push_back(Notice::Printed(index)),
        }
        self.step_lifecycle(lifecycle::Input::ChannelClosed);
    }

    pub(super) fn step_session(&mut self, input: session::Input<'_>) {
        let Self { session, outputs, answers, notices, undoing, now, .. } = self;
        session.advance(*now, input, &mut |output| match output {
            // Mostly a reply is the only output, and then it is not moved once more.
            session::Output::Answered(id, Ok(reply)) if outputs.is_empty() && undoing.is_empty() => {
                keep(answers, notices, id, Ok(reply));
            }
            output => outputs.push(output),
        });
        if self.outputs.is_empty() {
            return;
        }
        let mut outputs = core::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                session::Output::Greeted => self.step_link(LinkEvent::Greeted),
                session::Output::Querying => self.step_link(LinkEvent::Querying),
                session::Output::Syncing => self.step_link(LinkEvent::Syncing),
                session::Output::Ready => self.step_link(LinkEvent::Negotiated),
                session::Output::Failed(failure) => self.step_link(LinkEvent::HandshakeFailed(failure)),
                session::Output::Event(event) => self.happened(event),
                session::Output::Answered(id, answer) => self.answered(id, answer),
                session::Output::LadderAnswered(Ok(())) => {}
                session::Output::LadderAnswered(Err(_)) => self.step_lifecycle(lifecycle::Input::RungRefused),
                session::Output::QuitAccepted => self.step_lifecycle(lifecycle::Input::QuitAccepted),
                session::Output::PowerButtonPressed => self.evidence().pressed_button = true,
            }
        }
        self.outputs = outputs;
    }

    fn happened(&mut self, event: Event) {
        let (waits, has_subscription) = self.find_interested(&event);
        let is_kept = self.history.keeps(&event);
        // What nothing wants is not copied, however large it is.
        let event = if is_kept || has_subscription || !waits.is_empty() { event.retained() } else { event };
        if is_kept && Evidence::is_in(&event) {
            let has_sent_quit = self.session.has_sent_quit();
            self.evidence().note(&event, has_sent_quit);
        }
        let number = self.history.push(event.clone());
        self.notices.push_back(Notice::Event(number));
        self.waits.event(number, &event, waits);
        self.queue_for_subscriptions(&event);
        self.undo_on(&event);
        match event.name() {
            "STOP" => {
                self.step_lifecycle(lifecycle::Input::GuestStopped);
                self.note_shutdown(false);
            }
            "SHUTDOWN" => self.note_shutdown(true),
            "RESUME" => self.step_lifecycle(lifecycle::Input::GuestResumed),
            "RESET" => self.last_reset = self.mark(),
            _ => {}
        }
    }

    fn answered(&mut self, id: CommandId, answer: Result<Payload, CommandError>) {
        let Some(answer) = self.undo_answered(id, answer) else { return };
        if matches!(answer, Err(CommandError::Disconnected(_) | CommandError::TimedOut(..))) {
            self.evidence().unanswered += 1;
        }
        keep(&mut self.answers, &mut self.notices, id, answer);
    }

    pub(super) fn announce_waits(&mut self) {
        if self.waits.has_ended() {
            self.notices.extend(self.waits.take_ended().map(Notice::Waited));
        }
    }

    pub(super) fn step_process(&mut self, event: ProcessEvent) {
        self.step_lifecycle(lifecycle::Input::Process(event));
    }

    fn step_link(&mut self, event: LinkEvent) {
        self.step_lifecycle(lifecycle::Input::Link(event));
    }

    pub(super) fn step_lifecycle(&mut self, input: lifecycle::Input) {
        let mut outputs = Vec::new();
        self.lifecycle.advance(self.now, input, &mut |output| outputs.push(output));
        outputs.into_iter().for_each(|output| self.carry_out(output));
    }

    /// Turns an output of the lifecycle into an effect, a notice or an input of the session.
    fn carry_out(&mut self, output: lifecycle::Output) {
        match output {
            lifecycle::Output::Prepare => {
                let preparation = self.preparation();
                self.issue_effect(Completion::Prepare, Effect::Prepare(preparation));
            }
            lifecycle::Output::Spawn => {
                let arguments = self.command_line.arguments().to_vec();
                let (share_terminal, outlives) = (self.config.share_terminal, self.config.outlives_parent);
                let attributes = self.config.attributes();
                let guarded = self.config.may_escape();
                let spawn = Spawn { arguments, share_terminal, outlives, guarded, attributes };
                self.issue_effect(Completion::Spawn, Effect::Spawn(spawn));
            }
            lifecycle::Output::Open => {
                self.outstanding.open(self.config.channels());
                self.effects.extend(self.outstanding.channels().iter().copied().map(Effect::Open));
            }
            lifecycle::Output::Reopen => {
                self.outstanding.reopen(Channel::Monitor);
                self.effects.push_back(Effect::Open(Channel::Monitor));
            }
            lifecycle::Output::Ready => {
                self.notices.push_back(Notice::Ready);
            }
            lifecycle::Output::Gap => {
                self.notices.push_back(Notice::Gap);
            }
            lifecycle::Output::Climb(rung) => self.climb(rung),
            lifecycle::Output::Skip(rung) => self.evidence().skipped.push(rung),
            // QEMU has not executed the previous press yet: another would come no sooner, and only lengthen its queue.
            lifecycle::Output::PressAgain if self.session.is_ladder_waiting() => {}
            lifecycle::Output::PressAgain => self.execute_for_ladder("system_powerdown"),
            lifecycle::Output::HangUp => self.close(|channel| channel == Channel::Monitor),
            lifecycle::Output::EventsClosed => {
                self.waits.disconnected();
                self.miss_overdue();
            }
            lifecycle::Output::Close => self.close(|_| true),
            lifecycle::Output::Detach => {
                self.outstanding.detach();
                self.effects.push_back(Effect::Detach);
            }
            lifecycle::Output::ReadLog => {
                self.issue_effect(Completion::Log, Effect::ReadLog { limit: self.config.limits.log });
            }
            lifecycle::Output::Remove => self.remove_after_companions(),
            lifecycle::Output::Unclean(step) => self.evidence().faults.push(overdue(step)),
            lifecycle::Output::Finish => self.finish(),
        }
    }

    /// Returns what to create for the process. The machine drops its copies of the caller's descriptors, so that they
    /// are closed here once the process has its own: a pipe ends with QEMU, and not with the machine.
    fn preparation(&mut self) -> Preparation {
        let preparation = self.config.preparation();
        self.used_up |= self.config.drop_given_descriptors();
        preparation
    }

    pub(super) fn issue_effect(&mut self, completion: Completion, effect: Effect) {
        self.outstanding.add(completion);
        self.effects.push_back(effect);
    }

    /// Closes each channel once, also where the monitor is closed first and all channels are closed later.
    fn close(&mut self, which: impl Fn(Channel) -> bool) {
        self.effects.extend(self.outstanding.close(which).into_iter().map(Effect::Close));
    }

    fn climb(&mut self, rung: Rung) {
        self.evidence().rungs.push(rung);
        self.step_session(session::Input::DisownLadder);
        match rung {
            Rung::PowerDown => self.execute_for_ladder("system_powerdown"),
            Rung::Quit => self.execute_for_ladder("quit"),
            Rung::Terminate => {
                self.issue_effect(Completion::Signal(Signal::Terminate), Effect::Signal(Signal::Terminate))
            }
            Rung::Kill => self.issue_effect(Completion::Signal(Signal::Kill), Effect::Signal(Signal::Kill)),
        }
    }

    fn execute_for_ladder(&mut self, name: &'static str) {
        self.step_session(session::Input::ExecuteForLadder(&Encoded::name(name)));
    }

    fn finish(&mut self) {
        // Commands that were queued for a monitor that never opened are answered now.
        self.step_session(session::Input::Closed);
        let evidence = *self.evidence.take().unwrap_or_default();
        let outcome = Outcome {
            cause: Cause::find(&self.lifecycle, &evidence, self.prepared.signaller),
            exit: self.lifecycle.dead(),
            rungs: evidence.rungs,
            skipped: evidence.skipped,
            last_events: evidence.last_events,
            unanswered: evidence.unanswered,
            log: evidence.log.into(),
            consoles: self.console_tails(),
            companions: self.companions.as_ref().map(|companions| companions.ends()).unwrap_or_default(),
            command_line: self.command_line.clone(),
            pid: self.last_pid,
            log_path: self.prepared.log.clone(),
            faults: evidence.faults,
            record: None,
        };
        self.waits.ended(&outcome);
        self.outcome = Some(Box::new(outcome));
        self.notices.push_back(Notice::Ended);
        // The end may follow a request, `abandon`, after which no input comes.
        self.announce_waits();
    }

    /// Returns the end of each console. That of the log is in the outcome by itself.
    fn console_tails(&self) -> Vec<(String, UntrustedText)> {
        let log = self.config.log_console();
        let consoles = self.consoles.iter().enumerate().filter(|(index, _)| Some(*index) != log);
        let most = self.config.limits.last_words;
        let tail = |console: &Console| (console.name().to_owned(), last_words(console.since(0), most).into());
        consoles.map(|(_, console)| tail(console)).collect()
    }
}

/// Keeps an answer until it is claimed, and notes it. Replies mostly keep the order of the commands, so this is mostly a
/// push to the end.
#[inline]
fn keep(answers: &mut Answers, notices: &mut VecDeque<Notice>, id: CommandId, answer: Result<Payload, CommandError>) {
    notices.push_back(Notice::Answered(id));
    if answers.back().is_none_or(|(last, _)| *last < id) {
        return answers.push_back((id, answer));
    }
    let place = answers.partition_point(|(other, _)| *other < id);
    work::count(place.min(answers.len() - place));
    answers.insert(place, (id, answer));
}

/// Returns the fault of a step of the clean-up that the host has not completed in time.
fn overdue(step: Cleaning) -> HostFault {
    let operation = match step {
        Cleaning::Log => "read the log",
        Cleaning::Remove => "remove the files of the machine",
    };
    let reason = "the file system has not answered".into();
    HostFault { operation: operation.into(), kind: FaultKind::Busy, errno: None, reason }
}

/// [`Machine::handle`]: passes an input to its part.
impl Request for Input<'_> {
    type Response = ();

    fn apply(self, machine: &mut Machine, now: Moment) {
        machine.advance_clock(now);
        if !machine.outstanding.complete(&self) {
            return machine.time_passed();
        }
        match self {
            Input::Prepared(prepared) if machine.lifecycle.is_preparing() => machine.host_prepared(prepared),
            Input::PrepareFailed(fault) => machine.step_process(ProcessEvent::PrepareFailed(fault)),
            Input::Spawned { pid } => {
                if machine.lifecycle.process() == Process::Spawning {
                    machine.last_pid = Some(pid);
                }
                machine.step_process(ProcessEvent::Spawned { pid });
            }
            Input::SpawnFailed(fault) => {
                machine.step_process(ProcessEvent::SpawnFailed(fault));
                machine.qemu_ended();
            }
            Input::Exited(status) => {
                machine.step_process(ProcessEvent::Exited(status));
                machine.qemu_ended();
            }
            Input::Companion(index, event) => machine.companion_event(index, event),
            Input::Opened(Channel::Monitor) => {
                machine.step_link(LinkEvent::Opened);
                machine.step_session(session::Input::Opened);
            }
            Input::OpenFailed(Channel::Monitor, fault) => {
                machine.step_link(LinkEvent::OpenFailed(LaunchFailure::not_open(machine.config.peer.as_ref(), fault)));
                if machine.lifecycle.dials_again() {
                    machine.step_lifecycle(lifecycle::Input::ChannelClosed);
                } else {
                    machine.closed(Channel::Monitor);
                }
            }
            Input::OpenFailed(channel, fault) => {
                machine.evidence().faults.push(fault);
                machine.closed(channel);
            }
            Input::PeerProcess { pid, arguments } => {
                machine.qemu_pid = Some(pid);
                if machine.config.is_start_decided_by(&arguments) {
                    machine.step_session(session::Input::KeepGuestHeld);
                }
            }
            Input::PeerBusy(_) => machine.step_link(LinkEvent::PeerBusy),
            Input::Received(Channel::Monitor, bytes) => machine.step_session(session::Input::Received(bytes)),
            Input::Received(Channel::Console(index), bytes) => machine.printed(index, bytes),
            Input::Closed(channel) => machine.closed(channel),
            Input::Signalled(signal, Err(fault)) => {
                machine.evidence().faults.push(fault);
                machine.step_lifecycle(lifecycle::Input::SignalRefused(signal));
            }
            Input::LogRead(tail) => {
                machine.evidence().log = last_words(tail, machine.config.limits.log);
                machine.step_lifecycle(lifecycle::Input::LogRead);
            }
            Input::Removed(result) => {
                machine.evidence().faults.extend(result.err());
                machine.step_lifecycle(lifecycle::Input::Removed);
            }
            // The run ended before: the host has removed what it prepared.
            Input::Prepared(_)
            | Input::Opened(Channel::Console(_))
            | Input::Signalled(_, Ok(()))
            | Input::Detached
            | Input::TimePassed => {}
        }
        machine.time_passed();
    }
}

/// [`Machine::sent`].
impl Request for request::Sent {
    type Response = ();

    fn apply(self, machine: &mut Machine, now: Moment) {
        machine.advance_clock(now);
        if !machine.channels().contains(&self.channel) {
            return;
        }
        match self.channel {
            Channel::Monitor => machine.session.note_sent(self.bytes),
            Channel::Console(index) => {
                if let Some(console) = machine.consoles.get_mut(index) {
                    console.input_mut().sent(self.bytes);
                }
            }
        }
    }
}
