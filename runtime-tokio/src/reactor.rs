//! Reactor of tokio: descriptors by `AsyncFd`, and one `Sleep`.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use qemu_machine_core::Misuse;
use qemu_machine_host::tasks::{AsyncSource, AsyncTimer, Driver, Reactor, Readiness, Spawn};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::unconstrained;
use tokio::time::{Sleep, sleep_until};

/// Reactor of the tokio runtime in which a machine was launched.
#[derive(Clone, Debug)]
pub struct Tokio(Handle);

/// A descriptor that tokio watches.
#[derive(Debug)]
pub struct TokioSource {
    reactor: Tokio,
    descriptor: Arc<OwnedFd>,
    /// `None` means that it could not be registered again.
    registered: Option<AsyncFd<Arc<OwnedFd>>>,
    interest: Interest,
    /// Whether a hang-up was reported. tokio treats a descriptor as ready from then on.
    has_hung_up: bool,
}

/// Timer of tokio.
#[derive(Debug)]
pub struct TokioTimer {
    sleep: Pin<Box<Sleep>>,
    is_set: bool,
}

impl Tokio {
    #[allow(
        deprecated,
        reason = "its successor is unsafe, for types whose descriptor may change; this one owns its own"
    )]
    fn register(&self, descriptor: &Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
        let _inside = self.0.enter();
        AsyncFd::with_interest(Arc::clone(descriptor), interest)
    }
}

impl TokioSource {
    /// Registers the descriptor again. What is ready by now is reported again.
    fn register(&mut self) -> io::Result<()> {
        // A descriptor is registered once at a time (`epoll_ctl(2)`, EEXIST).
        self.registered = None;
        self.registered = Some(self.reactor.register(&self.descriptor, self.interest)?);
        Ok(())
    }

    fn registered(&self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        self.registered.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Reactor for Tokio {
    type Source = TokioSource;
    type Timer = TokioTimer;

    fn current() -> Result<Self, Misuse> {
        Handle::try_current().map(Self).map_err(|_| Misuse::NoRuntime)
    }

    fn watch(&self, descriptor: &Arc<OwnedFd>) -> io::Result<TokioSource> {
        let (interest, descriptor) = (Interest::READABLE, Arc::clone(descriptor));
        let registered = Some(self.register(&descriptor, interest)?);
        Ok(TokioSource { reactor: self.clone(), descriptor, registered, interest, has_hung_up: false })
    }

    fn timer(&self) -> TokioTimer {
        let _inside = self.0.enter();
        TokioTimer { sleep: Box::pin(sleep_until(tokio::time::Instant::now())), is_set: false }
    }
}

impl Spawn for Tokio {
    fn spawn(driver: Driver<Self>) {
        tokio::spawn(driver);
    }
}

impl AsyncSource for TokioSource {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Readiness>> {
        if mem::take(&mut self.has_hung_up) {
            self.register()?;
        }
        let mut ready = ready!(self.registered()?.poll_read_ready(context))?;
        let has_hung_up = ready.ready().is_read_closed();
        ready.clear_ready();
        self.has_hung_up = has_hung_up;
        Poll::Ready(Ok(if has_hung_up { Readiness::HungUp } else { Readiness::Bytes }))
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.registered()?.poll_write_ready(context))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    fn set_write_interest(&mut self, wanted: bool) -> io::Result<()> {
        self.interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        self.register()
    }
}

impl AsyncTimer for TokioTimer {
    fn set(&mut self, at: Option<Instant>) {
        self.is_set = at.is_some();
        if let Some(at) = at {
            let reset = || self.sleep.as_mut().reset(at.into());
            self.is_set = catch_unwind(AssertUnwindSafe(reset)).is_ok();
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_set {
            return Poll::Pending;
        }
        // It panics while its runtime shuts down. The sources report that next, and end the machine.
        //
        // A task that has used up its turn would not register the timer (`tokio::task::coop`), hence unconstrained.
        let poll = || pin!(unconstrained(self.sleep.as_mut())).poll(context);
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or(Poll::Pending)
    }
}
