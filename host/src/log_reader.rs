//! Reader of a log, which does not need the machine.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use qemu_machine_core::HostFault;

use crate::fault::fault;
use crate::log_bound::BoundedFile;
use crate::log_pipe::LogTail;

/// Reader of the standard output and error of a process, from the log that the process writes, or from what was read of a
/// log that is [followed](qemu_machine_core::Config::follow_log).
#[derive(Clone, Debug, Default)]
pub struct LogReader(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    /// There is no log.
    #[default]
    None,
    /// The open log stays readable after its path was removed (`unlink(2)`).
    File {
        file: Arc<File>,
        /// `None` means that the log is not bounded.
        bounded: Option<Arc<BoundedFile>>,
    },
    Memory(Arc<LogTail>),
}

impl LogReader {
    pub(crate) fn new(file: Arc<File>, bounded: Option<Arc<BoundedFile>>) -> Self {
        Self(Source::File { file, bounded })
    }

    pub(crate) fn of(printed: &Arc<LogTail>) -> Self {
        Self(Source::Memory(Arc::clone(printed)))
    }

    /// Returns the last bytes of the log, at most `limit`. The result is empty without a process. Of a log that is
    /// followed, [`Limits::console`](qemu_machine_core::Limits::console) bytes are kept. It may block, for as long as the
    /// file system does not answer.
    ///
    /// # Errors
    ///
    /// [`HostFault`] when the log cannot be read.
    pub fn read(&self, limit: usize) -> Result<Vec<u8>, HostFault> {
        let read = match &self.0 {
            Source::None => return Ok(Vec::new()),
            Source::Memory(printed) => return Ok(printed.last(limit)),
            Source::File { file, bounded: Some(bounded) } => bounded.with_start(|start| read_tail(file, start, limit)),
            Source::File { file, bounded: None } => read_tail(file, 0, limit),
        };
        read.map_err(|error| fault("read the log".into(), &error))
    }

    /// Returns whether reading it may block.
    pub(crate) fn may_block(&self) -> bool {
        matches!(self.0, Source::File { .. })
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
