//! A file that other processes append to, and that a test watches without the library.

use std::fs::{File, Metadata};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// An open file, and an inotify instance that reports writes to it, and each close of a writer.
#[derive(Debug)]
pub struct Appended {
    inotify: OwnedFd,
    file: File,
}

impl Appended {
    /// Opens a file that exists, or a directory, whose files are watched. `/proc/PID/fd/2` is the log of a process, which
    /// may have no other path.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC).expect("there are inotify instances left");
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        inotify::add_watch(&inotify, path, WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE)
            .expect("a file can be watched");
        Self { inotify, file }
    }

    /// Blocks until the file has changed in such a way that the check succeeds. Call it in a test with a deadline.
    ///
    /// # Panics
    ///
    /// If the file cannot be read.
    pub fn wait_until(&self, mut check: impl FnMut(&Metadata) -> bool) {
        while !check(&self.file.metadata().expect("an open file has metadata")) {
            self.wait();
        }
    }

    /// Blocks until an open file description of a writer is closed, by the last process that has it. Call it in a test with
    /// a deadline.
    pub fn wait_until_closed(&self) {
        while !self.wait().contains(ReadFlags::CLOSE_WRITE) {}
    }

    /// Blocks until something was reported, and returns what.
    fn wait(&self) -> ReadFlags {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut all = ReadFlags::empty();
        loop {
            all |= reader.next().expect("the inotify instance can be read").events();
            if reader.is_buffer_empty() {
                return all;
            }
        }
    }
}
