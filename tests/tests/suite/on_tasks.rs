//! Rows of tasks: tokio with each flavour of its runtime; smol with each executor, one whose futures are dropped and made
//! again, and one whose QEMU accepts nothing that is deprecated.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};

use qemu_machine_core::{
    CommandError, Config, Deadline, Event, FOREVER, Hit, LaunchError, Mark, Misuse, Outcome, RawReply, Shutdown, State,
    Value, Wait, WaitError, session::Counters,
};
use qemu_machine_host::tasks::{Driver, Events, Reactor, Vm};
use qemu_machine_smol::Smol;
use qemu_machine_tokio::Tokio;
use smol::lock::Mutex;
use tokio::runtime::Runtime;

use crate::harness::Harness;

/// An executor: how it waits for a future, and where it runs the driver.
pub(crate) trait Executor {
    const ROW: &'static str;

    type Reactor: Reactor;

    /// The arguments that each QEMU of the row has in addition.
    const ARGUMENTS: &'static [&'static str] = &[];

    fn block_on<T>(future: impl Future<Output = T>) -> T;
    fn spawn(driver: Driver<Self::Reactor>);

    /// Waits for a future that may be dropped and made again.
    fn insist<T, F: Future<Output = T>>(mut ask: impl FnMut() -> F) -> T {
        Self::block_on(ask())
    }
}

/// smol itself, with the driver on its global executor.
pub(crate) struct OnSmol;

impl Executor for OnSmol {
    const ROW: &'static str = "smol_on_smol";

    type Reactor = Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }

    fn spawn(driver: Driver<Self::Reactor>) {
        smol::spawn(driver).detach();
    }
}

/// async-std, which is discontinued. It shows that the runtime needs no particular executor.
pub(crate) struct OnAsyncStd;

impl Executor for OnAsyncStd {
    const ROW: &'static str = "smol_on_async_std";

    type Reactor = Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        async_std::task::block_on(future)
    }

    fn spawn(driver: Driver<Self::Reactor>) {
        async_std::task::spawn(driver);
    }
}

/// tokio, with the reactor of smol.
pub(crate) struct OnTokio;

fn tokio_runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime can be made"))
}

impl Executor for OnTokio {
    const ROW: &'static str = "smol_on_tokio";

    type Reactor = Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio_runtime().block_on(future)
    }

    fn spawn(driver: Driver<Self::Reactor>) {
        tokio_runtime().spawn(driver);
    }
}

/// tokio with its own reactor, and threads on which the driver runs.
pub(crate) struct TokioMulti;

impl Executor for TokioMulti {
    const ROW: &'static str = "tokio_multi";

    type Reactor = Tokio;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio_runtime().block_on(future)
    }

    fn spawn(driver: Driver<Tokio>) {
        tokio::spawn(driver);
    }
}

/// tokio with its own reactor on the thread of the test, where the driver runs while the test waits for a future.
pub(crate) struct TokioCurrent;

impl Executor for TokioCurrent {
    const ROW: &'static str = "tokio_current";

    type Reactor = Tokio;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        thread_local! {
            static RUNTIME: Runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        }
        RUNTIME.with(|runtime| runtime.block_on(future))
    }

    fn spawn(driver: Driver<Tokio>) {
        tokio::spawn(driver);
    }
}

/// No executor: the driver and the caller each have a thread that polls them.
pub(crate) struct OnBlockOn;

impl Executor for OnBlockOn {
    const ROW: &'static str = "smol_on_block_on";

    type Reactor = Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::future::block_on(future)
    }

    fn spawn(driver: Driver<Self::Reactor>) {
        std::thread::spawn(|| smol::future::block_on(driver));
    }
}

/// Drops a future that is still pending after its first wake-up, and makes it again.
pub(crate) struct Impatient;

impl Executor for Impatient {
    const ROW: &'static str = "impatient";

    type Reactor = Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::future::block_on(future)
    }

    fn spawn(driver: Driver<Self::Reactor>) {
        smol::spawn(driver).detach();
    }

    fn insist<T, F: Future<Output = T>>(mut ask: impl FnMut() -> F) -> T {
        loop {
            let asked = Twice { future: Box::pin(ask()), polls: 0 };
            if let Some(answer) = Self::block_on(asked) {
                return answer;
            }
        }
    }
}

/// smol itself, with a QEMU that aborts when it receives a deprecated command or argument, and omits deprecated members
/// and events (QEMU, `qapi/compat.json`, `CompatPolicy`). A library that depends on them fails with a later QEMU.
pub(crate) struct Strict;

impl Executor for Strict {
    const ROW: &'static str = "strict";
    const ARGUMENTS: &'static [&'static str] = &["-compat", "deprecated-input=crash,deprecated-output=hide"];

    type Reactor = Smol;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        OnSmol::block_on(future)
    }

    fn spawn(driver: Driver<Self::Reactor>) {
        OnSmol::spawn(driver);
    }
}

/// Polls futures side by side, and returns what they return.
pub(crate) async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut answers: Vec<Option<_>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, answer) in futures.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(context) {
                *answer = Some(ready);
            }
        }
        if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// A future that ends with `None` when it was woken and is still pending.
struct Twice<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Twice<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls += 1;
        match self.future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.polls > 1 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The row of one executor.
pub(crate) struct Tasks<E: Executor> {
    pub(crate) vm: Vm<E::Reactor>,
    executor: PhantomData<E>,
}

impl<E: Executor> Tasks<E> {
    /// Drops a wait after one poll. Other callers must not notice.
    fn disturb(&self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let wait = pin!(self.vm.wait_any(&Mark::default(), [Wait::event("NEVER")], FOREVER)).poll(&mut context);
        assert!(!matches!(wait, Poll::Ready(Ok(_))), "no event has that name");
    }
}

impl<E: Executor> Harness for Tasks<E> {
    const ROW: &'static str = E::ROW;

    type Events = Events<E::Reactor>;

    fn launch(config: Config) -> Result<Self, LaunchError> {
        let vm = E::block_on(Vm::launch_with(config.args(E::ARGUMENTS.iter().copied()), E::spawn))?;
        Ok(Self { vm, executor: PhantomData })
    }

    fn execute(&mut self, command: &str, within: Deadline) -> Result<Value, CommandError> {
        self.disturb();
        E::block_on(self.vm.execute_by(command, within))
    }

    fn execute_raw_by(&mut self, object: &str, within: Deadline) -> Result<RawReply, CommandError> {
        E::block_on(self.vm.execute_raw_by(object, within))
    }

    fn execute_all(&mut self, commands: &[&str], within: Deadline) -> Vec<Result<Value, CommandError>> {
        E::block_on(together(commands.iter().map(|command| self.vm.execute_by(*command, within))))
    }

    fn mark(&mut self) -> Mark {
        self.vm.mark()
    }

    fn wait_any(&mut self, from: &Mark, things: &[Wait], within: Deadline) -> Result<Hit, WaitError> {
        self.disturb();
        E::insist(|| self.vm.wait_any(from, things.to_vec(), within))
    }

    fn subscribe(&mut self, from: &Mark, filter: &[Wait]) -> Result<Events<E::Reactor>, Misuse> {
        self.disturb();
        self.vm.events_from(from, filter.to_vec())
    }

    fn next(&mut self, events: &mut Events<E::Reactor>, within: Deadline) -> Result<Event, WaitError> {
        // Each attempt borrows the subscription again.
        let events = &Mutex::new(events);
        E::insist(|| async move { events.lock().await.next(within).await })
    }

    fn queued(&mut self, events: &mut Events<E::Reactor>) -> Vec<Event> {
        events.queued()
    }

    fn missed(&mut self, events: &Events<E::Reactor>) -> u64 {
        events.missed()
    }

    fn unsubscribe(&mut self, events: Events<E::Reactor>) {
        drop(events);
    }

    fn console_write(&mut self, console: &str, text: &str) -> Result<(), Misuse> {
        self.vm.console_write(console, text)
    }

    fn shutdown(&mut self, how: Shutdown) -> Result<Outcome, Misuse> {
        E::insist(|| self.vm.shutdown(how))
    }

    fn kill(&mut self) -> Result<Outcome, Misuse> {
        E::insist(|| self.vm.kill())
    }

    fn wait(&mut self, within: Deadline) -> Result<Outcome, WaitError> {
        E::insist(|| self.vm.wait(within))
    }

    fn state(&mut self) -> State {
        self.vm.state()
    }

    fn pid(&mut self) -> Option<u32> {
        self.vm.pid()
    }

    fn counters(&mut self) -> Counters {
        self.vm.counters()
    }
}
