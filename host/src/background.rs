//! Background operations: file operations that may block, each on a thread of its own.
//!
//! A network file system whose server is gone blocks each operation for as long as it likes, in a state in which no
//! signal interrupts it. The thread that drives machines must not wait for that.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use rustix::io::write;
use rustix::pipe::{PipeFlags, pipe_with};

/// An operation in progress.
#[derive(Debug)]
pub(crate) struct Background<T> {
    descriptor: Arc<OwnedFd>,
    /// `None` means that the result is not wanted any more.
    result: Option<Receiver<T>>,
}

/// Progress of a background operation.
#[derive(Debug)]
pub(crate) enum Progress<T> {
    Pending,
    Done(T),
    /// The result was not wanted, or the operation panicked.
    Lost,
}

impl<T: Send + 'static> Background<T> {
    /// Starts an operation on a new thread.
    pub(crate) fn start(operation: impl FnOnce() -> T + Send + 'static) -> io::Result<Self> {
        let (descriptor, done) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (sender, result) = channel();
        std::thread::Builder::new().name("qemu-files".into()).spawn(move || {
            // A result that is not wanted any more is dropped on this thread, which may block as well.
            drop(sender.send(operation()));
            // A byte, since the end of the pipe is not seen while a child of this program has a copy of it.
            let _ = write(&done, b"!");
        })?;
        Ok(Self { descriptor: Arc::new(descriptor), result: Some(result) })
    }

    /// Returns the descriptor to watch: it is readable when the operation is over.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    /// Drops the result as soon as there is one. The operation goes on.
    pub(crate) fn abandon(&mut self) {
        self.result = None;
    }

    pub(crate) fn progress(&self) -> Progress<T> {
        let Some(result) = &self.result else {
            return if self.is_over() { Progress::Lost } else { Progress::Pending };
        };
        match result.try_recv() {
            Ok(result) => Progress::Done(result),
            Err(TryRecvError::Empty) => Progress::Pending,
            Err(TryRecvError::Disconnected) => Progress::Lost,
        }
    }

    fn is_over(&self) -> bool {
        rustix::io::read(&*self.descriptor, &mut [0_u8; 1]).is_ok()
    }
}
