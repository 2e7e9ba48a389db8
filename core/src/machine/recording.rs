//! Recording of a machine: a decorator around each request that writes the request, its outputs and its response.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Machine;
use super::request::{
    Abandon, BeginWait, ClaimWait, ConsoleWrite, Detach, Disconnect, Disown, DisownWait, Execute, Kill,
    KillOrDisconnect, Launch, NextEvent, Request, Sent, Shutdown, Subscribe, Take, Things, Undo, Unsubscribe,
};
use crate::command::CommandId;
use crate::config::Config;
use crate::error::{CommandError, WaitError};
use crate::event::{Event, SubscriptionId};
use crate::fault::Misuse;
use crate::input::Input;
use crate::notice::Notice;
use crate::payload::Payload;
use crate::record::{self, Beginning, Entry, Issued, Line, Record, Recorder};
use crate::time::Moment;
use crate::wait::{Hit, Wait, WaitId};
use crate::wire::Encoded;

impl Machine {
    /// Returns the inputs and outputs of the machine so far. `None` means that it is not [recorded](Config::recorded).
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.recorder.as_ref().map(|recorder| recorder.record())
    }

    /// Returns the recorder that a configuration asks for. `None` means no recording.
    pub(super) fn recorder(config: &Config) -> Option<Box<Recorder>> {
        let first = || Line { at: Moment::ORIGIN, entry: Entry::Machine(Box::new(Beginning::of(config))) };
        config.recorded.then(|| Box::new(Recorder::new(first(), config.limits.record)))
    }

    /// Applies a request or an input. It is the only entry to a machine.
    pub(super) fn request<R: Recorded>(&mut self, now: Moment, mut request: R) -> R::Response {
        if self.recorder.is_none() {
            return request.apply(self, now);
        }
        // This runs the caller's iterator, if any, before the recorder is taken out: a panic there must not lose it.
        let input = request.input(self, now);
        let Some(mut recorder) = self.recorder.take() else { return request.apply(self, now) };
        let response = self.apply_recorded(&mut recorder, now, request, input);
        self.recorder = Some(recorder);
        response
    }

    fn apply_recorded<R: Recorded>(
        &mut self,
        recorder: &mut Recorder,
        now: Moment,
        request: R,
        input: Option<record::Input>,
    ) -> R::Response {
        // A launch removes notices, and adds none.
        let (effects, notices) = (self.effects.len(), self.notices.len());
        let is_worth_a_line = input.is_some();
        recorder.extend(now.max(self.now), input.map(Entry::Input));
        let response = request.apply(self, now);
        let issued = self.effects.iter().skip(effects).map(record::Output::effect);
        let noticed = self.notices.iter().skip(notices).filter_map(|notice| self.output(*notice));
        recorder.extend(self.now, issued.chain(noticed).map(Entry::Output));
        let response_line = R::output(&response).filter(|_| is_worth_a_line);
        recorder.extend(now.max(self.now), response_line.map(Entry::Output));
        if self.notices.range(notices.min(self.notices.len())..).any(|notice| *notice == Notice::Ended) {
            self.attach_record(&recorder.record());
        }
        response
    }

    /// Returns the line of a notice. `None` for notices that follow from the inputs: events, output and waits.
    fn output(&self, notice: Notice) -> Option<record::Output> {
        match notice {
            Notice::Ready => Some(record::Output::Ready),
            Notice::Gap => Some(record::Output::Gap),
            Notice::Answered(id) => {
                let index = self.answers.binary_search_by_key(&id, |(other, _)| *other).ok()?;
                self.answers.get(index).map(|(_, answer)| record::Output::answer(id, answer))
            }
            Notice::Ended => self.outcome.as_deref().map(record::Output::ended),
            Notice::Event(_)
            | Notice::Queued(_)
            | Notice::Printed(_)
            | Notice::CompanionEnded(_)
            | Notice::Waited(_) => None,
        }
    }

    /// Attaches the record to each copy of the outcome of the run that just ended.
    fn attach_record(&mut self, record: &Record) {
        let text: Arc<str> = record.to_string().into();
        let kept = self.outcome.as_deref_mut().into_iter().chain(self.waits.outcomes_mut());
        kept.filter(|outcome| outcome.record.is_none()).for_each(|outcome| outcome.record = Some(text.clone()));
    }

    /// Returns a machine at the beginning of a recorded run, with a recorder that drops nothing.
    pub(crate) fn at_first_line(beginning: &Beginning, first: &Line) -> Result<Self, Misuse> {
        let machine = Self::new(beginning.config.clone())?;
        Ok(Self { recorder: Some(Box::new(Recorder::unbounded(first.clone()))), ..machine })
    }

    /// Returns the lines from this index on.
    pub(crate) fn lines_from(&self, index: usize) -> &[Line] {
        self.recorder.as_ref().map(|recorder| recorder.since(index)).unwrap_or_default()
    }

    /// Limits the record as the configuration says, from now on.
    pub(crate) fn bound_record(&mut self) {
        let limit = self.config.limits.record;
        self.recorder.iter_mut().for_each(|recorder| recorder.bound(limit));
    }

    /// Makes the request, or reports the input, of a line. Effects and notices are dropped, since the record has them.
    pub(crate) fn repeat(&mut self, now: Moment, input: &record::Input) {
        match input.as_input() {
            Some(input) => self.handle(now, input),
            None => self.repeat_request(now, input),
        }
        self.effects = VecDeque::new();
        self.notices.clear();
    }

    fn repeat_request(&mut self, now: Moment, input: &record::Input) {
        match input {
            record::Input::Launch => drop(self.launch(now)),
            record::Input::Execute(issued) => drop(self.send(now, &Encoded::from(issued), issued.within)),
            record::Input::ConsoleWrite { console, text } => drop(self.console_write(now, console, text)),
            record::Input::Wait { from, things, within } => drop(self.wait(now, from, things.iter().cloned(), *within)),
            record::Input::Subscribe { from, events } => {
                let mut events = events.iter().cloned();
                drop(self.request(now, Subscribe { from, events: Things::new(&mut events) }));
            }
            record::Input::Unsubscribe(id) => self.request(now, Unsubscribe(SubscriptionId(*id))),
            record::Input::Take(id) => drop(self.request(now, Take(CommandId(*id)))),
            record::Input::Disown(id) => self.request(now, Disown(CommandId(*id))),
            record::Input::Undo { pending, .. } => {
                let undo = input.as_undo();
                undo.into_iter().for_each(|undo| self.undo(now, pending.map(CommandId), undo));
            }
            record::Input::ClaimWait(id) => drop(self.request(now, ClaimWait(WaitId(*id)))),
            record::Input::DisownWait(id) => self.request(now, DisownWait(WaitId(*id))),
            record::Input::NextEvent(id) => drop(self.request(now, NextEvent(SubscriptionId(*id)))),
            record::Input::Shutdown(how) => drop(self.shutdown(now, *how)),
            record::Input::Kill => drop(self.kill(now)),
            record::Input::Disconnect => drop(self.disconnect(now)),
            record::Input::Detach => drop(self.detach(now)),
            record::Input::Abandon => self.abandon(now),
            record::Input::KillOrDisconnect => self.kill_or_disconnect(now),
            record::Input::Sent { to, bytes } => self.request(now, Sent { channel: *to, bytes: bytes.len() }),
            // The others are inputs of the driver, which `repeat` reports.
            _ => {}
        }
    }
}

/// A request that can be recorded.
pub(super) trait Recorded: Request {
    /// Returns the line of the request. `None` means that it changes nothing: it asks for something that is not there.
    fn input(&mut self, machine: &Machine, now: Moment) -> Option<record::Input>;

    /// Returns the line of the response. `None` means that it follows from the lines before.
    fn output(response: &Self::Response) -> Option<record::Output>;
}

fn refusal<T>(response: &Result<T, Misuse>) -> Option<record::Output> {
    response.as_ref().err().map(|misuse| record::Output::Refused(misuse.to_string()))
}

fn number<T>(response: &Result<T, Misuse>, number: impl Fn(&T) -> u64) -> Option<record::Output> {
    refusal(response).or_else(|| response.as_ref().ok().map(|given| record::Output::Number(number(given))))
}

fn nothing(_: &()) -> Option<record::Output> {
    None
}

/// Implements [`Recorded`] for requests that always have a line: each with its line, and the line of its response.
macro_rules! recorded {
    ($($request:ty: |$this:pat_param| $input:expr, $output:expr;)+) => {
        $(
            impl Recorded for $request {
                fn input(&mut self, _: &Machine, _: Moment) -> Option<record::Input> {
                    let $this = self;
                    Some($input)
                }

                fn output(response: &Self::Response) -> Option<record::Output> {
                    $output(response)
                }
            }
        )+
    };
}

recorded! {
    Launch: |_| record::Input::Launch, refusal;
    Execute<'_>: |it| record::Input::Execute(Issued::new(it.command, it.deadline)), |id| number(id, |id: &CommandId| id.0);
    ConsoleWrite<'_>:
        |it| record::Input::ConsoleWrite { console: it.console.into(), text: it.bytes.to_vec() }, refusal;
    BeginWait<'_>:
        |it| record::Input::Wait { from: it.from.clone(), things: it.things.list(), within: it.deadline },
        |id| number(id, |id: &WaitId| id.0);
    Subscribe<'_>:
        |it| record::Input::Subscribe { from: it.from.clone(), events: it.events.list() },
        |id| number(id, |id: &SubscriptionId| id.0);
    Unsubscribe: |it| record::Input::Unsubscribe(it.0.0), nothing;
    Disown: |it| record::Input::Disown(it.0.0), nothing;
    Undo: |it| record::Input::undo(it.pending.map(|id| id.0), &it.undo), nothing;
    DisownWait: |it| record::Input::DisownWait(it.0.0), nothing;
    Shutdown: |it| record::Input::Shutdown(it.0), refusal;
    Kill: |_| record::Input::Kill, refusal;
    Disconnect: |_| record::Input::Disconnect, refusal;
    Detach: |_| record::Input::Detach, refusal;
    Abandon: |_| record::Input::Abandon, nothing;
    KillOrDisconnect: |_| record::Input::KillOrDisconnect, nothing;
}

/// The taken answer was recorded when it arrived.
impl Recorded for Take {
    fn input(&mut self, machine: &Machine, _: Moment) -> Option<record::Input> {
        let is_there = machine.answers.binary_search_by_key(&self.0, |(id, _)| *id).is_ok();
        is_there.then_some(record::Input::Take(self.0.0))
    }

    fn output(_: &Option<Result<Payload, CommandError>>) -> Option<record::Output> {
        None
    }
}

impl Recorded for ClaimWait {
    fn input(&mut self, machine: &Machine, _: Moment) -> Option<record::Input> {
        machine.waits.is_over(self.0).then_some(record::Input::ClaimWait(self.0.0))
    }

    fn output(response: &Option<Result<Hit, WaitError>>) -> Option<record::Output> {
        response.as_ref().map(record::Output::found)
    }
}

impl Recorded for NextEvent {
    fn input(&mut self, machine: &Machine, _: Moment) -> Option<record::Input> {
        machine.subscriptions.has_queued(self.0).then_some(record::Input::NextEvent(self.0.0))
    }

    fn output(response: &Option<Event>) -> Option<record::Output> {
        response.as_ref().map(|event| record::Output::Event(format!("{event:#}")))
    }
}

/// [`Input::TimePassed`] has no line unless a deadline has passed: otherwise it changes nothing.
impl Recorded for Input<'_> {
    fn input(&mut self, machine: &Machine, now: Moment) -> Option<record::Input> {
        let is_due = || machine.deadline().is_some_and(|(until, _)| until <= now.max(machine.now));
        (*self != Input::TimePassed || is_due()).then(|| record::Input::from(&*self))
    }

    fn output((): &()) -> Option<record::Output> {
        None
    }
}

impl Recorded for Sent {
    fn input(&mut self, machine: &Machine, _: Moment) -> Option<record::Input> {
        let bytes = machine.outgoing(self.channel).iter().take(self.bytes).copied().collect();
        Some(record::Input::Sent { to: self.channel, bytes })
    }

    fn output((): &()) -> Option<record::Output> {
        None
    }
}

impl Things<'_> {
    /// Returns all things, and keeps them for the iteration.
    fn list(&mut self) -> Vec<Wait> {
        let all: Vec<_> = self.collect();
        self.listed = all.clone().into_iter();
        all
    }
}
