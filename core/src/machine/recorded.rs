//! Decides what of a machine is written into its record, if it is recorded.

use crate::record;
use alloc::boxed::Box;
use alloc::string::ToString;

use super::Machine;
use crate::channel::Channel;
use crate::config::Config;
use crate::fault::Misuse;
use crate::input::Input;
use crate::record::{Beginning, Entry, Line, Record, Recorder};
use crate::time::Moment;

impl Machine {
    /// What it was told and what it said so far, if it is [recorded](Config::recorded).
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        self.recorder.as_ref().map(|recorder| recorder.record())
    }

    /// The recorder that a configuration asks for.
    pub(super) fn recorder(config: &Config) -> Option<Box<Recorder>> {
        let first = || Line { at: Moment::ORIGIN, entry: Entry::Machine(Box::new(Beginning::of(config))) };
        config.recorded.then(|| Box::new(Recorder::new(first(), config.limits.record)))
    }

    /// It is told something.
    pub(super) fn told(&mut self, now: Moment, what: impl FnOnce() -> record::Input) {
        if let Some(recorder) = &mut self.recorder {
            recorder.add(now.max(self.now), Entry::Input(what()));
        }
    }

    /// It is told news. That time passed is nothing new where nothing was due.
    pub(super) fn told_news(&mut self, now: Moment, input: &Input<'_>) {
        let is_due = || self.deadline().is_some_and(|(until, _)| until <= now.max(self.now));
        if self.recorder.is_some() && (*input != Input::TimePassed || is_due()) {
            self.told(now, || record::Input::from(input));
        }
    }

    /// It is told that some of what is outgoing went out.
    pub(super) fn told_sent(&mut self, to: Channel, count: usize) {
        if self.recorder.is_some() {
            let bytes = self.outgoing(to).iter().take(count).copied().collect();
            self.told(self.now, || record::Input::Sent { to, bytes });
        }
    }

    /// It says something.
    pub(super) fn said(&mut self, what: impl FnOnce() -> record::Output) {
        if let Some(recorder) = &mut self.recorder {
            recorder.add(self.now, Entry::Output(what()));
        }
    }

    /// It is asked for something, which it may refuse.
    pub(super) fn asked<T>(
        &mut self,
        now: Moment,
        what: impl FnOnce() -> record::Input,
        ask: impl FnOnce(&mut Self) -> Result<T, Misuse>,
    ) -> Result<T, Misuse> {
        self.told(now, what);
        ask(self).inspect_err(|misuse| self.answer(now, || record::Output::Refused(misuse.to_string())))
    }

    /// The same, where it gives a number.
    pub(super) fn asked_for_number<T>(
        &mut self,
        now: Moment,
        what: impl FnOnce() -> record::Input,
        ask: impl FnOnce(&mut Self) -> Result<T, Misuse>,
        number: impl FnOnce(&T) -> u64,
    ) -> Result<T, Misuse> {
        let given = self.asked(now, what, ask)?;
        self.answer(now, || record::Output::Number(number(&given)));
        Ok(given)
    }

    /// It answers a request on the spot: at the moment of the request, which may change nothing, not even the clock.
    fn answer(&mut self, now: Moment, what: impl FnOnce() -> record::Output) {
        if let Some(recorder) = &mut self.recorder {
            recorder.add(now.max(self.now), Entry::Output(what()));
        }
    }
}
