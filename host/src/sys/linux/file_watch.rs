//! Watch of files on inotify, which reports writes of all processes on this host (`inotify(7)`, IN_MODIFY).

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::sys::{WatchFiles, Written};

/// How often the queue is read at most in one call. A process that writes all the time fills the queue as fast as it is
/// read, and the call would not return. One read gets 256 events.
const READS: usize = 16;

/// An inotify instance.
#[derive(Debug)]
pub(crate) struct FileWatch {
    inotify: OwnedFd,
}

impl WatchFiles for FileWatch {
    fn new() -> io::Result<Self> {
        Ok(Self { inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? })
    }

    fn add(&self, file: BorrowedFd<'_>) -> io::Result<i32> {
        // The link leads to the open file itself, also when it has no path, or another file has taken its path
        // (`proc_pid_fd(5)`).
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(inotify::add_watch(&self.inotify, link, WatchFlags::MODIFY)?)
    }

    fn remove(&self, key: i32) {
        // This fails only for a file that is not watched any more.
        let _ = inotify::remove_watch(&self.inotify, key);
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    fn written(&self) -> Written {
        let mut keys = BTreeSet::new();
        // An event without a name has 16 bytes, and the events of a file have no names (`inotify(7)`).
        let mut buffer = [MaybeUninit::uninit(); 256 * 16];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut reads = 0;
        loop {
            if reader.is_buffer_empty() {
                reads += 1;
                if reads > READS {
                    break;
                }
            }
            // The queue is empty (`inotify(7)`, EAGAIN). No other error is possible.
            let Ok(event) = reader.next() else { break };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                return Written::Any;
            }
            keys.insert(event.wd());
        }
        Written::Some(keys)
    }
}
