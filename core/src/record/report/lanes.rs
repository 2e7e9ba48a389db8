//! Lanes of a report: the caller, the monitor, each console, each companion and the process, and which lines are whose.

use alloc::string::String;
use alloc::vec::Vec;

use crate::channel::Channel;
use crate::config::{Config, Dialect};
use crate::record::{self, Entry};

/// The lanes of one machine.
#[derive(Debug)]
pub(super) struct Lanes {
    /// The name of the monitor's lane, which is that of its protocol.
    monitor: &'static str,
    /// The names of the consoles.
    pub(super) consoles: Vec<String>,
    companions: Vec<String>,
}

/// A lane: its name, and its kind, which is a class of the page.
pub(super) struct Lane<'a> {
    pub(super) name: &'a str,
    pub(super) what: &'static str,
}

impl Default for Lanes {
    fn default() -> Self {
        Self { monitor: "monitor", consoles: Vec::new(), companions: Vec::new() }
    }
}

impl Lanes {
    pub(super) const CALLER: usize = 0;
    pub(super) const MONITOR: usize = 1;
    const FIRST: usize = 2;

    /// Returns the lanes of the machine with this configuration.
    pub(super) fn of(config: &Config) -> Self {
        let monitor = match config.dialect {
            Dialect::Qmp => "monitor",
            Dialect::GuestAgent => "agent",
            Dialect::Qtest => "qtest",
        };
        let companions = config.companions.iter().map(|companion| companion.name.clone()).collect();
        Self { monitor, consoles: config.console_names().cloned().collect(), companions }
    }

    pub(super) fn console(&self, index: usize) -> usize {
        Self::FIRST + index.min(self.consoles.len().saturating_sub(1))
    }

    fn companion(&self, index: usize) -> usize {
        Self::FIRST + self.consoles.len() + index.min(self.companions.len().saturating_sub(1))
    }

    pub(super) fn process(&self) -> usize {
        Self::FIRST + self.consoles.len() + self.companions.len()
    }

    /// Returns the lanes, in the order of their numbers.
    pub(super) fn list(&self) -> impl Iterator<Item = Lane<'_>> {
        let fixed = [("caller", "caller"), (self.monitor, "monitor")];
        let consoles = self.consoles.iter().map(|name| (&**name, "console"));
        let companions = self.companions.iter().map(|name| (&**name, "companion"));
        let all = fixed.into_iter().chain(consoles).chain(companions).chain([("process", "process")]);
        all.map(|(name, what)| Lane { name, what })
    }

    /// Returns the lane of a line.
    pub(super) fn lane_of(&self, entry: &Entry) -> usize {
        match entry {
            Entry::Machine(_) | Entry::Dropped(_) => Self::CALLER,
            Entry::Input(input) => self.lane_of_input(input),
            Entry::Output(output) => self.lane_of_output(output),
        }
    }

    fn channel(&self, channel: Channel) -> usize {
        match channel {
            Channel::Monitor => Self::MONITOR,
            Channel::Console(index) => self.console(index),
        }
    }

    pub(super) fn lane_of_input(&self, input: &record::Input) -> usize {
        match input {
            record::Input::Received { from, .. } => self.channel(*from),
            record::Input::Sent { to, .. } => self.channel(*to),
            record::Input::Opened(channel)
            | record::Input::OpenFailed(channel, _)
            | record::Input::PeerBusy(channel)
            | record::Input::Closed(channel) => self.channel(*channel),
            record::Input::PeerProcess { .. } => Self::MONITOR,
            record::Input::Prepared(_)
            | record::Input::PrepareFailed(_)
            | record::Input::Spawned(_)
            | record::Input::SpawnFailed(_)
            | record::Input::Exited(_)
            | record::Input::Signalled(_)
            | record::Input::SignalFailed(..)
            | record::Input::LogRead(_)
            | record::Input::Detached
            | record::Input::Removed
            | record::Input::RemoveFailed(_) => self.process(),
            record::Input::Companion { index, .. } => self.companion(*index),
            _ => Self::CALLER,
        }
    }

    pub(super) fn lane_of_output(&self, output: &record::Output) -> usize {
        match output {
            record::Output::Effect(effect) => self.lane_of_effect(effect),
            record::Output::Ready | record::Output::Gap => Self::MONITOR,
            record::Output::Ended(_) => self.process(),
            _ => Self::CALLER,
        }
    }

    /// Returns the lane of an effect, which its text names (`render.rs`).
    fn lane_of_effect(&self, effect: &str) -> usize {
        let number = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
        if let Some(index) = effect.strip_prefix("companion ").and_then(number) {
            return self.companion(index);
        }
        match effect.strip_prefix("open ").or_else(|| effect.strip_prefix("close ")) {
            Some(channel) => match channel.strip_prefix("console ").and_then(number) {
                Some(index) => self.console(index),
                None => Self::MONITOR,
            },
            None => self.process(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use crate::companion::Companion;
    use crate::effect::{CompanionEffect, Effect};
    use crate::signal::Signal;

    #[test]
    fn each_effect_is_in_its_lane() {
        let config = Config::new("qemu").serial("a").serial("b");
        let lanes = Lanes::of(&config.companion(Companion::new("fs", "virtiofsd")));
        let names: Vec<_> = lanes.list().map(|lane| lane.name.to_string()).collect();
        for (effect, name) in [
            (Effect::Open(Channel::Monitor), "monitor"),
            (Effect::Close(Channel::Console(0)), "a"),
            (Effect::Open(Channel::Console(1)), "b"),
            (Effect::Companion(0, CompanionEffect::Probe), "fs"),
            (Effect::Signal(Signal::Kill), "process"),
            (Effect::Remove, "process"),
        ] {
            let lane = lanes.lane_of(&Entry::Output(record::Output::effect(&effect)));
            assert_eq!(names[lane], name, "{effect:?}");
        }
    }
}
