//! Streams of consoles: their readers and writers, the tasks that wait, and the consoles that are not read for now.

use std::task::Waker;

use qemu_machine_core::{Channel, Machine, Misuse};

use crate::console_cursor::{ConsoleCursor, Progress, is_closed};

/// The streams of one machine.
#[derive(Debug, Default)]
pub(super) struct Streams {
    entries: Vec<Stream>,
    next_id: u64,
}

#[derive(Debug)]
struct Stream {
    id: u64,
    cursor: ConsoleCursor,
    reader: Option<Waker>,
    /// The task that waits until at most so many bytes are queued.
    writer: Option<(usize, Waker)>,
}

impl Streams {
    /// Adds a stream that begins at a cursor, and returns its id.
    pub(super) fn add(&mut self, cursor: ConsoleCursor) -> u64 {
        self.next_id += 1;
        self.entries.push(Stream { id: self.next_id, cursor, reader: None, writer: None });
        self.next_id
    }

    /// Removes a stream, and returns its wakers, to be dropped under no lock.
    pub(super) fn remove(&mut self, id: u64) -> impl Iterator<Item = Waker> + use<> {
        let index = self.entries.iter().position(|stream| stream.id == id);
        let removed = index.map(|index| self.entries.swap_remove(index));
        removed.into_iter().flat_map(|stream| stream.reader.into_iter().chain(stream.writer.map(|(_, waker)| waker)))
    }

    /// Lets the guest wait for a stream from now on.
    pub(super) fn set_back_pressure(&mut self, id: u64, machine: &Machine) -> Result<(), Misuse> {
        let stream = self.entries.iter_mut().find(|stream| stream.id == id);
        stream.map_or(Ok(()), |stream| stream.cursor.set_back_pressure(machine))
    }

    /// Returns whether a console is not to be read for now: a stream with back-pressure has read too little of it.
    pub(super) fn hold(&self, run: u64, channel: Channel, machine: &Machine) -> bool {
        self.entries.iter().any(|stream| stream.cursor.holds(run, channel, machine))
    }

    /// Copies what is unread, or notes the waker of the task that waits for more; `stale` gets the one that it replaces. No
    /// byte means that the run has ended, or that the console is closed.
    pub(super) fn read(
        &mut self,
        id: u64,
        run: u64,
        machine: &Machine,
        buffer: &mut [u8],
        (waker, stale): (&Waker, &mut Vec<Waker>),
    ) -> Progress<usize> {
        let Some(stream) = self.entries.iter_mut().find(|stream| stream.id == id) else { return Progress::Done(0) };
        let progress = stream.cursor.read(run, machine, buffer);
        if matches!(progress, Progress::Pending) {
            stale.extend(stream.reader.replace(waker.clone()));
        }
        progress
    }

    /// Returns how many bytes can be queued, when no more than `most` are queued now. Otherwise notes the waker of the task
    /// that waits for that. `None` means that the console is closed.
    pub(super) fn room(
        &mut self,
        id: u64,
        machine: &Machine,
        most: usize,
        (waker, stale): (&Waker, &mut Vec<Waker>),
    ) -> Progress<Option<usize>> {
        let Some(stream) = self.entries.iter_mut().find(|stream| stream.id == id) else { return Progress::Done(None) };
        match room(stream.cursor.channel(), machine, most) {
            Progress::Pending => {
                stale.extend(stream.writer.replace((most, waker.clone())).map(|(_, before)| before));
                Progress::Pending
            }
            room => room,
        }
    }

    /// Takes the wakers of the tasks whose streams can continue.
    pub(super) fn take_due(&mut self, run: u64, machine: &Machine, awake: &mut Vec<Waker>) {
        for stream in &mut self.entries {
            let (channel, is_due) = (stream.cursor.channel(), stream.cursor.is_due(run, machine));
            awake.extend(stream.reader.take_if(|_| is_due));
            let has_room = |most: usize| !matches!(room(channel, machine, most), Progress::Pending);
            awake.extend(stream.writer.take_if(|(most, _)| has_room(*most)).map(|(_, waker)| waker));
        }
    }
}

/// Returns how many bytes can be queued for a console. `Pending` means that more than `most` are queued, or that the console
/// is not open yet. `None` means that it is closed.
fn room(channel: Channel, machine: &Machine, most: usize) -> Progress<Option<usize>> {
    if is_closed(channel, machine) {
        return Progress::Done(None);
    }
    let queued = machine.outgoing(channel).len();
    if queued > most || !machine.channels().contains(&channel) {
        return Progress::Pending;
    }
    Progress::Done(Some(machine.limits().console_input.saturating_sub(queued)))
}
