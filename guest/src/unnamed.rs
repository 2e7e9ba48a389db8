//! Files without a name, in memory: QEMU opens them below `/proc`, and nothing is left of them however this program ends.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::failure::Failure;

/// Returns the path by which QEMU opens a file that has no name: through this process (`proc(5)`).
pub(crate) fn path_of(file: &impl AsFd) -> PathBuf {
    format!("/proc/{}/fd/{}", process::id(), file.as_fd().as_raw_fd()).into()
}

/// Returns a file without a name in memory, so that nothing is left of it however this program ends.
pub(crate) fn unnamed(name: &str, content: &[u8]) -> Result<File, Failure> {
    let file = memfd_create(name, MemfdFlags::CLOEXEC).map(File::from);
    let written = file.map_err(std::io::Error::from).and_then(|mut file| file.write_all(content).map(|()| file));
    written.map_err(|error| Failure::Host(format!("cannot write {name}: {error}").into()))
}
