//! Decides how the core carries an open descriptor without knowing what one is.

use alloc::sync::Arc;
use core::any::Any;
use core::fmt;

/// An open descriptor, as whoever drives the machine has it: a file, a socket, one end of a pipe.
///
/// The core hands it on and never looks into it. The runtimes of this project take an `OwnedFd` in it, and have a
/// function `descriptor` that makes one from a file or a socket. Clones are the same descriptor; it is closed when
/// nobody holds it any more.
///
/// ```
/// use qemu_machine_core::Descriptor;
///
/// // A driver that has no operating system below it can carry what it likes.
/// let descriptor = Descriptor::new(17_u32);
/// assert_eq!(descriptor.get::<u32>(), Some(&17));
/// ```
#[derive(Clone)]
pub struct Descriptor(Arc<dyn Any + Send + Sync>);

impl Descriptor {
    /// Wraps what the driver knows as a descriptor.
    #[must_use]
    pub fn new<T: Any + Send + Sync>(what: T) -> Self {
        Self(Arc::new(what))
    }

    /// What it was made of, if it was made of this type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// Equal are only clones of each other.
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
