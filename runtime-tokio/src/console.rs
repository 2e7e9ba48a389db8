//! Console of a machine as `AsyncRead` and `AsyncWrite` of tokio.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use qemu_machine_core::{Mark, Misuse};
use qemu_machine_host::tasks;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Vm;
use crate::reactor::Tokio;

/// Console of a machine as a stream of bytes, in both directions: [`tasks::Console`] describes it.
///
/// ```no_run
/// # async fn example(vm: qemu_machine_tokio::Vm) -> Result<(), Box<dyn std::error::Error>> {
/// use qemu_machine_tokio::{Console, Mark};
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
///
/// let mut tty = BufReader::new(Console::open(&vm, "tty", &Mark::default())?.with_back_pressure()?);
/// tty.write_all(b"uname -r\n").await?;
/// let mut line = String::new();
/// tty.read_line(&mut line).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Console(tasks::Console<Tokio>);

impl Console {
    /// Opens the console of this name, and reads from a mark on. [`Mark::default`] is the beginning of the run.
    ///
    /// # Errors
    ///
    /// [`Misuse::UnknownConsole`].
    pub fn open(vm: &Vm, name: &str, from: &Mark) -> Result<Self, Misuse> {
        tasks::Console::open(vm, name, from).map(Self)
    }

    /// As [`tasks::Console::with_back_pressure`].
    ///
    /// # Errors
    ///
    /// As [`tasks::Console::with_back_pressure`].
    pub fn with_back_pressure(self) -> Result<Self, Misuse> {
        self.0.with_back_pressure().map(Self)
    }
}

impl AsyncRead for Console {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let count = ready!(self.0.poll_read(context, into.initialize_unfilled()))?;
        into.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Console {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(context)
    }

    /// Flushes: the console stays open for others.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}
