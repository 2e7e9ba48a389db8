//! Console of a machine as a stream of bytes, which a runtime wraps in the traits of its ecosystem.

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use qemu_machine_core::{Mark, Misuse};

use super::driver::{SharedMachine, Turn};
use super::reactor::Reactor;
use super::vm::Vm;
use crate::console_cursor::{ConsoleCursor, Progress, lost};
use crate::handle::Shared as _;

/// Console of a machine as a stream of bytes, in both directions.
///
/// It reads what the console has printed since a mark, each byte once. Other streams, waits and
/// [`Handle::console`](crate::Handle::console) are not affected. The stream ends when the console is closed, at the latest
/// with the run; polled again after a relaunch, it reads the next run, and what was unread of the last one is gone. It
/// keeps the machine alive, as a clone of the handle does. Dropping it closes nothing in QEMU, and affects no other
/// stream.
///
/// The driver reads consoles whether a stream is read or not, and retains
/// [`Limits::console`](qemu_machine_core::Limits::console) bytes. A stream that reads more slowly than the guest prints
/// gets one error that contains the number of evicted bytes, and continues behind them. With
/// [back-pressure](Self::with_back_pressure) the guest waits instead.
pub struct Console<R: Reactor> {
    vm: Vm<R>,
    name: String,
    id: u64,
}

impl<R: Reactor> Console<R> {
    /// Opens the console of this name, and reads from a mark on. [`Mark::default`] is the beginning of the run.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn open(vm: &Vm<R>, name: &str, from: &Mark) -> Result<Self, Misuse> {
        let mut turn = vm.shared().lock();
        let cursor = ConsoleCursor::open(name, from, turn.run, &turn.machine)?;
        let id = turn.streams.add(cursor);
        drop(turn);
        Ok(Self { vm: vm.clone(), name: name.to_owned(), id })
    }

    /// Stops reading the console while this stream is too far behind, so that no byte is evicted; the guest waits once its
    /// socket is full. Meanwhile, waits for text on this console see nothing new. At the end of a run all is read, so a guest
    /// that prints until QEMU has quit may print more than is retained.
    ///
    /// A guest waits only if the device of its console can: `isa-serial`, `pci-serial` and `virtconsole`. Others, such as
    /// the pl011 of the machine `virt`, stop QEMU as a whole, and it answers no command (QEMU, `hw/char/pl011.c`,
    /// `qemu_chr_fe_write_all`).
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when [`Limits::console`](qemu_machine_core::Limits::console) is less than 768 KiB.
    pub fn with_back_pressure(self) -> Result<Self, Misuse> {
        let mut turn = self.vm.shared().lock();
        let Turn { streams, machine, .. } = &mut *turn;
        let set = streams.set_back_pressure(self.id, machine);
        drop(turn);
        set.map(|()| self)
    }

    /// Reads what was printed, and returns the number of bytes. 0 means that the run has ended, or the console is closed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] with the number of bytes that were evicted before they were read.
    pub fn poll_read(&mut self, context: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let shared = self.vm.shared();
        match shared.poll_stream(|turn| {
            let Turn { streams, machine, run, stale, .. } = turn;
            streams.read(self.id, *run, machine, buffer, (context.waker(), stale))
        }) {
            Progress::Done(count) => Poll::Ready(Ok(count)),
            Progress::Lost(bytes) => Poll::Ready(Err(lost(bytes))),
            Progress::Pending => Poll::Pending,
        }
    }

    /// Queues bytes for the console, and returns how many. Waits while
    /// [`Limits::console_input`](qemu_machine_core::Limits::console_input) bytes are queued.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::BrokenPipe`] when the run has ended, or the console is closed.
    pub fn poll_write(&mut self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let shared = self.vm.shared();
        let room = shared.poll_stream(|turn| {
            let Turn { streams, machine, stale, .. } = turn;
            let most = machine.limits().console_input.saturating_sub(1);
            streams.room(self.id, machine, most, (context.waker(), stale))
        });
        let Progress::Done(Some(room)) = room else { return closed_or_pending(&room).map_ok(|()| 0) };
        let bytes = &bytes[..bytes.len().min(room)];
        // Another writer may have taken the room meanwhile. The task is then polled again.
        match shared.ask(|machine, now| machine.console_write(now, &self.name, bytes)) {
            Ok(()) => Poll::Ready(Ok(bytes.len())),
            Err(Misuse::ConsoleInputFull(_)) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Err(misuse) => Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, misuse))),
        }
    }

    /// Waits until all queued bytes were sent.
    ///
    /// # Errors
    ///
    /// As [`poll_write`](Self::poll_write).
    pub fn poll_flush(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let shared = self.vm.shared();
        let room = shared.poll_stream(|turn| {
            let Turn { streams, machine, stale, .. } = turn;
            streams.room(self.id, machine, 0, (context.waker(), stale))
        });
        match room {
            Progress::Done(Some(_)) => Poll::Ready(Ok(())),
            room => closed_or_pending(&room),
        }
    }
}

fn closed_or_pending(room: &Progress<Option<usize>>) -> Poll<io::Result<()>> {
    match room {
        Progress::Pending => Poll::Pending,
        _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
    }
}

impl<R: Reactor> Drop for Console<R> {
    fn drop(&mut self) {
        let shared: &SharedMachine<R> = self.vm.shared();
        let removed: Vec<_> = shared.poll_stream(|turn| turn.streams.remove(self.id).collect());
        drop(removed);
    }
}

impl<R: Reactor> fmt::Debug for Console<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("name", &self.name).field("vm", &self.vm).finish()
    }
}
