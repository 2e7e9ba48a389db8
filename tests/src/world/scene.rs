//! Shared state of a world: clock, random numbers, pending events, sockets and transcript.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use qemu_machine_core::{Channel, Moment};

use super::plan::{Cut, Style};
use super::random::Random;
use super::seen::Seen;
use super::timeline::{Tick, Timeline, What};

/// The longest time that a chunk of bytes is in transit.
const TRAVEL: Duration = Duration::from_micros(200);

/// The state that the parts of a world share.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) now: Moment,
    pub(super) run: u32,
    pub(super) style: Style,
    pub(super) random: Random,
    pub(super) timeline: Timeline,
    /// The sockets of this run.
    pub(super) wires: BTreeMap<Channel, Wire>,
    /// The commands of the caller that QEMU has read.
    pub(super) reached: BTreeSet<u64>,
    /// The bytes that QEMU has read from each console.
    pub(super) typed: Vec<Vec<u8>>,
    pub(super) seen: Seen,
    pub(super) lines: Vec<String>,
    /// The first check that failed.
    pub(super) broken: Option<String>,
}

/// A pair of sockets.
#[derive(Debug)]
pub(super) struct Wire {
    /// The bytes that QEMU has written, and the number of those that the driver has received.
    pub(super) out: Vec<u8>,
    pub(super) delivered: usize,
    /// Whether QEMU's end is closed.
    pub(super) ended: bool,
    /// The bytes that QEMU has not read yet.
    pub(super) input: VecDeque<u8>,
    pub(super) local: LocalEnd,
    is_delivering: bool,
    is_reading: bool,
}

/// The state of the driver's end of a pair of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalEnd {
    Made,
    Opening,
    Open,
    /// Opening failed, or the end was reported.
    Closed,
}

impl Wire {
    pub(super) fn new() -> Self {
        Self {
            out: Vec::new(),
            delivered: 0,
            ended: false,
            input: VecDeque::new(),
            local: LocalEnd::Made,
            is_delivering: false,
            is_reading: false,
        }
    }

    /// Returns whether the channel is open and no bytes are in transit, in either direction.
    pub(super) fn is_quiet(&self) -> bool {
        let is_empty = self.input.is_empty() && self.delivered == self.out.len();
        self.local == LocalEnd::Open && !self.ended && is_empty
    }
}

impl Scene {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let style = Style::draw(&mut random);
        Self {
            now: Moment::ORIGIN,
            run: 0,
            typed: vec![Vec::new(); style.consoles],
            style,
            random,
            timeline: Timeline::default(),
            wires: BTreeMap::new(),
            reached: BTreeSet::new(),
            seen: Seen::default(),
            lines: Vec::new(),
            broken: None,
        }
    }

    pub(super) fn after(&mut self, delay: Duration, what: What) {
        let choice = self.random.below(4);
        self.timeline.plan(self.now.after(delay), choice, self.run, what);
    }

    pub(super) fn tick(&mut self, delay: Duration, tick: Tick) {
        self.after(delay, What::Qemu(tick));
    }

    pub(super) fn within(&mut self, most: Duration, what: What) {
        let delay = self.random.within(most);
        self.after(delay, what);
    }

    pub(super) fn tell(&mut self, line: impl AsRef<str>) {
        let at = self.now.since(Moment::ORIGIN).as_micros();
        self.lines.push(format!("{at:>11} {}", line.as_ref()));
    }

    pub(super) fn fail(&mut self, what: impl Into<String>) {
        if self.broken.is_none() {
            let what = what.into();
            self.tell(format!("BROKEN: {what}"));
            self.broken = Some(what);
        }
    }

    pub(super) fn demand(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.fail(otherwise());
        }
    }

    pub(super) fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.fail(what);
        }
    }

    /// Writes bytes at QEMU's end.
    pub(super) fn write(&mut self, channel: Channel, bytes: &[u8]) {
        if let Some(wire) = self.wires.get_mut(&channel).filter(|wire| !wire.ended) {
            wire.out.extend_from_slice(bytes);
        }
        self.stir(channel);
    }

    /// Closes QEMU's end of a channel. Earlier output still arrives.
    pub(super) fn close(&mut self, channel: Channel) {
        if let Some(wire) = self.wires.get_mut(&channel) {
            wire.ended = true;
        }
        self.stir(channel);
    }

    /// Schedules the next delivery and the next read of a channel, where bytes are pending.
    pub(super) fn stir(&mut self, channel: Channel) {
        let Some(wire) = self.wires.get_mut(&channel) else { return };
        let has_output = wire.delivered < wire.out.len() || wire.ended;
        let delivers = wire.local == LocalEnd::Open && has_output && !wire.is_delivering;
        let reads = !wire.input.is_empty() && !wire.is_reading;
        wire.is_delivering |= delivers;
        wire.is_reading |= reads;
        if delivers {
            self.within(TRAVEL, What::Deliver(channel));
        }
        if reads {
            self.within(TRAVEL, What::Read(channel));
        }
    }

    /// Returns the next chunk for the driver; `None` means that there is none, as at the end of the channel.
    pub(super) fn deliver(&mut self, channel: Channel) -> Option<Vec<u8>> {
        let left = self.wires.get(&channel).map(|wire| wire.out.len() - wire.delivered)?;
        let count = self.cut(left);
        let wire = self.wires.get_mut(&channel)?;
        wire.is_delivering = false;
        let chunk = wire.out[wire.delivered..wire.delivered + count].to_vec();
        wire.delivered += count;
        (count > 0).then_some(chunk)
    }

    /// Draws the size of a chunk, of the `left` bytes that are pending.
    pub(super) fn cut(&mut self, left: usize) -> usize {
        if left == 0 {
            return 0;
        }
        let percent = self.random.below(100);
        let most = match self.style.cut {
            Cut::Bytes => 1,
            Cut::Crumbs => 9,
            Cut::Mixed if percent < 10 => 1,
            Cut::Mixed if percent < 50 => 60,
            Cut::Mixed | Cut::Whole => return left,
        };
        self.random.size(1, most).min(left)
    }

    /// Writes to the socket as many bytes as it has room for, and returns their number.
    pub(super) fn send(&mut self, channel: Channel, bytes: &[u8]) -> usize {
        let room = self.style.room;
        let Some(wire) = self.wires.get_mut(&channel).filter(|wire| wire.local == LocalEnd::Open) else { return 0 };
        if wire.ended {
            // The peer has closed its end, so these bytes are lost.
            return bytes.len();
        }
        let count = bytes.len().min(room.saturating_sub(wire.input.len()));
        wire.input.extend(&bytes[..count]);
        if count < bytes.len() {
            self.seen.note("partial send");
        }
        if count > 0 {
            self.stir(channel);
        }
        count
    }

    /// Notes that QEMU's scheduled read takes place.
    pub(super) fn begin_reading(&mut self, channel: Channel) {
        if let Some(wire) = self.wires.get_mut(&channel) {
            wire.is_reading = false;
        }
    }

    /// Returns the next byte that QEMU reads.
    pub(super) fn read(&mut self, channel: Channel) -> Option<u8> {
        self.wires.get_mut(&channel)?.input.pop_front()
    }

    /// Drops a random part of the undelivered output, and returns the length that remains.
    pub(super) fn truncate(&mut self, channel: Channel) -> usize {
        let Some(wire) = self.wires.get(&channel).filter(|wire| !wire.ended) else { return usize::MAX };
        let least = wire.delivered;
        let most = wire.out.len();
        let length = self.random.size(least, most);
        if let Some(wire) = self.wires.get_mut(&channel) {
            wire.out.truncate(length);
        }
        length
    }
}
