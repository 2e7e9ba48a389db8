//! Decides how descriptors are held that come from outside, and that are lent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use qemu_machine_core::{Descriptor, Misuse, Service};
use rustix::io::fcntl_dupfd_cloexec;

/// What a [`Descriptor`] is made of here.
#[derive(Debug)]
pub(crate) struct SharedFd {
    descriptor: OwnedFd,
    lease: Option<Lease>,
}

/// As long as one of these lives, what it is for is lent.
pub(crate) type Lease = Arc<()>;

/// Our end of a port, and whether somebody has it.
#[derive(Debug)]
pub(crate) struct ServiceLease {
    pub(crate) port: Service,
    pub(crate) local: OwnedFd,
    lease: Weak<()>,
}

impl SharedFd {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, lease: None }
    }

    /// What the core has carried. A driver of others may have put something else into it.
    pub(crate) fn of(descriptor: &Descriptor) -> io::Result<&Self> {
        descriptor.get().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// A descriptor of our own for it, under a number that no process needs for its standard streams.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        Ok(fcntl_dupfd_cloexec(&self.descriptor, 3)?)
    }

    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lease.clone()
    }
}

impl AsFd for SharedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl ServiceLease {
    pub(crate) fn new(port: Service, local: OwnedFd) -> Self {
        Self { port, local, lease: Weak::new() }
    }

    pub(crate) fn lend(&mut self) -> Result<SharedFd, Misuse> {
        if self.lease.strong_count() > 0 {
            return Err(Misuse::ServiceInUse(self.port));
        }
        let descriptor = self.local.try_clone().map_err(|_| Misuse::NoService(self.port))?;
        let lease = Lease::default();
        self.lease = Arc::downgrade(&lease);
        Ok(SharedFd { descriptor, lease: Some(lease) })
    }
}

/// An open descriptor for a machine: a file, a socket, one end of a pipe. What it is made of is closed when nobody holds
/// it any more.
#[must_use]
pub fn descriptor(what: impl Into<OwnedFd>) -> Descriptor {
    Descriptor::new(SharedFd::new(what.into()))
}
