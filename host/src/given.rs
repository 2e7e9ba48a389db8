//! Decides how descriptors are held that come from outside, and that are lent.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use qemu_machine_core::{Descriptor, Misuse, Port};
use rustix::io::fcntl_dupfd_cloexec;

/// What a [`Descriptor`] is made of here.
#[derive(Debug)]
pub(crate) struct Given {
    descriptor: OwnedFd,
    loan: Option<Loan>,
}

/// As long as one of these lives, what it is for is lent.
pub(crate) type Loan = Arc<()>;

/// Our end of a port, and whether somebody has it.
#[derive(Debug)]
pub(crate) struct Lending {
    pub(crate) port: Port,
    pub(crate) ours: OwnedFd,
    loan: Weak<()>,
}

impl Given {
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor, loan: None }
    }

    /// What the core has carried. A driver of others may have put something else into it.
    pub(crate) fn of(descriptor: &Descriptor) -> io::Result<&Self> {
        descriptor.get().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// A descriptor of our own for it, under a number that no process needs for its standard streams.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        Ok(fcntl_dupfd_cloexec(&self.descriptor, 3)?)
    }

    pub(crate) fn loan(&self) -> Option<Loan> {
        self.loan.clone()
    }
}

impl AsFd for Given {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Lending {
    pub(crate) fn new(port: Port, ours: OwnedFd) -> Self {
        Self { port, ours, loan: Weak::new() }
    }

    pub(crate) fn lend(&mut self) -> Result<Given, Misuse> {
        if self.loan.strong_count() > 0 {
            return Err(Misuse::PortInUse(self.port));
        }
        let descriptor = self.ours.try_clone().map_err(|_| Misuse::NoPort(self.port))?;
        let loan = Loan::default();
        self.loan = Arc::downgrade(&loan);
        Ok(Given { descriptor, loan: Some(loan) })
    }
}

/// An open descriptor for a machine: a file, a socket, one end of a pipe. What it is made of is closed when nobody holds
/// it any more.
#[must_use]
pub fn descriptor(what: impl Into<OwnedFd>) -> Descriptor {
    Descriptor::new(Given::new(what.into()))
}
