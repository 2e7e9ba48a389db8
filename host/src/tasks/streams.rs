//! Consoles that tasks read and write as byte streams: whom to wake, and which consoles not to read for now.

use std::task::Waker;

use qemu_machine_core::{Channel, Machine, State};

/// Room that a console which is not read for now leaves in its retained output: for the read in progress (64 KiB), and for
/// what the socket holds when the process ends (`net.core.wmem_default`, 208 KiB on Linux).
const MARGIN: usize = 256 << 10;

/// The least [`Limits::console`](qemu_machine_core::Limits::console) for back-pressure.
pub(super) const LEAST_LIMIT: usize = 2 * MARGIN;

/// The streams of one machine.
#[derive(Debug, Default)]
pub(super) struct Streams {
    entries: Vec<Stream>,
    next_id: u64,
}

#[derive(Debug)]
struct Stream {
    id: u64,
    channel: Channel,
    /// The position of the next byte to read.
    position: u64,
    has_back_pressure: bool,
    reader: Option<Waker>,
    /// The task that waits until at most so many bytes are queued.
    writer: Option<(usize, Waker)>,
}

/// Progress of a stream.
#[derive(Debug)]
pub(super) enum Progress<T> {
    Done(T),
    /// So many bytes were evicted before they were read.
    Lost(u64),
    Pending,
}

impl Streams {
    /// Adds a stream that begins at a position, and returns its id.
    pub(super) fn add(&mut self, channel: Channel, position: u64) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.entries.push(Stream { id, channel, position, has_back_pressure: false, reader: None, writer: None });
        id
    }

    /// Removes a stream, and returns its wakers, to be dropped under no lock.
    pub(super) fn remove(&mut self, id: u64) -> impl Iterator<Item = Waker> + use<> {
        let index = self.entries.iter().position(|entry| entry.id == id);
        let removed = index.map(|index| self.entries.swap_remove(index));
        removed.into_iter().flat_map(|entry| entry.reader.into_iter().chain(entry.writer.map(|(_, waker)| waker)))
    }

    pub(super) fn set_back_pressure(&mut self, id: u64) {
        self.entries.iter_mut().filter(|entry| entry.id == id).for_each(|entry| entry.has_back_pressure = true);
    }

    /// Returns whether a console is not to be read for now: a stream with back-pressure has read too little of it.
    pub(super) fn hold(&self, channel: Channel, machine: &Machine) -> bool {
        let Some(console) = console(channel, machine).filter(|_| !self.entries.is_empty()) else { return false };
        let most = machine.limits().console.saturating_sub(MARGIN) as u64;
        let holds = |entry: &Stream| {
            entry.has_back_pressure && entry.channel == channel && console.end() >= entry.position.saturating_add(most)
        };
        // The rest of the output of a process that has ended is bounded, and its end waits for it.
        machine.pid().is_some() && self.entries.iter().any(holds)
    }

    /// Copies what is unread, or notes the waker of the task that waits for more. No byte means that the console is closed.
    pub(super) fn read(&mut self, id: u64, machine: &Machine, buffer: &mut [u8], waker: &Waker) -> Progress<usize> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return Progress::Done(0) };
        let Some(console) = console(entry.channel, machine) else { return Progress::Done(0) };
        let lost = console.first().saturating_sub(entry.position);
        if lost > 0 {
            entry.position = console.first();
            return Progress::Lost(lost);
        }
        let unread = console.since(entry.position);
        let count = unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&unread[..count]);
        entry.position += count as u64;
        if count > 0 || buffer.is_empty() || is_closed(entry.channel, machine) {
            return Progress::Done(count);
        }
        entry.reader = Some(waker.clone());
        Progress::Pending
    }

    /// Returns how many bytes may be queued while at most `most` are, or notes the waker of the task that waits for that.
    /// `None` means that the console is closed.
    pub(super) fn room(&mut self, id: u64, machine: &Machine, most: usize, waker: &Waker) -> Progress<Option<usize>> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return Progress::Done(None) };
        if is_closed(entry.channel, machine) {
            return Progress::Done(None);
        }
        let queued = machine.outgoing(entry.channel).len();
        if queued <= most {
            return Progress::Done(Some(machine.limits().console_input.saturating_sub(queued)));
        }
        entry.writer = Some((most, waker.clone()));
        Progress::Pending
    }

    /// Takes the wakers of the tasks whose streams can go on.
    pub(super) fn take_due(&mut self, machine: &Machine, awake: &mut Vec<Waker>) {
        for Stream { channel, position, reader, writer, .. } in &mut self.entries {
            let is_closed = is_closed(*channel, machine);
            let has_more = console(*channel, machine).is_some_and(|console| console.end() > *position);
            awake.extend(reader.take_if(|_| is_closed || has_more));
            let queued = machine.outgoing(*channel).len();
            awake.extend(writer.take_if(|(most, _)| is_closed || queued <= *most).map(|(_, waker)| waker));
        }
    }
}

fn console(channel: Channel, machine: &Machine) -> Option<&qemu_machine_core::Console> {
    let Channel::Console(index) = channel else { return None };
    machine.console(machine.console_names().nth(index)?).ok()
}

/// Returns whether nothing more comes from a console in this run.
fn is_closed(channel: Channel, machine: &Machine) -> bool {
    !matches!(machine.state(), State::Idle | State::Launching(_)) && !machine.channels().contains(&channel)
}
