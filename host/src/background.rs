//! Background operations: file operations that may block, each on a thread of its own.
//!
//! A network file system whose server is gone blocks each operation for as long as it likes, in a state in which no
//! signal interrupts it. The thread that drives machines must not wait for that.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::io::write;

use crate::lock::lock;
use crate::sys::{Os, System};
use crate::watch::Watch;

/// An operation in progress. If this is dropped, the operation goes on, and its result is dropped on a thread as well,
/// since closing a file may block.
#[derive(Debug)]
pub(crate) struct Background<T: Send + 'static> {
    descriptor: Arc<OwnedFd>,
    shared: Arc<Shared<T>>,
}

/// State that the thread of an operation shares with its owner.
#[derive(Debug)]
struct Shared<T> {
    inner: Mutex<Inner<T>>,
    is_cancelled: AtomicBool,
}

#[derive(Debug)]
struct Inner<T> {
    state: State<T>,
    /// The end of the pipe to write to. Closed by the owner, so that the thread holds no descriptor when the owner knows
    /// that the operation is over, and does not write without a reader: that would raise SIGPIPE, which ends programs that
    /// do not ignore it (`pipe(7)`).
    done: Option<OwnedFd>,
}

#[derive(Debug)]
enum State<T> {
    Pending,
    Done(T),
    /// The operation panicked, or the result was taken.
    Over,
    /// The owner is gone.
    Unwanted,
}

/// Progress of an operation.
#[derive(Debug)]
pub(crate) enum Progress<T> {
    Pending,
    Done(T),
    /// The operation panicked.
    Lost,
}

/// Flag by which the owner of an operation asks it to undo what it did.
#[derive(Debug)]
pub(crate) struct Cancelled<'a>(&'a AtomicBool);

impl Cancelled<'_> {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl<T: Send + 'static> Background<T> {
    /// Starts an operation on a new thread, after `watch` has begun to watch its descriptor.
    ///
    /// # Errors
    ///
    /// At the limit of descriptors or of threads, and those of `watch`. Then the operation is dropped, and was not begun.
    pub(crate) fn start(
        watch: impl FnOnce(&Arc<OwnedFd>) -> io::Result<()>,
        operation: impl FnOnce(&Cancelled<'_>) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let (descriptor, done) = Os::pipe()?;
        let descriptor = Arc::new(descriptor);
        watch(&descriptor)?;
        let inner = Mutex::new(Inner { state: State::Pending, done: Some(done) });
        let shared = Arc::new(Shared { inner, is_cancelled: AtomicBool::new(false) });
        let own = Arc::clone(&shared);
        spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| operation(&Cancelled(&own.is_cancelled))));
            own.complete(result.ok());
        })?;
        Ok(Self { descriptor, shared })
    }

    /// Starts an operation on a new thread, and has a runtime watch its descriptor.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start).
    pub(crate) fn begin(
        watch: &mut dyn Watch,
        operation: impl FnOnce(&Cancelled<'_>) -> T + Send + 'static,
    ) -> io::Result<Self> {
        let mut watched = None;
        let watch_it = |descriptor: &Arc<OwnedFd>| {
            watch.watch_completion(descriptor)?;
            watched = Some(Arc::clone(descriptor));
            Ok(())
        };
        let begun = Self::start(watch_it, operation);
        if begun.is_err() {
            watched.iter().for_each(|descriptor| watch.unwatch_completion(descriptor));
        }
        begun
    }

    /// Returns the descriptor to watch: it is readable when the operation is over.
    pub(crate) fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    /// Asks the operation to undo what it did. Its result says whether it did that.
    pub(crate) fn cancel(&self) {
        self.shared.is_cancelled.store(true, Ordering::Release);
    }

    /// Returns the result, once.
    pub(crate) fn progress(&self) -> Progress<T> {
        let mut inner = lock(&self.shared.inner);
        match mem::replace(&mut inner.state, State::Over) {
            State::Pending => {
                inner.state = State::Pending;
                Progress::Pending
            }
            State::Done(result) => {
                inner.done = None;
                Progress::Done(result)
            }
            State::Over | State::Unwanted => {
                inner.done = None;
                Progress::Lost
            }
        }
    }
}

impl<T> Shared<T> {
    /// Stores the result, if it is wanted, and makes the pipe readable.
    fn complete(&self, result: Option<T>) {
        let mut inner = lock(&self.inner);
        if matches!(inner.state, State::Unwanted) {
            // The result is dropped after the lock is released, because that may block.
            drop(inner);
            return drop(result);
        }
        inner.state = result.map_or(State::Over, State::Done);
        // A byte, since the end of the pipe is not seen while a child of this program has a copy of it.
        if let Some(done) = &inner.done {
            let _ = write(done, b"!");
        }
    }
}

impl<T: Send + 'static> Drop for Background<T> {
    fn drop(&mut self) {
        let unwanted = Inner { state: State::Unwanted, done: None };
        let Inner { state, done } = mem::replace(&mut *lock(&self.shared.inner), unwanted);
        drop(done);
        if let State::Done(result) = state {
            begin_and_forget(move || drop(result));
        }
    }
}

/// Does a file operation whose result does not matter, on a thread of its own. At the limit of threads, the operation is
/// dropped here instead.
pub(crate) fn begin_and_forget(operation: impl FnOnce() + Send + 'static) {
    let _ = spawn(operation);
}

fn spawn(run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("qemu-files".into()).spawn(run).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// Longer than a thread ever needs to start.
    const LONG: Duration = Duration::from_secs(60);

    fn wait<T: Send>(operation: &Background<T>) {
        poll(&mut [PollFd::new(operation.descriptor(), PollFlags::IN)], None).unwrap();
    }

    #[test]
    fn the_result_is_there_when_the_descriptor_is_readable() {
        let operation = Background::start(|_| Ok(()), |_| 7).unwrap();
        wait(&operation);
        assert!(matches!(operation.progress(), Progress::Done(7)));
        assert!(matches!(operation.progress(), Progress::Lost));
    }

    #[test]
    fn a_panic_is_reported() {
        let operation = Background::<()>::start(|_| Ok(()), |_| panic!("in a test")).unwrap();
        wait(&operation);
        assert!(matches!(operation.progress(), Progress::Lost));
    }

    #[test]
    fn an_operation_learns_that_it_is_cancelled() {
        let (go, gone) = channel();
        let operation = Background::start(
            |_| Ok(()),
            move |cancelled| {
                gone.recv().unwrap();
                cancelled.get()
            },
        )
        .unwrap();
        assert!(matches!(operation.progress(), Progress::Pending));
        operation.cancel();
        go.send(()).unwrap();
        wait(&operation);
        assert!(matches!(operation.progress(), Progress::Done(true)));
    }

    /// Sends the name of the thread that drops it.
    struct Reports(std::sync::mpsc::Sender<Option<String>>);

    impl Drop for Reports {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().name().map(str::to_owned));
        }
    }

    /// Closing a file may block, so neither a result that is there nor one that comes later is dropped on this thread.
    #[test]
    fn an_unwanted_result_is_dropped_on_a_thread() {
        let (sender, dropped) = channel();
        let value = Reports(sender.clone());
        let operation = Background::start(|_| Ok(()), move |_| value).unwrap();
        wait(&operation);
        drop(operation);
        assert_eq!(dropped.recv_timeout(LONG).unwrap().as_deref(), Some("qemu-files"));
        let (value, (go, gone)) = (Reports(sender), channel());
        let operation = Background::start(
            |_| Ok(()),
            move |_| {
                gone.recv().unwrap();
                value
            },
        )
        .unwrap();
        drop(operation);
        assert_eq!(dropped.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        go.send(()).unwrap();
        assert_eq!(dropped.recv_timeout(LONG).unwrap().as_deref(), Some("qemu-files"));
    }

    /// The thread has no descriptor, so none is left when the owner knows that the operation is over.
    #[test]
    fn the_owner_closes_the_pipe() {
        let (go, gone) = channel();
        let operation = Background::start(|_| Ok(()), move |_| gone.recv().unwrap()).unwrap();
        let (descriptor, shared) = (Arc::downgrade(operation.descriptor()), Arc::clone(&operation.shared));
        drop(operation);
        assert!(descriptor.upgrade().is_none() && lock(&shared.inner).done.is_none());
        go.send(()).unwrap();
        let operation = Background::start(|_| Ok(()), |_| ()).unwrap();
        wait(&operation);
        assert!(matches!(operation.progress(), Progress::Done(())) && lock(&operation.shared.inner).done.is_none());
    }
}
