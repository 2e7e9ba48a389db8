//! Decides what follows for the whole machine from news of one of its parts: it carries facts to whom they concern.

use crate::lifecycle;
use crate::session;
use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::outstanding::Answer;
use super::{Machine, request};
use crate::command::{Band, Kind, Payload};
use crate::console::Console;
use crate::effect::{Effect, Signal, Spawn};
use crate::error::CommandError;
use crate::event::Event;
use crate::input::{Channel, Input};
use crate::lifecycle::LaunchFailure;
use crate::lifecycle::{LinkEvent, Process, ProcessEvent, Rung};
use crate::notice::Notice;
use crate::outcome::{Cause, Evidence, Outcome};
use crate::session::{Owner, Request as Issue};
use crate::time::Moment;
use crate::transport::Peer;
use crate::{CommandId, Config};

impl Machine {
    /// Takes news from the world. Whatever is wrong with it comes out as an answer, a notice or the outcome.
    pub fn handle(&mut self, now: Moment, input: Input<'_>) {
        self.request(now, input)
    }

    pub(super) fn take_input(&mut self, now: Moment, input: Input<'_>) {
        self.advance_clock(now);
        if self.outstanding.settle(&input) {
            self.accept(input);
        }
        self.time_passed();
    }

    fn accept(&mut self, input: Input<'_>) {
        match input {
            Input::Prepared(prepared) => {
                self.command_line = self.config.command_line_with(&prepared);
                self.tell_session(session::Input::Nonce(prepared.nonce));
                // What was given is open in one place only, so that it is closed when it is to be.
                self.used_up = self.config.forget_given();
                self.prepared = prepared;
                self.tell_lifecycle(lifecycle::Input::Process(ProcessEvent::Prepared));
            }
            Input::PrepareFailed(fault) => {
                self.tell_lifecycle(lifecycle::Input::Process(ProcessEvent::PrepareFailed(fault)))
            }
            Input::Spawned { pid } => self.tell_lifecycle(lifecycle::Input::Process(ProcessEvent::Spawned { pid })),
            Input::SpawnFailed(fault) => {
                self.tell_lifecycle(lifecycle::Input::Process(ProcessEvent::SpawnFailed(fault)))
            }
            Input::Exited(status) => self.tell_lifecycle(lifecycle::Input::Process(ProcessEvent::Exited(status))),
            Input::Opened(Channel::Monitor) => {
                self.tell_lifecycle(lifecycle::Input::Link(LinkEvent::Opened));
                self.tell_session(session::Input::Opened);
            }
            Input::Opened(Channel::Console(_)) => {}
            Input::OpenFailed(channel, fault) => {
                if channel == Channel::Monitor {
                    self.tell_lifecycle(lifecycle::Input::Link(LinkEvent::OpenFailed(self.why_not_open(fault))));
                } else {
                    self.evidence.faults.push(fault);
                }
                self.closed(channel);
            }
            Input::PeerBusy(_) => self.evidence.peer_busy = true,
            Input::Received(channel, bytes) => self.received(channel, bytes),
            Input::Closed(channel) => self.closed(channel),
            Input::Signalled(_, Ok(())) => {}
            Input::Signalled(signal, Err(fault)) => {
                self.evidence.faults.push(fault);
                self.tell_lifecycle(lifecycle::Input::SignalRefused(signal));
            }
            Input::LogRead(tail) => self.log_read(tail),
            Input::Removed(result) => {
                self.evidence.faults.extend(result.err());
                self.tell_lifecycle(lifecycle::Input::Removed);
            }
            Input::Detached | Input::TimePassed => {}
        }
    }

    /// So many of the outgoing bytes of a channel were sent. More than are outgoing cannot be, and none on a channel that
    /// is closed.
    pub fn sent(&mut self, channel: Channel, bytes: usize) {
        self.request(self.now, request::Sent { channel, bytes })
    }

    pub(super) fn take_sent(&mut self, channel: Channel, bytes: usize) {
        let bytes = bytes.min(self.outgoing(channel).len());
        match channel {
            Channel::Monitor => self.session.note_sent(bytes),
            Channel::Console(index) => {
                if let Some(console) = self.consoles.get_mut(index) {
                    console.input_mut().sent(bytes);
                }
            }
        }
    }

    /// A clock that goes back counts as unchanged.
    pub(crate) fn advance_clock(&mut self, now: Moment) {
        self.now = self.now.max(now);
    }

    fn time_passed(&mut self) {
        if self.session.deadline().is_some_and(|until| until <= self.now) {
            self.tell_session(session::Input::TimePassed);
        }
        if self.lifecycle.deadline().is_some_and(|(until, _)| until <= self.now) {
            self.tell_lifecycle(lifecycle::Input::TimePassed);
        }
        if self.no_more_events() {
            self.events_closed = true;
            self.waits.disconnected();
        }
        if self.waits.deadline().is_some_and(|until| until <= self.now) {
            self.waits.expire(self.now);
        }
        self.announce_waits();
    }

    fn received(&mut self, channel: Channel, bytes: &[u8]) {
        match channel {
            Channel::Monitor => self.tell_session(session::Input::Received(bytes)),
            Channel::Console(index) => {
                if let Some(console) = self.consoles.get_mut(index) {
                    console.printed(bytes);
                    self.waits.printed(index, console);
                    console.trim();
                    self.notices.push_back(Notice::Printed(index));
                }
            }
        }
    }

    fn closed(&mut self, channel: Channel) {
        if channel == Channel::Monitor {
            self.tell_session(session::Input::Closed);
            self.hung_up = Some(self.now);
            self.tell_lifecycle(lifecycle::Input::Link(LinkEvent::HungUp));
        }
        self.tell_lifecycle(lifecycle::Input::ChannelClosed);
    }

    pub(super) fn tell_session(&mut self, heard: session::Input<'_>) {
        let mut facts = core::mem::take(&mut self.facts);
        self.session.advance(self.now, heard, &mut |fact| facts.push(fact));
        for fact in facts.drain(..) {
            self.learn(fact);
        }
        self.facts = facts;
    }

    fn learn(&mut self, fact: session::Output) {
        match fact {
            session::Output::Greeted => self.tell_lifecycle(lifecycle::Input::Link(LinkEvent::Greeted)),
            session::Output::Syncing => self.tell_lifecycle(lifecycle::Input::Link(LinkEvent::Syncing)),
            session::Output::Ready => self.tell_lifecycle(lifecycle::Input::Link(LinkEvent::Negotiated)),
            session::Output::Failed(failure) => {
                self.tell_lifecycle(lifecycle::Input::Link(LinkEvent::HandshakeFailed(failure)))
            }
            session::Output::Event(event) => self.happened(event),
            session::Output::Answered(id, answer) => self.answered(id, answer),
            session::Output::LadderAnswered(Ok(())) => {}
            session::Output::LadderAnswered(Err(_)) => self.tell_lifecycle(lifecycle::Input::RungRefused),
            session::Output::QuitAccepted => {
                self.evidence.quit = true;
                self.tell_lifecycle(lifecycle::Input::QuitAccepted);
            }
        }
    }

    fn happened(&mut self, event: Event) {
        let number = self.history.push(event);
        self.notices.push_back(Notice::Event(number));
        if let Some(event) = self.history.get(number) {
            self.evidence.note(event);
            self.waits.event(number, event);
        }
        self.tell_subscriptions(number);
    }

    fn answered(&mut self, id: CommandId, answer: Result<Payload, CommandError>) {
        if matches!(answer, Err(CommandError::Disconnected(_) | CommandError::TimedOut(..))) {
            self.evidence.unanswered += 1;
        }
        // Answers come mostly in the order of the commands, so this is mostly the end.
        let place = self.answers.partition_point(|(other, _)| *other < id);
        self.answers.insert(place, (id, answer));
        self.notices.push_back(Notice::Answered(id));
    }

    pub(super) fn announce_waits(&mut self) {
        self.notices.extend(self.waits.news().map(Notice::Waited));
    }

    pub(super) fn tell_lifecycle(&mut self, news: lifecycle::Input) {
        let mut orders = Vec::new();
        self.lifecycle = self.lifecycle.step(self.now, news, &mut |order| orders.push(order));
        orders.into_iter().for_each(|order| self.obey(order));
    }

    fn obey(&mut self, order: lifecycle::Output) {
        match order {
            lifecycle::Output::Prepare => self.order(Answer::Prepare, Effect::Prepare(self.config.preparation())),
            lifecycle::Output::Spawn => {
                let arguments = self.command_line.arguments().to_vec();
                let (share_terminal, outlives) = (self.config.share_terminal, self.config.outlives_parent);
                self.order(Answer::Spawn, Effect::Spawn(Spawn { arguments, share_terminal, outlives }));
            }
            lifecycle::Output::Open => {
                self.outstanding.open(self.config.channels());
                self.effects.extend(self.outstanding.channels().iter().copied().map(Effect::Open));
            }
            lifecycle::Output::Ready => {
                self.notices.push_back(Notice::Ready);
                if let Some(Peer::Detached(_)) = self.config.peer {
                    self.notices.push_back(Notice::Gap);
                }
            }
            lifecycle::Output::Failed(failure) => {
                self.evidence.gave_up = !matches!(failure, LaunchFailure::Cancelled(_));
                self.failure = Some(self.explain(failure));
            }
            lifecycle::Output::Climb(rung) => self.climb(rung),
            // One that QEMU has not read yet is heard as late as another behind it, which would only add to the queue.
            lifecycle::Output::PressAgain if self.session.is_ladder_waiting() => {}
            lifecycle::Output::PressAgain => self.press(),
            lifecycle::Output::HangUp => self.close(|channel| channel == Channel::Monitor),
            lifecycle::Output::LetGo => self.let_go(),
            lifecycle::Output::Detach => self.release(),
            lifecycle::Output::Close => self.close(|_| true),
            lifecycle::Output::ReadLog => {
                self.order(Answer::Log, Effect::ReadLog { limit: self.config.limits.last_words });
            }
            lifecycle::Output::Remove => {
                self.spare_what_may_live();
                self.order(Answer::Remove, Effect::Remove);
            }
            lifecycle::Output::Finish => self.finish(),
        }
    }

    fn let_go(&mut self) {
        self.evidence.let_go = true;
        if let Some(Peer::Detached(_)) = self.config.peer {
            self.release();
        }
    }

    /// A machine that was kept may live on when its connection ends, or does not come about: only one that was told to quit
    /// needs nothing any more.
    fn spare_what_may_live(&mut self) {
        if matches!(self.config.peer, Some(Peer::Detached(_))) && !self.evidence.quit && !self.evidence.let_go {
            self.outstanding.release();
            self.effects.push_back(Effect::Detach);
        }
    }

    fn release(&mut self) {
        self.evidence.let_go = true;
        self.outstanding.release();
        self.effects.push_back(Effect::Detach);
    }

    fn order(&mut self, answer: Answer, effect: Effect) {
        self.outstanding.add(answer);
        self.effects.push_back(effect);
    }

    /// Each channel is told once, also where it is hung up first and everything is closed later.
    fn close(&mut self, which: impl Fn(Channel) -> bool) {
        self.effects.extend(self.outstanding.close(which).into_iter().map(Effect::Close));
    }

    fn signal(&mut self, signal: Signal) {
        self.order(Answer::Signal(signal), Effect::Signal(signal));
    }

    fn climb(&mut self, rung: Rung) {
        self.evidence.rungs.push(rung);
        self.tell_session(session::Input::DisownLadder);
        match rung {
            Rung::PowerDown => self.press(),
            Rung::Quit => self.issue_own(br#"{"execute":"quit""#, Kind { quit: true, ..Kind::default() }),
            Rung::Terminate => self.signal(Signal::Terminate),
            Rung::Kill => self.signal(Signal::Kill),
        }
    }

    fn press(&mut self) {
        self.issue_own(br#"{"execute":"system_powerdown""#, Kind::default());
    }

    fn issue_own(&mut self, body: &[u8], kind: Kind) {
        let owner = Owner::Ladder;
        let issue = Issue { owner, body, band: Band::InBand, kind, deadline: None, descriptor: None };
        self.tell_session(session::Input::Issue(issue));
    }

    /// The outcome begins with the log: it is read before it is removed.
    fn log_read(&mut self, tail: &[u8]) {
        self.evidence.log = self.last_words(tail);
        self.tell_lifecycle(lifecycle::Input::LogRead);
    }

    fn finish(&mut self) {
        // What waited for a monitor that was never opened is answered now.
        self.tell_session(session::Input::Closed);
        let exit = self.lifecycle.dead();
        let started = self.pid().is_some() || exit.is_some();
        let evidence = core::mem::take(&mut self.evidence);
        let outcome = Outcome {
            cause: match self.lifecycle.process() {
                Process::Foreign => Cause::find_of_others(&evidence),
                _ => Cause::find(exit, &evidence, started),
            },
            exit,
            rungs: evidence.rungs,
            last_events: evidence.last_events,
            unanswered: evidence.unanswered,
            log: evidence.log,
            consoles: self.consoles.iter().map(|console| self.console_tail(console)).collect(),
            command_line: self.command_line.clone(),
            faults: evidence.faults,
            record: None,
        };
        self.hung_up = None;
        self.waits.ended(&outcome);
        self.outcome = Some(Box::new(outcome));
        self.notices.push_back(Notice::Ended);
    }

    fn console_tail(&self, console: &Console) -> (String, String) {
        (console.name().to_owned(), self.last_words(console.since(0)))
    }
}

impl Evidence {
    pub(super) fn new(config: &Config) -> Self {
        // As `isa-debug-exit,iobase=…` or in JSON.
        let is_exit_device = |argument: &Vec<u8>| memchr::memmem::find(argument, b"isa-debug-exit").is_some();
        Self { debug_exit: config.arguments().iter().any(is_exit_device), ..Self::default() }
    }
}
