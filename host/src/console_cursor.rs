//! Cursor of a console: how far one reader of its output has come, and whether the guest waits for that reader.

use std::io;

use qemu_machine_core::{Channel, Console, Machine, Mark, Misuse, State};

/// Room that a console which is not read for now leaves in its retained output: for the read in progress (64 KiB), and for
/// what the socket holds when the process ends (228 KiB with the default `net.core.wmem_default`, measured with Linux 6.18).
const MARGIN: usize = 384 << 10;

/// The least [`Limits::console`](qemu_machine_core::Limits::console) for back-pressure.
const LEAST_LIMIT: usize = 2 * MARGIN;

/// How far one reader of a console has come.
#[derive(Debug)]
pub(crate) struct ConsoleCursor {
    channel: Channel,
    /// The run that it reads.
    run: u64,
    /// The position of the next byte to read.
    position: u64,
    /// Whether the reader has seen the end of the run, or was opened before the first one.
    has_ended: bool,
    has_back_pressure: bool,
}

/// Progress of a reader or a writer of a console.
#[derive(Debug)]
pub(crate) enum Progress<T> {
    Done(T),
    /// So many bytes were evicted before they were read.
    Lost(u64),
    Pending,
}

impl ConsoleCursor {
    /// Returns a cursor that begins at a mark of this run.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub(crate) fn open(name: &str, from: &Mark, run: u64, machine: &Machine) -> Result<Self, Misuse> {
        let position = machine.console_position(name, from)?;
        let index = machine.console_names().position(|other| other == name).unwrap_or_default();
        let channel = Channel::Console(index);
        // Before the first run there is nothing of which the reader must see the end.
        let has_ended = machine.state() == State::Idle;
        Ok(Self { channel, run, position, has_ended, has_back_pressure: false })
    }

    #[cfg(feature = "tasks")]
    pub(crate) fn channel(&self) -> Channel {
        self.channel
    }

    /// Lets the guest wait for this reader from now on.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when the console retains too little.
    pub(crate) fn set_back_pressure(&mut self, machine: &Machine) -> Result<(), Misuse> {
        if machine.limits().console < LEAST_LIMIT {
            return Err(Misuse::Config("back-pressure needs `Limits::console` of at least 768 KiB".into()));
        }
        self.has_back_pressure = true;
        Ok(())
    }

    /// Returns whether the console is not to be read for now, since this reader has read too little of it. At the end of a
    /// run all is read: a QEMU that waits for its console may not execute `quit`.
    pub(crate) fn holds(&self, run: u64, channel: Channel, machine: &Machine) -> bool {
        if !self.has_back_pressure || self.run != run || self.channel != channel {
            return false;
        }
        let is_running = matches!(machine.state(), State::Launching(_) | State::Running) && machine.pid().is_some();
        let most = machine.limits().console.saturating_sub(MARGIN) as u64;
        let is_behind = |console: &Console| console.end() >= self.position.saturating_add(most);
        is_running && console(channel, machine).is_some_and(is_behind)
    }

    /// Copies what is unread. No byte means that the run has ended, or that the console is closed.
    pub(crate) fn read(&mut self, run: u64, machine: &Machine, buffer: &mut [u8]) -> Progress<usize> {
        let Some(console) = console(self.channel, machine) else { return Progress::Done(0) };
        if self.run != run {
            (self.run, self.position) = (run, console.first());
            if !std::mem::take(&mut self.has_ended) {
                return Progress::Done(0);
            }
        }
        let lost = console.first().saturating_sub(self.position);
        if lost > 0 {
            self.position = console.first();
            return Progress::Lost(lost);
        }
        let unread = console.since(self.position);
        let count = unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&unread[..count]);
        self.position += count as u64;
        if count > 0 || buffer.is_empty() {
            return Progress::Done(count);
        }
        if is_closed(self.channel, machine) {
            self.has_ended = true;
            return Progress::Done(0);
        }
        Progress::Pending
    }

    /// Returns whether a reader that waits can continue.
    #[cfg(feature = "tasks")]
    pub(crate) fn is_due(&self, run: u64, machine: &Machine) -> bool {
        let has_more = console(self.channel, machine).is_some_and(|console| console.end() > self.position);
        has_more || self.run != run || is_closed(self.channel, machine)
    }
}

/// Returns the error of a reader from which so many bytes were evicted.
pub(crate) fn lost(bytes: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{bytes} bytes were evicted before they were read: raise `Limits::console`, or read with back-pressure"
        ),
    )
}

/// Returns whether nothing more comes from a console in this run.
pub(crate) fn is_closed(channel: Channel, machine: &Machine) -> bool {
    !matches!(machine.state(), State::Idle | State::Launching(_)) && !machine.channels().contains(&channel)
}

fn console(channel: Channel, machine: &Machine) -> Option<&Console> {
    let Channel::Console(index) = channel else { return None };
    machine.console(machine.console_names().nth(index)?).ok()
}
