//! Reader of a log, which does not need the machine.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use qemu_machine_core::HostFault;

use crate::fault::fault;
use crate::log_bound::BoundedFile;

/// Reader of the standard output and error of a process, from the log that the process writes.
#[derive(Clone, Debug, Default)]
pub struct LogReader {
    /// `None` means that there is no log. The open log stays readable after its path was removed (`unlink(2)`).
    file: Option<Arc<File>>,
    /// `None` means that the log is not bounded.
    bounded: Option<Arc<BoundedFile>>,
}

impl LogReader {
    pub(crate) fn new(file: Arc<File>, bounded: Option<Arc<BoundedFile>>) -> Self {
        Self { file: Some(file), bounded }
    }

    /// Returns the last bytes of the log, at most `limit`. The result is empty without a process. It may block, for as
    /// long as the file system does not answer.
    ///
    /// # Errors
    ///
    /// [`HostFault`] when the log cannot be read.
    pub fn read(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let read = match &self.bounded {
            Some(bounded) => bounded.with_start(|start| read_tail(file, start, limit)),
            None => read_tail(file, 0, limit),
        };
        read.map_err(|error| fault("read the log".into(), &error))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.file.is_none()
    }
}

/// Returns the last bytes of a file from `start` on, at most `limit`.
fn read_tail(file: &File, start: u64, limit: usize) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    let wanted = length.saturating_sub(start).min(u64::try_from(limit).unwrap_or(u64::MAX));
    let mut tail = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
    file.read_exact_at(&mut tail, length - wanted)?;
    Ok(tail)
}
