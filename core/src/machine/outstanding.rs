//! Decides which news are due: an order is answered once, and a channel brings news while it is open.

use alloc::vec::Vec;

use crate::channel::Channel;
use crate::input::Input;
use crate::signal::Signal;

/// What the world owes us: an answer to each order, the end of a process, and news of open channels. lifecycle::Input that nobody
/// owes change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outstanding {
    answers: Vec<Answer>,
    /// The channels that are open, the monitor first.
    open: Vec<Channel>,
}

/// An answer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Prepare,
    Spawn,
    /// How the process ended; due from its start.
    Exit,
    Open(Channel),
    Close(Channel),
    Signal(Signal),
    Log,
    Detach,
    Remove,
}

impl Outstanding {
    /// An order was given, or a process was started.
    pub(super) fn add(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// The channels are being opened.
    pub(super) fn open(&mut self, channels: Vec<Channel>) {
        self.answers.extend(channels.iter().copied().map(Answer::Open));
        self.open = channels;
    }

    /// The open channels among these that were not told to close yet; they are now.
    pub(super) fn close(&mut self, which: impl Fn(Channel) -> bool) -> Vec<Channel> {
        let is_told = |channel: &Channel| self.answers.contains(&Answer::Close(*channel));
        let channels: Vec<_> = self.open.iter().copied().filter(|open| which(*open) && !is_told(open)).collect();
        self.answers.extend(channels.iter().copied().map(Answer::Close));
        channels
    }

    /// The process is nobody's concern any more, so its end is not due.
    pub(super) fn release(&mut self) {
        self.take(Answer::Exit);
        self.add(Answer::Detach);
    }

    /// The channels that are open.
    pub(super) fn channels(&self) -> &[Channel] {
        &self.open
    }

    /// Whether everything was answered: nothing of this run can come any more.
    pub(super) fn is_settled(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether these news are due. Then they are not due again.
    pub(super) fn settle(&mut self, input: &Input<'_>) -> bool {
        match input {
            Input::Prepared(_) | Input::PrepareFailed(_) => self.take(Answer::Prepare),
            Input::Spawned { .. } => {
                let due = self.take(Answer::Spawn);
                self.answers.extend(due.then_some(Answer::Exit));
                due
            }
            Input::SpawnFailed(_) => self.take(Answer::Spawn),
            Input::Exited(_) => self.take(Answer::Exit),
            Input::Opened(channel) => self.take(Answer::Open(*channel)),
            Input::OpenFailed(channel, _) => self.take(Answer::Open(*channel)) && self.closed(*channel),
            Input::PeerBusy(channel) => self.answers.contains(&Answer::Open(*channel)),
            Input::Received(channel, _) => self.open.contains(channel),
            Input::Closed(channel) => {
                self.take(Answer::Open(*channel));
                self.closed(*channel)
            }
            Input::Signalled(signal, _) => self.take(Answer::Signal(*signal)),
            Input::LogRead(_) => self.take(Answer::Log),
            Input::Detached => self.take(Answer::Detach),
            Input::Removed(_) => self.take(Answer::Remove),
            Input::TimePassed => true,
        }
    }

    fn take(&mut self, answer: Answer) -> bool {
        let place = self.answers.iter().position(|other| *other == answer);
        place.map(|place| self.answers.swap_remove(place)).is_some()
    }

    fn closed(&mut self, channel: Channel) -> bool {
        self.take(Answer::Close(channel));
        let before = self.open.len();
        self.open.retain(|other| *other != channel);
        self.open.len() < before
    }
}
