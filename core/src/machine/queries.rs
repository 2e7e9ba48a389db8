//! Queries of a machine: the levels, which a driver or a caller may read at any time.

use alloc::string::String;

use super::Machine;
use crate::channel::Channel;
use crate::command_line::CommandLine;
use crate::config::Limits;
use crate::console::Console;
use crate::descriptor::Descriptor;
use crate::error::LaunchError;
use crate::event::{Event, History};
use crate::fault::Misuse;
use crate::identity::FileId;
use crate::input::Prepared;
use crate::lifecycle::{LaunchFailure, Lifecycle, Rung, State, Why};
use crate::outcome::Outcome;
use crate::session::Session;
use crate::time::Moment;
use crate::wait::Mark;
use crate::wire::Greeting;

impl Machine {
    /// Returns the bytes to send on a channel. Report with [`sent`](Self::sent) how many were sent; otherwise they are
    /// sent again.
    #[must_use]
    pub fn outgoing(&self, channel: Channel) -> &[u8] {
        let bytes: &[u8] = match channel {
            Channel::Monitor => self.session.outgoing(),
            Channel::Console(index) => self.consoles.get(index).map_or(&[][..], |console| console.input().waiting()),
        };
        if bytes.is_empty() || !self.channels().contains(&channel) { &[] } else { bytes }
    }

    /// Returns the descriptor to send with the first of the outgoing bytes of a channel, in one message (`unix(7)`,
    /// `SCM_RIGHTS`). It counts as sent when that byte does. `None` means that no descriptor goes with the byte.
    #[must_use]
    pub fn outgoing_descriptor(&self, channel: Channel) -> Option<&Descriptor> {
        match channel {
            Channel::Monitor => self.session.outgoing_descriptor(),
            Channel::Console(_) => None,
        }
    }

    /// Returns the open channels. A driver reads all of them; the machine bounds what it keeps. A monitor that is not
    /// read grows in QEMU's memory without bound (measured with QEMU 7.2.22).
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        self.outstanding.channels()
    }

    /// Returns whether effects or notices are pending.
    #[must_use]
    pub fn has_outputs(&self) -> bool {
        !self.effects.is_empty() || !self.notices.is_empty()
    }

    /// Returns whether a reply or the result of a wait is there that no caller has claimed. A runtime whose callers share
    /// its thread lets them claim before it reads more: the next bytes may drop events from a queue, or output of a
    /// console, that a caller was about to read.
    #[must_use]
    pub fn has_unclaimed(&self) -> bool {
        !self.answers.is_empty() || self.waits.has_unclaimed()
    }

    /// Returns the last time that the driver passed.
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// Returns the next deadline and its purpose. [`Input::TimePassed`](crate::Input::TimePassed) is due then. `None`
    /// means that nothing is due.
    #[must_use]
    pub fn deadline(&self) -> Option<(Moment, Why)> {
        earliest(self.due(), self.session.heartbeat_due(), Why::Heartbeat)
    }

    /// Returns the next deadline except that of the heartbeat, which only serves another deadline. Of those at one time it
    /// is the first below.
    #[inline]
    pub(super) fn due(&self) -> Option<(Moment, Why)> {
        let companion = self.companions.as_ref().and_then(|companions| companions.deadline());
        let due = earliest(self.lifecycle.deadline(), self.session.answer_due(), Why::Command);
        let due = earliest(due, self.waits.deadline(), Why::Wait);
        earliest(due, companion, Why::Companion)
    }

    /// Returns where the machine is in its run.
    #[must_use]
    pub fn state(&self) -> State {
        self.lifecycle.state()
    }

    /// Returns whether the launch succeeded. `None` means that it is not over: a failed launch counts as over after its
    /// clean-up.
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

    /// Returns why the launch failed, as soon as that is known, which is before the end of the run. `None` means that
    /// it did not fail.
    #[must_use]
    pub fn launch_failure(&self) -> Option<&LaunchFailure> {
        self.lifecycle.failure()
    }

    /// Returns the rungs of the shutdown ladder that were climbed so far, in order. Empty when the run is over;
    /// [`Outcome::rungs`] has them then.
    #[must_use]
    pub fn rungs(&self) -> &[Rung] {
        self.evidence.as_ref().map_or(&[], |evidence| &evidence.rungs)
    }

    /// Returns how the run ended. `None` means that it is not over and cleaned up.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_deref()
    }

    /// Returns the id of the process that was started, while it lives: QEMU, or its wrapper. `None` means that no process
    /// was started, that it has ended or was left to another program, or that the machine was attached to. The system may
    /// give the id of an ended process to another one, which a caller would signal; [`Outcome::pid`] has it for reports.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        // A process that was detached from is not followed, and its end would not be noticed.
        self.lifecycle.pid().filter(|_| self.outcome.is_none())
    }

    /// Returns the id of the process of QEMU, while the one that was started lives: that of [`pid`](Self::pid), or one
    /// behind a wrapper. `None` means that it is not known, that the process has ended, or that the machine was attached to.
    #[must_use]
    pub fn qemu_pid(&self) -> Option<u32> {
        self.pid().and(self.qemu_pid)
    }

    /// Returns the greeting of the monitor. `None` means that it has not arrived, or that the dialect has none.
    #[must_use]
    pub fn greeting(&self) -> Option<&Greeting> {
        self.session.greeting()
    }

    /// Returns the position after all events and output so far.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { event: self.history.end(), consoles: self.consoles.iter().map(Console::end).collect() }
    }

    /// Returns the position of the latest reset in this run, or where the run began.
    pub(crate) fn last_reset(&self) -> &Mark {
        &self.last_reset
    }

    /// Returns the event with this number. `None` means that the history does not hold it: it was evicted, or has not
    /// arrived.
    #[must_use]
    pub fn event(&self, number: u64) -> Option<&Event> {
        self.history.get(number)
    }

    /// Returns the latest events.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Returns the limits of the configuration.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Returns the console of this name.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console(&self, name: &str) -> Result<&Console, Misuse> {
        self.console_index(name).map(|index| &self.consoles[index])
    }

    /// Returns the output of a console from a position on, as far as it is kept.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console_since(&self, name: &str, from: &Mark) -> Result<&[u8], Misuse> {
        self.console_index(name).map(|index| self.consoles[index].since(from.position(index)))
    }

    /// Returns the position of a mark in the output of a console, but not before the beginning of this run.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console_position(&self, name: &str, from: &Mark) -> Result<u64, Misuse> {
        let index = self.console_index(name)?;
        Ok(from.position(index).max(self.run_start.position(index)).min(self.consoles[index].end()))
    }

    /// Returns the output of a console from a position on, as far as it is kept, and the position after it. For a
    /// reader that follows a console byte by byte.
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

    /// Returns the command line that is executed.
    #[must_use]
    pub fn command_line(&self) -> &CommandLine {
        &self.command_line
    }

    /// Returns the [name](crate::Config::name) of the machine, also of one that is resumed. Empty if its identity has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.config.identity().map_or(&self.config.name, |identity| &identity.name)
    }

    /// Returns each console that has a [log](crate::Config::console_log), with the path of that, also for a machine that is
    /// resumed.
    pub fn console_logs(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let configured = self.config.consoles.iter();
        let configured = configured.filter_map(|console| Some((console.name.as_deref()?, console.log.as_deref()?)));
        let resumed = self.config.identity().map(|identity| &*identity.console_logs).unwrap_or_default();
        configured.chain(resumed.iter().map(|(console, path)| (console.as_str(), path.as_bytes())))
    }

    /// Returns the path of each [extra monitor](crate::Config::extra_monitor), also for a machine that is resumed.
    pub fn extra_monitors(&self) -> impl Iterator<Item = &[u8]> {
        let configured = self.config.extra_monitors.iter().map(|monitor| &*monitor.socket.path);
        let resumed = self.config.identity().map(|identity| &*identity.extra_monitors).unwrap_or_default();
        configured.chain(resumed.iter().map(|socket| socket.path.as_bytes()))
    }

    /// Returns the path of each [extra monitor](crate::Config::extra_monitor) with the file that the host created there for
    /// this run, or that the identity of a resumed machine names. Another file may be at the path by now.
    pub fn extra_monitor_files(&self) -> impl Iterator<Item = (&[u8], FileId)> {
        let configured = self.config.extra_monitors.iter().map(|monitor| &*monitor.socket.path);
        let created = configured.zip(self.prepared.monitor_sockets.iter().copied());
        let resumed = self.config.identity().map(|identity| &*identity.extra_monitors).unwrap_or_default();
        created.chain(resumed.iter().map(|socket| (socket.path.as_bytes(), socket.file)))
    }

    /// Returns what the host prepared for this run.
    #[must_use]
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Returns the lifecycle, as plain data.
    #[must_use]
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Returns the session with the monitor, as plain data.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the names of the consoles, in the order of their index.
    pub fn console_names(&self) -> impl Iterator<Item = &str> {
        self.consoles.iter().map(Console::name)
    }

    /// Returns whether no event can arrive any more.
    pub(super) fn are_events_closed(&self) -> bool {
        self.lifecycle.events().are_closed(self.now)
    }
}

/// Returns the earlier of a deadline and another one, which has this purpose.
#[inline(always)]
fn earliest(first: Option<(Moment, Why)>, other: Option<Moment>, why: Why) -> Option<(Moment, Why)> {
    match (first, other) {
        (Some((at, _)), Some(other)) if at <= other => first,
        (_, Some(other)) => Some((other, why)),
        (first, None) => first,
    }
}

/// Returns the end of these bytes as text, at most so many of them.
pub(super) fn last_words(bytes: &[u8], most: usize) -> String {
    let surplus = bytes.len().saturating_sub(most);
    crate::text::lossy(&bytes[surplus..])
}
