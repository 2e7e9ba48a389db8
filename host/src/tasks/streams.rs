//! Streams of consoles: positions of their readers, tasks that wait, and consoles that are not read for now.

use std::task::Waker;

use qemu_machine_core::{Channel, Machine, State};

/// Room that a console which is not read for now leaves in its retained output: for the read in progress (64 KiB), and for
/// what the socket holds when the process ends (228 KiB with the default `net.core.wmem_default`, measured with Linux 6.18).
const MARGIN: usize = 384 << 10;

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
    /// The run that it reads.
    run: u64,
    /// The position of the next byte to read.
    position: u64,
    /// Whether the reader has seen the end of the run.
    has_ended: bool,
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
    /// Adds a stream that begins at a position of this run, and returns its id.
    pub(super) fn add(&mut self, channel: Channel, run: u64, position: u64) -> u64 {
        self.next_id += 1;
        let (id, has_back_pressure, has_ended) = (self.next_id, false, false);
        let stream = Stream { id, channel, run, position, has_ended, has_back_pressure, reader: None, writer: None };
        self.entries.push(stream);
        id
    }

    /// Removes a stream, and returns its wakers, to be dropped under no lock.
    pub(super) fn remove(&mut self, id: u64) -> impl Iterator<Item = Waker> + use<> {
        let index = self.entries.iter().position(|stream| stream.id == id);
        let removed = index.map(|index| self.entries.swap_remove(index));
        removed.into_iter().flat_map(|stream| stream.reader.into_iter().chain(stream.writer.map(|(_, waker)| waker)))
    }

    pub(super) fn set_back_pressure(&mut self, id: u64) {
        self.entries.iter_mut().filter(|stream| stream.id == id).for_each(|stream| stream.has_back_pressure = true);
    }

    /// Returns whether a console is not to be read for now: a stream with back-pressure has read too little of it. At the
    /// end of a run all is read: a QEMU that waits for its console may not execute `quit`.
    pub(super) fn hold(&self, run: u64, channel: Channel, machine: &Machine) -> bool {
        if self.entries.is_empty() || !matches!(machine.state(), State::Launching(_) | State::Running) {
            return false;
        }
        let Some(console) = console(channel, machine).filter(|_| machine.lifecycle().pid().is_some()) else {
            return false;
        };
        let most = machine.limits().console.saturating_sub(MARGIN) as u64;
        let is_behind = |stream: &Stream| console.end() >= stream.position.saturating_add(most);
        let holds = |stream: &Stream| stream.has_back_pressure && stream.run == run && stream.channel == channel;
        self.entries.iter().any(|stream| holds(stream) && is_behind(stream))
    }

    /// Copies what is unread, or notes the waker of the task that waits for more; `stale` gets the one that it replaces. No byte means that the run has ended, or
    /// that the console is closed.
    pub(super) fn read(
        &mut self,
        id: u64,
        run: u64,
        machine: &Machine,
        buffer: &mut [u8],
        (waker, stale): (&Waker, &mut Vec<Waker>),
    ) -> Progress<usize> {
        let Some(stream) = self.entries.iter_mut().find(|stream| stream.id == id) else { return Progress::Done(0) };
        let Some(console) = console(stream.channel, machine) else { return Progress::Done(0) };
        if stream.run != run {
            (stream.run, stream.position) = (run, console.first());
            if !std::mem::take(&mut stream.has_ended) {
                return Progress::Done(0);
            }
        }
        let lost = console.first().saturating_sub(stream.position);
        if lost > 0 {
            stream.position = console.first();
            return Progress::Lost(lost);
        }
        let unread = console.since(stream.position);
        let count = unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&unread[..count]);
        stream.position += count as u64;
        if count > 0 || buffer.is_empty() {
            return Progress::Done(count);
        }
        if is_closed(stream.channel, machine) {
            stream.has_ended = true;
            return Progress::Done(0);
        }
        stale.extend(stream.reader.replace(waker.clone()));
        Progress::Pending
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
        match room(stream.channel, machine, most) {
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
            let has_more = console(stream.channel, machine).is_some_and(|console| console.end() > stream.position);
            let is_due = has_more || stream.run != run || is_closed(stream.channel, machine);
            awake.extend(stream.reader.take_if(|_| is_due));
            let has_room = |most: usize| !matches!(room(stream.channel, machine, most), Progress::Pending);
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

fn console(channel: Channel, machine: &Machine) -> Option<&qemu_machine_core::Console> {
    let Channel::Console(index) = channel else { return None };
    machine.console(machine.console_names().nth(index)?).ok()
}

/// Returns whether nothing more comes from a console in this run.
fn is_closed(channel: Channel, machine: &Machine) -> bool {
    !matches!(machine.state(), State::Idle | State::Launching(_)) && !machine.channels().contains(&channel)
}
