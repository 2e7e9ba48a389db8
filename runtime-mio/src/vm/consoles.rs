//! Readers of consoles, in the mio loop of the caller.

use std::io;

use qemu_machine_core::{Mark, Misuse};
use qemu_machine_host::ReaderId;

use super::Vm;

impl Vm {
    /// Opens a reader of the console of this name, which reads from a mark on, each byte once. [`Mark::default`] is the
    /// beginning of the run. Other readers and waits are not affected.
    ///
    /// The turns read consoles whether a reader is read or not, and retain
    /// [`Limits::console`](crate::Limits::console) bytes. A reader that is too slow loses the oldest;
    /// [`set_back_pressure`](Self::set_back_pressure) lets the guest wait instead.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    ///
    /// ```no_run
    /// # use std::io::{self, Write};
    /// # use qemu_machine_mio::{Config, EventLoop, Mark, Vm};
    /// # let mut event_loop = EventLoop::new()?;
    /// # let (registry, tokens) = event_loop.parts();
    /// # let mut vm = Vm::launch(Config::new("qemu-system-x86_64").serial("tty"), registry, tokens)?;
    /// let tty = vm.open_console("tty", &Mark::default())?;
    /// vm.set_back_pressure(tty)?;
    /// // After each turn, for example at a `Notice::Printed`:
    /// let mut buffer = [0; 4096];
    /// loop {
    ///     match vm.read_console(tty, &mut buffer) {
    ///         Ok(0) => break, // The run has ended.
    ///         Ok(count) => io::stdout().write_all(&buffer[..count])?,
    ///         Err(error) if error.kind() == io::ErrorKind::WouldBlock => break, // Until the next turn.
    ///         Err(error) => return Err(error.into()),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_console(&mut self, name: &str, from: &Mark) -> Result<ReaderId, Misuse> {
        self.check_process();
        self.host.open_console(name, from, &self.machine)
    }

    /// Lets the guest wait while a reader is too far behind, so that no byte is evicted: the turns stop reading the
    /// console, and the guest waits once its socket is full. Meanwhile, waits for text on this console see nothing new. At
    /// the end of a run all is read, so a guest that prints until QEMU has quit may print more than is retained.
    ///
    /// A guest waits only if the device of its console can: `isa-serial`, `pci-serial` and `virtconsole`. Others, such as
    /// the pl011 of the machine `virt`, stop QEMU as a whole, and it answers no command (QEMU, `hw/char/pl011.c`,
    /// `qemu_chr_fe_write_all`).
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] when [`Limits::console`](crate::Limits::console) is less than 768 KiB.
    pub fn set_back_pressure(&mut self, reader: ReaderId) -> Result<(), Misuse> {
        self.check_process();
        self.host.set_back_pressure(reader, &self.machine)
    }

    /// Reads what the console has printed and this reader has not read, and returns the number of bytes. 0 means that the
    /// run has ended, or that the console or the reader is closed; after a relaunch, the reader reads the next run.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when there is nothing more before a later turn. [`io::ErrorKind::InvalidData`] with the
    /// number of bytes that were evicted before they were read; the next call reads behind them.
    pub fn read_console(&mut self, reader: ReaderId, buffer: &mut [u8]) -> io::Result<usize> {
        self.check_process();
        let read = self.host.read_console(reader, &self.machine, buffer);
        self.is_asked |= self.host.can_resume_console(&self.machine);
        read
    }

    /// Closes a reader. The guest no longer waits for it.
    pub fn close_console(&mut self, reader: ReaderId) {
        self.check_process();
        self.host.close_console(reader);
        self.is_asked = true;
    }
}
