//! Readers of consoles, for callers on threads or in a loop: each gets every byte once, and may let the guest wait.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use qemu_machine_core::{Channel, Input, Machine, Mark, Misuse, Moment, WaitError};

use crate::console_cursor::{ConsoleCursor, Progress, lost};
use crate::fault::fault;
use crate::handle::{Handle, Shared};
use crate::host::Host;
use crate::readers::ReaderId;
use crate::watch::Watch;

impl Host {
    /// Opens a reader of the console of this name, which reads from a mark on. [`Mark::default`] is the beginning of the
    /// run.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn open_console(&mut self, name: &str, from: &Mark, machine: &Machine) -> Result<ReaderId, Misuse> {
        let readers = self.readers.get_or_insert_default();
        let cursor = ConsoleCursor::open(name, from, readers.run, machine)?;
        Ok(readers.add(cursor))
    }

    /// Lets the guest wait for a reader from now on: while the reader is too far behind, the console is not
    /// [watched](Watch). [`serve`](Self::serve) watches it again.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when [`Limits::console`](qemu_machine_core::Limits::console) is less than 768 KiB.
    pub fn set_back_pressure(&mut self, id: ReaderId, machine: &Machine) -> Result<(), Misuse> {
        let cursor = self.readers.as_mut().and_then(|readers| readers.find(id));
        cursor.map_or(Ok(()), |(_, cursor)| cursor.set_back_pressure(machine))
    }

    /// Reads what a console has printed and this reader has not read, and returns the number of bytes. 0 means that the
    /// run has ended, or that the console or the reader is closed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when there is nothing more for now. [`io::ErrorKind::InvalidData`] with the number of
    /// bytes that were evicted before they were read; the next call reads behind them.
    pub fn read_console(&mut self, id: ReaderId, machine: &Machine, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((run, cursor)) = self.readers.as_mut().and_then(|readers| readers.find(id)) else { return Ok(0) };
        match cursor.read(run, machine, buffer) {
            Progress::Done(count) => Ok(count),
            Progress::Lost(bytes) => Err(lost(bytes)),
            Progress::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Closes a reader. The guest no longer waits for it.
    pub fn close_console(&mut self, id: ReaderId) {
        self.readers.iter_mut().for_each(|readers| readers.remove(id));
    }

    /// Returns whether a console is not watched that can be read again, so that a call of [`serve`](Self::serve) is due.
    #[must_use]
    pub fn can_resume_console(&self, machine: &Machine) -> bool {
        let readers = self.readers.as_ref();
        let mut held = self.sockets.iter().filter(|socket| socket.is_held());
        readers.is_some_and(|readers| held.any(|socket| !readers.holds(socket.channel, machine)))
    }

    /// Stops watching a console whose reader is too far behind. Returns whether there is one.
    pub(crate) fn hold_console(&mut self, channel: Channel, machine: &Machine, watch: &mut dyn Watch) -> bool {
        let Self { readers: Some(readers), sockets, trace, .. } = self else { return false };
        if !readers.holds(channel, machine) {
            return false;
        }
        let socket = sockets.iter_mut().find(|socket| socket.channel == channel && !socket.is_held());
        socket.into_iter().for_each(|socket| socket.hold(trace, watch));
        true
    }

    /// Watches the consoles again whose readers have caught up.
    pub(crate) fn resume_consoles(&mut self, machine: &mut Machine, now: Moment, watch: &mut dyn Watch) {
        let Self { readers: Some(readers), sockets, .. } = self else { return };
        let mut failed = Vec::new();
        for socket in sockets.iter_mut().filter(|socket| socket.is_held()) {
            if !readers.holds(socket.channel, machine) {
                failed.extend(socket.resume(watch).err().map(|error| (socket.channel, error)));
            }
        }
        for (channel, error) in failed {
            self.trace.fault(&fault(format!("watch the {channel}"), &error));
            self.close(channel, Input::Closed(channel), machine, now, watch);
        }
    }
}

/// State of a machine that callers on threads share, for [`ConsoleReader`]. A runtime for threads implements it.
pub trait WaitOnThread: Shared {
    /// Waits until `claim` returns a result: calls it, under the lock, whenever something has happened. `None` means that
    /// the caller has cancelled the wait.
    fn wait_on_thread<T>(self: &Arc<Self>, claim: impl FnMut(&mut Host, &Machine) -> Option<T>) -> Option<T>;
}

/// Console of a machine as a stream of bytes to read, for threads that may block.
///
/// It reads what the console has printed since a mark, each byte once. Other readers, waits and [`Handle::console`] are
/// not affected. The stream ends when the console is closed, at the latest with the run; after a relaunch, it reads the
/// next run. It keeps the machine alive, as a clone of the handle does. [`Handle::console_write`] writes to the console.
///
/// The library reads consoles whether this is read or not, and retains
/// [`Limits::console`](qemu_machine_core::Limits::console) bytes. A reader that is slower than the guest prints gets one
/// error of the kind [`InvalidData`](io::ErrorKind::InvalidData), which contains the number of evicted bytes, and
/// continues behind them. With [back-pressure](Self::with_back_pressure) the guest waits instead.
///
/// `read` has no deadline. It ends with the machine; with `qemu-machine-blocking` its `Cancel` ends it earlier.
pub struct ConsoleReader<S: WaitOnThread> {
    handle: Handle<S>,
    id: ReaderId,
}

impl<S: WaitOnThread> Handle<S> {
    /// Opens the console of this name as a stream of bytes, and reads from a mark on. [`Mark::default`] is the beginning
    /// of the run.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn console_reader(&self, name: &str, from: &Mark) -> Result<ConsoleReader<S>, Misuse> {
        let open = |host: &mut Host, machine: &Machine| Some(host.open_console(name, from, machine));
        let id = self.shared().wait_on_thread(open).unwrap_or(Err(Misuse::UnknownConsole(name.into())))?;
        Ok(ConsoleReader { handle: self.clone(), id })
    }
}

impl<S: WaitOnThread> ConsoleReader<S> {
    /// Lets the guest wait while this reader is too far behind, so that no byte is evicted: the library stops reading the
    /// console, and the guest waits once its socket is full. Meanwhile, waits for text on this console see nothing new. At
    /// the end of a run all is read, so a guest that prints until QEMU has quit may print more than is retained.
    ///
    /// A guest waits only if the device of its console can: `isa-serial`, `pci-serial` and `virtconsole`. Others, such as
    /// the pl011 of the machine `virt`, stop QEMU as a whole, and it answers no command (QEMU, `hw/char/pl011.c`,
    /// `qemu_chr_fe_write_all`).
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when [`Limits::console`](qemu_machine_core::Limits::console) is less than 768 KiB.
    pub fn with_back_pressure(self) -> Result<Self, Misuse> {
        let id = self.id;
        let set = move |host: &mut Host, machine: &Machine| Some(host.set_back_pressure(id, machine));
        self.handle.shared().wait_on_thread(set).unwrap_or(Ok(()))?;
        Ok(self)
    }
}

impl<S: WaitOnThread> Read for ConsoleReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let id = self.id;
        let read = self.handle.shared().wait_on_thread(|host, machine| match host.read_console(id, machine, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            read => Some(read),
        });
        read.unwrap_or_else(|| Err(io::Error::other(WaitError::Cancelled)))
    }
}

impl<S: WaitOnThread> fmt::Debug for ConsoleReader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleReader").field("handle", &self.handle).field("id", &self.id).finish()
    }
}

impl<S: WaitOnThread> Drop for ConsoleReader<S> {
    fn drop(&mut self) {
        self.handle.shared().with_host(|host| host.close_console(self.id));
        // The guest may have waited for this reader alone.
        self.handle.shared().ask(|_, _| ());
    }
}

#[cfg(test)]
mod tests {
    use qemu_machine_core::Config;

    use super::*;
    use crate::clock::Clock;
    use crate::watch::Unwatched;

    /// The launch is not the end of a run for a reader that was opened before it.
    #[test]
    fn a_reader_that_is_opened_before_the_first_launch_reads_the_first_run() {
        let mut machine =
            Machine::new(Config::new("unused").wrapper(["true"]).without_monitor().serial("tty")).unwrap();
        let (mut host, clock) = (Host::default(), Clock::new());
        let id = host.open_console("tty", &Mark::default(), &machine).unwrap();
        machine.launch(clock.now()).unwrap();
        host.serve(&mut machine, clock.now(), &mut Unwatched);
        let read = host.read_console(id, &machine, &mut [0]).map_err(|error| error.kind());
        assert_eq!(read, Err(io::ErrorKind::WouldBlock));
        host.end(&mut machine, clock);
        assert_eq!(host.read_console(id, &machine, &mut [0]).unwrap(), 0);
    }
}
