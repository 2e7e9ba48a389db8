//! Lines of a console as a stream, for tasks of any executor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use qemu_machine_core::FOREVER;
use qemu_machine_core::procedure::{ConsoleLine, Lines};

use super::reactor::Reactor;
use super::vm::Vm;

/// Lines of a console, as [`Vm::lines`] returns them: each complete line once, in order. The stream waits without a deadline,
/// and ends with the machine. It also ends at every error: when there is no such console, and when as many waits as
/// [`Limits::waits`](crate::Limits::waits) are in progress. [`Vm::run`] with [`Lines::next_line`] has a deadline, and returns
/// the error. The stream keeps the machine alive, as a clone of the handle does.
///
/// ```no_run
/// # async fn example(vm: qemu_machine_tokio::Vm) {
/// use tokio_stream::StreamExt;
///
/// let mut lines = vm.lines("tty");
/// while let Some(line) = lines.next().await {
///     println!("{line}");
/// }
/// # }
/// ```
#[must_use = "a stream does nothing until it is polled"]
pub struct ConsoleLines<R: Reactor> {
    vm: Vm<R>,
    /// The run that waits for the next line. `None` means that the stream has ended.
    next: Option<Next>,
}

/// The next line, and the reader of those after it.
type Next = Pin<Box<dyn Future<Output = (Option<ConsoleLine>, Lines)> + Send>>;

fn next<R: Reactor>(vm: &Vm<R>, mut lines: Lines) -> Next {
    let vm = vm.clone();
    Box::pin(async move {
        let line = vm.run(lines.next_line(), FOREVER).await;
        (line.ok().flatten(), lines)
    })
}

impl<R: Reactor> Vm<R> {
    /// Returns the [lines](Lines) of a console as a stream.
    pub fn lines(&self, lines: impl Into<Lines>) -> ConsoleLines<R> {
        ConsoleLines { vm: self.clone(), next: Some(next(self, lines.into())) }
    }
}

impl<R: Reactor> Stream for ConsoleLines<R> {
    type Item = ConsoleLine;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ConsoleLine>> {
        let Some(waiting) = &mut self.next else { return Poll::Ready(None) };
        let Poll::Ready((line, lines)) = waiting.as_mut().poll(context) else { return Poll::Pending };
        self.next = line.is_some().then(|| next(&self.vm, lines));
        Poll::Ready(line)
    }
}

impl<R: Reactor> fmt::Debug for ConsoleLines<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConsoleLines").field(&self.vm).finish()
    }
}
