//! Descriptor of the operating system, opaque to the core.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

/// An open descriptor in the form that the driver uses: a file, a socket, one end of a pipe.
///
/// The core passes it on and never uses it. The runtimes of this project store an `OwnedFd` in it, and their function
/// `descriptor` makes one from a file or a socket. Clones share one descriptor. It is closed when the last clone is
/// dropped.
///
/// QEMU 7.2 clears `O_NONBLOCK` on descriptors that it receives (QEMU, `chardev/char-socket.c`, `tcp_chr_recv`), which
/// affects everyone who shares the open file description.
///
/// ```
/// use qemu_machine_core::Descriptor;
///
/// // A driver without an operating system can store any value.
/// let descriptor = Descriptor::new(17_u32);
/// assert_eq!(descriptor.get::<u32>(), Some(&17));
/// ```
#[derive(Clone)]
pub struct Descriptor(Arc<dyn Any + Send + Sync>);

impl Descriptor {
    /// Wraps a value that the driver uses as a descriptor.
    #[must_use]
    pub fn new<T: Any + Send + Sync>(what: T) -> Self {
        Self(Arc::new(what))
    }

    /// Returns the wrapped value. `None` means that it has another type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// Two descriptors are equal when they are clones of each other.
impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Descriptor {}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Descriptor")
    }
}
