//! Outstanding completions: the inputs that a driver still has to report for the effects that it was given.

use alloc::vec::Vec;

use crate::channel::Channel;
use crate::input::{CompanionInput, Input};
use crate::signal::Signal;

/// The outstanding completions of effects, the end of the process, and the open channels. An input that is not
/// outstanding is ignored; otherwise a driver that reports twice would move the machine twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outstanding {
    completions: Vec<Completion>,
    /// The channels that are open, the monitor first.
    open: Vec<Channel>,
}

/// A completion that is outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    Prepare,
    Spawn,
    /// The end of the process; outstanding from its start.
    Exit,
    Open(Channel),
    Close(Channel),
    Signal(Signal),
    Log,
    Detach,
    Remove,
    CompanionStart(usize),
    CompanionProbe(usize),
    /// The end of a companion; outstanding from its start.
    CompanionExit(usize),
    /// The failure of a signal to a companion, until that has ended. A driver reports no success.
    CompanionSignal(usize),
    /// The end of the log of a companion; outstanding from the end of its process.
    CompanionLog(usize),
}

impl Outstanding {
    /// Adds a completion: its effect was issued, or the process was started.
    pub(super) fn add(&mut self, completion: Completion) {
        self.completions.push(completion);
    }

    /// Records that these channels are being opened.
    pub(super) fn open(&mut self, channels: Vec<Channel>) {
        self.completions.extend(channels.iter().copied().map(Completion::Open));
        self.open = channels;
    }

    /// Records that a channel, which is closed, is being opened again.
    pub(super) fn reopen(&mut self, channel: Channel) {
        self.add(Completion::Open(channel));
        self.open.insert(0, channel);
    }

    /// Returns the open channels among these whose closing was not issued yet, and records that it is now.
    pub(super) fn close(&mut self, which: impl Fn(Channel) -> bool) -> Vec<Channel> {
        let channels = self.open.iter().copied().filter(|open| which(*open) && !self.is_closing(*open));
        let channels: Vec<_> = channels.collect();
        self.completions.extend(channels.iter().copied().map(Completion::Close));
        channels
    }

    /// Returns whether the closing of a channel was issued, and the channel has not closed yet.
    pub(super) fn is_closing(&self, channel: Channel) -> bool {
        self.completions.contains(&Completion::Close(channel))
    }

    /// Records that the process is detached: its end is not outstanding any more.
    pub(super) fn detach(&mut self) {
        self.take(Completion::Exit);
        self.add(Completion::Detach);
    }

    /// Returns the open channels, the monitor first.
    pub(super) fn channels(&self) -> &[Channel] {
        &self.open
    }

    /// Returns whether every effect was completed: no input of this run can arrive any more.
    pub(super) fn is_empty(&self) -> bool {
        self.completions.iter().all(|completion| matches!(completion, Completion::CompanionSignal(_)))
    }

    /// Returns whether this input was outstanding, and removes it.
    pub(super) fn complete(&mut self, input: &Input<'_>) -> bool {
        match input {
            Input::Prepared(_) | Input::PrepareFailed(_) => self.take(Completion::Prepare),
            Input::Spawned { .. } => {
                let is_due = self.take(Completion::Spawn);
                self.completions.extend(is_due.then_some(Completion::Exit));
                is_due
            }
            Input::SpawnFailed(_) => self.take(Completion::Spawn),
            Input::Exited(_) => self.take(Completion::Exit),
            Input::Opened(channel) => self.take(Completion::Open(*channel)),
            Input::OpenFailed(channel, _) => self.take(Completion::Open(*channel)) && self.closed(*channel),
            Input::PeerBusy(channel) => self.completions.contains(&Completion::Open(*channel)),
            Input::Received(channel, _) => self.open.contains(channel),
            Input::Closed(channel) => {
                self.take(Completion::Open(*channel));
                self.closed(*channel)
            }
            Input::Signalled(signal, _) => self.take(Completion::Signal(*signal)),
            Input::LogRead(_) => self.take(Completion::Log),
            Input::Detached => self.take(Completion::Detach),
            Input::Removed(_) => self.take(Completion::Remove),
            Input::PeerProcess { .. } => self.open.contains(&Channel::Monitor),
            Input::Companion(index, event) => self.complete_companion(*index, event),
            Input::TimePassed => true,
        }
    }

    fn complete_companion(&mut self, index: usize, event: &CompanionInput) -> bool {
        match event {
            CompanionInput::Started { .. } => {
                let is_due = self.take(Completion::CompanionStart(index));
                self.completions.extend(is_due.then_some(Completion::CompanionExit(index)));
                is_due
            }
            CompanionInput::StartFailed(_) => {
                self.take(Completion::CompanionStart(index)) && self.companion_ended(index)
            }
            CompanionInput::Probed { .. } | CompanionInput::ProbeFailed(_) => {
                self.take(Completion::CompanionProbe(index))
            }
            CompanionInput::Exited(_) => {
                let is_due = self.take(Completion::CompanionExit(index)) && self.companion_ended(index);
                self.completions.extend(is_due.then_some(Completion::CompanionLog(index)));
                is_due
            }
            CompanionInput::LogRead(_) => self.take(Completion::CompanionLog(index)),
            CompanionInput::NotSignalled(_) => self.take(Completion::CompanionSignal(index)),
        }
    }

    /// Records that no result of a probe of this companion or of a signal to it can come. Returns `true`.
    fn companion_ended(&mut self, index: usize) -> bool {
        let others = [Completion::CompanionProbe(index), Completion::CompanionSignal(index)];
        self.completions.retain(|other| !others.contains(other));
        true
    }

    fn take(&mut self, completion: Completion) -> bool {
        let place = self.completions.iter().position(|other| *other == completion);
        place.map(|place| self.completions.swap_remove(place)).is_some()
    }

    fn closed(&mut self, channel: Channel) -> bool {
        self.take(Completion::Close(channel));
        let before = self.open.len();
        self.open.retain(|other| *other != channel);
        self.open.len() < before
    }
}
