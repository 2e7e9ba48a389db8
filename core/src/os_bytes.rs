//! Bytes of the operating system: arguments, paths and variables, given as text, as a path or as bytes.

use alloc::borrow::{Cow, ToOwned};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Argument, path or variable of a process: a text, a path or bytes, owned or borrowed, as for
/// `std::process::Command`.
///
/// A text has its UTF-8. A path has the bytes that the operating system knows it by, whether or not they are UTF-8:
/// nothing is converted. `OsStr`, `OsString`, `Path` and `PathBuf` need the feature `std`, which is on in every runtime.
///
/// ```
/// use qemu_machine_core::Config;
///
/// let disks = vec![String::from("-hda"), String::from("disk.img")];
/// let config = Config::new("qemu-system-x86_64").args(&disks).args(["-m", "64"]).arg(b"-no-reboot");
/// assert_eq!(config.arguments()[1], b"disk.img");
/// ```
pub trait OsBytes {
    /// Returns the bytes, without a NUL byte at their end.
    fn as_os_bytes(&self) -> &[u8];
}

impl OsBytes for [u8] {
    fn as_os_bytes(&self) -> &[u8] {
        self
    }
}

impl<const N: usize> OsBytes for [u8; N] {
    fn as_os_bytes(&self) -> &[u8] {
        self
    }
}

impl OsBytes for Vec<u8> {
    fn as_os_bytes(&self) -> &[u8] {
        self
    }
}

impl OsBytes for str {
    fn as_os_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl OsBytes for String {
    fn as_os_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<T: OsBytes + ?Sized> OsBytes for &T {
    fn as_os_bytes(&self) -> &[u8] {
        (**self).as_os_bytes()
    }
}

impl<T: OsBytes + ?Sized> OsBytes for Box<T> {
    fn as_os_bytes(&self) -> &[u8] {
        (**self).as_os_bytes()
    }
}

impl<T: OsBytes + ToOwned + ?Sized> OsBytes for Cow<'_, T> {
    fn as_os_bytes(&self) -> &[u8] {
        (**self).as_os_bytes()
    }
}

/// The types of `std`, whose bytes are those of the operating system where it takes bytes (`OsStr::as_encoded_bytes`).
#[cfg(feature = "std")]
mod of_std {
    use std::ffi::{OsStr, OsString};
    use std::path::{Path, PathBuf};

    use super::OsBytes;

    impl OsBytes for OsStr {
        fn as_os_bytes(&self) -> &[u8] {
            self.as_encoded_bytes()
        }
    }

    impl OsBytes for OsString {
        fn as_os_bytes(&self) -> &[u8] {
            self.as_encoded_bytes()
        }
    }

    impl OsBytes for Path {
        fn as_os_bytes(&self) -> &[u8] {
            self.as_os_str().as_encoded_bytes()
        }
    }

    impl OsBytes for PathBuf {
        fn as_os_bytes(&self) -> &[u8] {
            self.as_os_str().as_encoded_bytes()
        }
    }
}
