//! Descriptors that callers pass to a machine, and leases of the sockets that a machine lends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use qemu_machine_core::{Descriptor, Misuse, Service};

/// The content of a [`Descriptor`] on this host.
#[derive(Debug)]
pub(crate) struct SharedFd {
    descriptor: OwnedFd,
    lease: Option<Lease>,
}

/// Lease of a service, which is free again when the last clone is dropped.
pub(crate) type Lease = Arc<()>;

/// The local end of a service, and whether a client uses it.
#[derive(Debug)]
pub(crate) struct ServiceLease {
    pub(crate) service: Service,
    local: OwnedFd,
    lease: Weak<()>,
}

impl SharedFd {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, lease: None }
    }

    /// Returns the content of a descriptor. Fails when a driver of another crate put other content into it.
    pub(crate) fn of(descriptor: &Descriptor) -> io::Result<&Self> {
        descriptor.get().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Duplicates the descriptor. The copy shares the open file description, and so flags like O_NONBLOCK.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        self.descriptor.try_clone()
    }

    /// Duplicates the content of a descriptor, if there is one.
    pub(crate) fn copy_of(descriptor: Option<&Descriptor>) -> io::Result<Option<OwnedFd>> {
        descriptor.map(|descriptor| Self::of(descriptor)?.copy()).transpose()
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
    pub(crate) fn new(service: Service, local: OwnedFd) -> Self {
        Self { service, local, lease: Weak::new() }
    }

    /// Lends the service to one client at a time. Fails with [`Misuse::ServiceInUse`] while a client has it, and with
    /// [`Misuse::NoService`] when its descriptor cannot be duplicated.
    pub(crate) fn lend(&mut self) -> Result<SharedFd, Misuse> {
        if self.lease.strong_count() > 0 {
            return Err(Misuse::ServiceInUse(self.service));
        }
        let descriptor = self.local.try_clone().map_err(|_| Misuse::NoService(self.service))?;
        let lease = Lease::default();
        self.lease = Arc::downgrade(&lease);
        Ok(SharedFd { descriptor, lease: Some(lease) })
    }

    /// Gives the service away.
    pub(crate) fn give(self) -> SharedFd {
        SharedFd::new(self.local)
    }
}

/// Creates a [`Descriptor`] from an open descriptor: a file, a socket, one end of a pipe. It is closed when the last
/// clone is dropped.
#[must_use]
pub fn descriptor(fd: impl Into<OwnedFd>) -> Descriptor {
    Descriptor::new(SharedFd::new(fd.into()))
}
