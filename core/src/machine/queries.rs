//! Decides what can be read from a machine at any time: the levels.

use alloc::string::String;

use super::Machine;
use crate::channel::Channel;
use crate::command_line::CommandLine;
use crate::console::Console;
use crate::descriptor::Descriptor;
use crate::error::LaunchError;
use crate::event::{Event, History};
use crate::fault::Misuse;
use crate::input::Prepared;
use crate::lifecycle::{LaunchFailure, Lifecycle, Rung, State, Why};
use crate::outcome::Outcome;
use crate::session::Session;
use crate::time::Moment;
use crate::wait::Mark;
use crate::wire::Greeting;

impl Machine {
    /// What is to be sent on a channel. Tell with [`sent`](Self::sent) how much of it was.
    #[must_use]
    pub fn outgoing(&self, channel: Channel) -> &[u8] {
        if !self.channels().contains(&channel) {
            return &[];
        }
        match channel {
            Channel::Monitor => self.session.outgoing(),
            Channel::Console(index) => self.consoles.get(index).map_or(&[], |console| console.input().waiting()),
        }
    }

    /// The descriptor that goes with the first of the outgoing bytes of a channel. It is sent in the same message, and
    /// is sent when that byte is.
    #[must_use]
    pub fn outgoing_descriptor(&self, channel: Channel) -> Option<&Descriptor> {
        match channel {
            Channel::Monitor => self.session.outgoing_descriptor(),
            Channel::Console(_) => None,
        }
    }

    /// The channels that carry bytes. All of them are to be read: what they bring is bounded in here.
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        self.outstanding.channels()
    }

    /// Whether there are effects or notices to pop.
    #[must_use]
    pub fn has_outputs(&self) -> bool {
        !self.effects.is_empty() || !self.notices.is_empty()
    }

    /// When something must have happened, and what. Then [`Input::TimePassed`](crate::Input::TimePassed) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<(Moment, Why)> {
        let heartbeat = self.session.heartbeat_due().map(|due| (due, Why::Heartbeat));
        self.dues().chain(heartbeat).min_by_key(|(until, _)| *until)
    }

    /// All deadlines but that of the heartbeat, which only serves another deadline.
    pub(super) fn dues(&self) -> impl Iterator<Item = (Moment, Why)> {
        let command = self.session.answer_due().map(|until| (until, Why::Command));
        let wait = self.waits.deadline().map(|until| (until, Why::Wait));
        [self.lifecycle.deadline(), command, wait].into_iter().flatten()
    }

    /// Where the machine is in its run.
    #[must_use]
    pub fn state(&self) -> State {
        self.lifecycle.state()
    }

    /// Whether the launch succeeded, once that is known.
    #[must_use]
    pub fn launched(&self) -> Option<Result<(), LaunchError>> {
        match (self.lifecycle.failure(), &self.outcome) {
            (Some(failure), Some(outcome)) => {
                Some(Err(LaunchError::Failed { failure: failure.clone(), outcome: outcome.clone() }))
            }
            (None, Some(_)) => Some(Ok(())),
            (_, None) => self.lifecycle.is_launched().then_some(Ok(())),
        }
    }

    /// What kept the machine from becoming ready, as soon as that is known: before the end of this run, which follows.
    #[must_use]
    pub fn launch_failure(&self) -> Option<&LaunchFailure> {
        self.lifecycle.failure()
    }

    /// The rungs of the ladder that were climbed so far, in their order. Empty when the run is over: the outcome says
    /// which of them worked.
    #[must_use]
    pub fn rungs(&self) -> &[Rung] {
        &self.evidence.rungs
    }

    /// How the run ended, once it is over and cleaned up.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_deref()
    }

    /// The id of the process, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lifecycle.pid()
    }

    /// What the monitor said of itself.
    #[must_use]
    pub fn greeting(&self) -> Option<&Greeting> {
        self.session.greeting()
    }

    /// The position behind everything that came so far.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { event: self.history.end(), consoles: self.consoles.iter().map(Console::end).collect() }
    }

    /// The event with this number, while the history holds it.
    #[must_use]
    pub fn event(&self, number: u64) -> Option<&Event> {
        self.history.get(number)
    }

    /// The latest events.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The console of this name.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console(&self, name: &str) -> Result<&Console, Misuse> {
        self.console_index(name).map(|index| &self.consoles[index])
    }

    /// What a console printed from a position on, as far as it is remembered.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console_since(&self, name: &str, from: &Mark) -> Result<&[u8], Misuse> {
        self.console_index(name).map(|index| self.consoles[index].since(from.position(index)))
    }

    /// What a console printed from a position on, as far as it is remembered, with the position behind it: for those who
    /// read a console as it prints, byte by byte.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console_from(&self, name: &str, from: &Mark) -> Result<(&[u8], Mark), Misuse> {
        let index = self.console_index(name)?;
        let mut behind = from.not_before(&self.run_start);
        behind.stand_at(index, self.consoles[index].end());
        Ok((self.consoles[index].since(from.position(index)), behind))
    }

    /// What is executed.
    #[must_use]
    pub fn command_line(&self) -> &CommandLine {
        &self.command_line
    }

    /// What was made on the host for this run.
    #[must_use]
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The run, as plain data.
    #[must_use]
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// The conversation with the monitor, as plain data.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The names of the consoles, in the order of their index.
    pub fn console_names(&self) -> impl Iterator<Item = &str> {
        self.consoles.iter().map(Console::name)
    }

    /// Whether no event can come any more.
    pub(super) fn are_events_closed(&self) -> bool {
        self.lifecycle.events().are_closed(self.now)
    }

    pub(super) fn last_words(&self, bytes: &[u8]) -> String {
        let surplus = bytes.len().saturating_sub(self.config.limits.last_words);
        crate::text::lossy(&bytes[surplus..])
    }
}
