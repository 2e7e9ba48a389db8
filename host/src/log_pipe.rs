//! Log of a process that is followed: the pipe to which the process prints, and the end of what it has printed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use qemu_machine_core::Channel;

use crate::lock::lock;
use crate::sys::{Os, System};

/// The log of a process that prints to a pipe.
#[derive(Debug)]
pub(crate) struct LogPipe {
    pub(crate) channel: Channel,
    /// The end for the process, until that is started.
    pub(crate) inherited: Option<OwnedFd>,
    pub(crate) printed: Arc<LogTail>,
}

impl LogPipe {
    /// Creates the pipe, and returns the end to read as well. It does not block; the other one blocks, as programs expect of
    /// their standard streams.
    pub(crate) fn new(channel: Channel) -> io::Result<(Self, OwnedFd)> {
        let (local, inherited) = Os::pipe()?;
        rustix::io::ioctl_fionbio(&local, true)?;
        Ok((Self { channel, inherited: Some(inherited), printed: Arc::default() }, local))
    }
}

/// The end of what a process has printed.
#[derive(Debug, Default)]
pub(crate) struct LogTail(Mutex<VecDeque<u8>>);

impl LogTail {
    /// Adds output, and keeps `limit` bytes at most.
    pub(crate) fn push(&self, output: &[u8], limit: usize) {
        let output = &output[output.len().saturating_sub(limit)..];
        let mut kept = lock(&self.0);
        let surplus = (kept.len() + output.len()).saturating_sub(limit).min(kept.len());
        kept.drain(..surplus);
        kept.extend(output);
    }

    /// Returns the last bytes, at most `limit`.
    pub(crate) fn last(&self, limit: usize) -> Vec<u8> {
        let kept = lock(&self.0);
        kept.range(kept.len().saturating_sub(limit)..).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_output_stays() {
        let tail = LogTail::default();
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (pieces, limit) in [(1, 10), (7, 10), (10, 10), (11, 10), (1000, 10), (3, 0), (300, 2000)] {
            let tail = LogTail::default();
            all.chunks(pieces).for_each(|piece| tail.push(piece, limit));
            let kept = tail.last(usize::MAX);
            assert_eq!(kept, all[all.len() - limit.min(all.len())..], "{pieces} {limit}");
            assert_eq!(tail.last(3), kept[kept.len().saturating_sub(3)..]);
        }
        assert_eq!(tail.last(9), b"");
    }
}
