//! Decides which news are due: an order is answered once, and a channel brings news while it is open.

use alloc::vec::Vec;

use crate::effect::Signal;
use crate::input::{Channel, Input};

/// What the world owes us: an answer to each order, the end of a process, and news of open channels. News that nobody
/// owes change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    answers: Vec<Answer>,
    /// The channels that are open, the monitor first.
    open: Vec<Channel>,
    /// Those of them that were told to close.
    closing: Vec<Channel>,
}

/// An answer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Prepare,
    Spawn,
    /// How the process ended; due from its start.
    Exit,
    Open(Channel),
    Signal(Signal),
    Log,
    Remove,
}

impl Owed {
    /// An order was given, or a process was started.
    pub(super) fn add(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// The channels are being opened.
    pub(super) fn open(&mut self, channels: Vec<Channel>) {
        self.answers.extend(channels.iter().copied().map(Answer::Open));
        self.open = channels;
        self.closing.clear();
    }

    /// The channels that are to be told to close, each of them once.
    pub(super) fn close_all(&mut self) -> Vec<Channel> {
        let open = self.open.clone();
        open.into_iter().filter_map(|channel| self.close_one(channel)).collect()
    }

    /// This channel, unless it was told to close already.
    pub(super) fn close_one(&mut self, channel: Channel) -> Option<Channel> {
        let wanted = self.open.contains(&channel) && !self.closing.contains(&channel);
        wanted.then(|| {
            self.closing.push(channel);
            channel
        })
    }

    /// The channels that are open.
    pub(super) fn channels(&self) -> &[Channel] {
        &self.open
    }

    /// Whether everything was answered: nothing of this life can come any more.
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
            Input::OpenFailed(channel, _) => self.take(Answer::Open(*channel)) && self.close(*channel),
            Input::Crowded(channel) => self.answers.contains(&Answer::Open(*channel)),
            Input::Received(channel, _) => self.open.contains(channel),
            Input::Closed(channel) => {
                self.take(Answer::Open(*channel));
                self.close(*channel)
            }
            Input::Signalled(signal, _) => self.take(Answer::Signal(*signal)),
            Input::LogRead(_) => self.take(Answer::Log),
            Input::Removed(_) => self.take(Answer::Remove),
            Input::TimePassed => true,
        }
    }

    fn take(&mut self, answer: Answer) -> bool {
        let place = self.answers.iter().position(|other| *other == answer);
        place.map(|place| self.answers.swap_remove(place)).is_some()
    }

    fn close(&mut self, channel: Channel) -> bool {
        let before = self.open.len();
        self.open.retain(|other| *other != channel);
        self.open.len() < before
    }
}
