//! Bound of log files: removal of the head of a file that QEMU appends to, when the file is larger than its limit.
//!
//! QEMU writes to the file itself, so no reader can block it. One inotify instance reports writes to all files of this
//! program. File systems may block for ever, so the work is done on a thread of its own, the supervisor `qemu-log`,
//! which starts with the first bound. While nothing is written, that thread sleeps without a timer. After a
//! notification it waits for 10 milliseconds before it reads the queue, and so looks at the files 100 times a second at
//! most.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock, Mutex};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::home::{Home, Local};
use crate::lock::lock;
use crate::supervisor::{Next, Supervised, Supervisor, Wake};
use crate::sys::{Head, Os, Source, System, WatchFiles, Written};

type FileWatch = <Os as System>::FileWatch;

/// A file with a limit, to which other processes append.
#[derive(Debug)]
pub(crate) struct BoundedFile {
    file: Arc<File>,
    /// In bytes.
    limit: u64,
    /// The offset of the content: the bytes before it are zeros, and take no space. The lock is held while the head is
    /// removed, so that no thread of this program reads a file that changes.
    start: Mutex<u64>,
}

impl BoundedFile {
    /// Returns a file that is empty.
    pub(crate) fn new(file: Arc<File>, limit: u64) -> Arc<Self> {
        Self::from(file, limit, 0)
    }

    /// Returns a file whose content begins at this offset.
    pub(crate) fn from(file: Arc<File>, limit: u64, start: u64) -> Arc<Self> {
        Arc::new(Self { file, limit, start: Mutex::new(start) })
    }

    /// Removes the head, down to half of the limit, if the file is larger than the limit.
    ///
    /// # Errors
    ///
    /// When the file system cannot remove it.
    pub(crate) fn apply(&self) -> io::Result<()> {
        let mut start = lock(&self.start);
        // A program that has left the machine may bound the same file: two would remove the same length twice.
        let Some(_turn) = Turn::take(&self.file) else { return Ok(()) };
        let length = self.file.metadata()?.len();
        // Another program may have emptied the file.
        *start = (*start).min(length);
        if length - *start <= self.limit {
            return Ok(());
        }
        *start = match Os::remove_head(self.file.as_fd(), length - self.limit / 2)? {
            // Only whole blocks are cut, so earlier zeros may be left.
            Head::Cut(length) => start.saturating_sub(length),
            Head::Zeroed(end) => end,
        };
        Ok(())
    }

    /// Calls a closure with the offset of the content, while the head is not removed.
    pub(crate) fn with_start<T>(&self, read: impl FnOnce(u64) -> T) -> T {
        read(*lock(&self.start))
    }
}

/// Lock of a file (`flock(2)`), held while its head is removed.
struct Turn<'a>(&'a File);

impl<'a> Turn<'a> {
    /// Returns `None` while another program has it. A file system without locks gives each its turn.
    fn take(file: &'a File) -> Option<Self> {
        let locked = flock(file, FlockOperation::NonBlockingLockExclusive);
        (locked != Err(Errno::WOULDBLOCK)).then_some(Self(file))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The process shares the descriptor, so the end of this program would not unlock it.
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

/// Bound of one file. Dropping it ends the bound, without waiting for a file system: the thread applies it once more.
#[derive(Debug)]
pub(crate) struct LogBound {
    home: Home,
    file: Arc<BoundedFile>,
    watcher: Arc<LogWatcher>,
    key: Key,
}

impl LogBound {
    /// Begins to bound a file.
    ///
    /// # Errors
    ///
    /// When the thread or its descriptors cannot be created, or the file cannot be watched.
    pub(crate) fn new(file: &Arc<BoundedFile>) -> io::Result<Self> {
        let watcher = LogWatcher::get()?;
        let key = watcher.add(file)?;
        Ok(Self { home: Home::here(), file: Arc::clone(file), watcher, key })
    }

    /// Removes the head of the file, if the file is larger than its limit. It may block.
    ///
    /// # Errors
    ///
    /// When the file system cannot remove it.
    pub(crate) fn apply(&self) -> io::Result<()> {
        self.file.apply()
    }
}

impl Drop for LogBound {
    fn drop(&mut self) {
        // A child of `fork(2)` has no such thread, and another thread of its parent may have held the lock of the inbox.
        if self.home.is_here() {
            let (watcher, key, file) = (Arc::clone(&self.watcher), self.key, Arc::clone(&self.file));
            // What was written last may not have been noticed yet. Closing the last descriptor of a file may block
            // (`close(2)`).
            self.watcher.supervisor.run_later(move || {
                let _ = file.apply();
                drop(file);
                watcher.remove(key);
            });
        }
    }
}

/// The key of the watch, and a number: two consoles may have the same file.
type Key = (i32, u64);

/// The bounded files of this program.
#[derive(Debug)]
struct LogWatcher {
    supervisor: Arc<Supervisor>,
    files: FileWatch,
    bounded: Mutex<Bounded>,
}

#[derive(Debug, Default)]
struct Bounded {
    files: BTreeMap<Key, Arc<BoundedFile>>,
    next: u64,
}

impl Bounded {
    fn watched_by(&self, key: i32) -> impl Iterator<Item = &Arc<BoundedFile>> {
        self.files.range((key, 0)..=(key, u64::MAX)).map(|(_, file)| file)
    }
}

impl LogWatcher {
    /// Returns the watcher of this process, and starts its thread at the first call.
    fn get() -> io::Result<Arc<Self>> {
        static WATCHER: LazyLock<Local<Option<Arc<LogWatcher>>>> = LazyLock::new(|| Local::new(None, || None));
        let mut known = WATCHER.lock();
        if let Some(watcher) = known.as_ref() {
            return Ok(Arc::clone(watcher));
        }
        let watcher = Self::new()?;
        *known = Some(Arc::clone(&watcher));
        Ok(watcher)
    }

    fn new() -> io::Result<Arc<Self>> {
        let (files, bounded) = (FileWatch::new()?, Mutex::default());
        let watcher = Arc::new(Self { supervisor: Supervisor::start("qemu-log")?, files, bounded });
        let token = watcher.supervisor.supervise(Arc::clone(&watcher) as Arc<dyn Supervised>)?;
        watcher.supervisor.arm(token, watcher.source());
        Ok(watcher)
    }

    /// Begins to watch a file. No lock is held meanwhile: the kernel checks the permission to read, for which a network
    /// file system may ask its server, and other launches would wait as well.
    fn add(&self, file: &Arc<BoundedFile>) -> io::Result<Key> {
        let mut watch = self.files.add(file.file.as_fd())?;
        loop {
            let key = self.insert(watch, file);
            // The thread may have stopped this watch for another bound of the same file. From now on it does not.
            let again = self.files.add(file.file.as_fd()).inspect_err(|_| self.remove(key))?;
            if again == watch {
                return Ok(key);
            }
            self.remove(key);
            watch = again;
        }
    }

    fn insert(&self, watch: i32, file: &Arc<BoundedFile>) -> Key {
        let mut bounded = lock(&self.bounded);
        let key = (watch, bounded.next);
        bounded.next += 1;
        bounded.files.insert(key, Arc::clone(file));
        key
    }

    fn remove(&self, key: Key) {
        let mut bounded = lock(&self.bounded);
        let file = bounded.files.remove(&key);
        if bounded.watched_by(key.0).next().is_none() {
            self.files.remove(key.0);
        }
        drop(bounded);
        drop(file);
    }

    fn written(&self) -> Vec<Arc<BoundedFile>> {
        let written = self.files.written();
        let bounded = lock(&self.bounded);
        match written {
            Written::Some(keys) => keys.into_iter().flat_map(|key| bounded.watched_by(key).cloned()).collect(),
            Written::Any => bounded.files.values().cloned().collect(),
        }
    }
}

impl Supervised for LogWatcher {
    fn source(&self) -> Source<'_> {
        Source::Descriptor(self.files.descriptor())
    }

    fn turn(&self, wake: Wake) -> Next {
        match wake {
            Wake::Ready => Next::Lease,
            Wake::Lease => {
                for file in self.written() {
                    // A failure may pass, such as that of a full disk, and the next write is a new attempt.
                    let _ = file.apply();
                }
                Next::Watch(None)
            }
        }
    }
}

/// On any other host, no log is bounded.
#[cfg(test)]
#[cfg(all(target_os = "linux", not(qemu_machine_portable)))]
mod tests {
    use std::fmt::Write as _;
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::OFlags;

    use super::*;
    use crate::clock::timespec;

    const LIMIT: u64 = 256 * 1024;

    /// Longer than a removal ever takes.
    const LONG: Duration = Duration::from_secs(60);

    /// Returns directories on file systems that shorten a file, mostly, and that make a hole in it.
    fn directories() -> [PathBuf; 2] {
        [std::env::temp_dir(), PathBuf::from("/dev/shm")]
    }

    /// Returns an open file without a path.
    fn unnamed(directory: &Path) -> Arc<File> {
        let flags = i32::try_from(OFlags::TMPFILE.bits()).unwrap();
        Arc::new(OpenOptions::new().read(true).append(true).custom_flags(flags).open(directory).unwrap())
    }

    /// Waits until a file is within its limit. The removal of a head is itself a write that is reported.
    fn wait(file: &BoundedFile) {
        let watch = FileWatch::new().unwrap();
        watch.add(file.file.as_fd()).unwrap();
        while content(file).len() > usize::try_from(file.limit).unwrap() {
            let ready = poll(&mut [PollFd::new(&watch.descriptor(), PollFlags::IN)], Some(&timespec(LONG))).unwrap();
            assert_eq!(ready, 1, "the file is not bounded");
            watch.written();
        }
    }

    fn content(file: &BoundedFile) -> Vec<u8> {
        file.with_start(|start| {
            let mut content = vec![0; usize::try_from(file.file.metadata().unwrap().len() - start).unwrap()];
            file.file.read_exact_at(&mut content, start).unwrap();
            content
        })
    }

    /// Asserts that a file has the end of a text, at least half of its limit, and no more disk space than its limit.
    fn has_end_of(file: &BoundedFile, text: &[u8]) {
        let content = content(file);
        assert!(text.ends_with(&content), "{:?}", String::from_utf8_lossy(&content[..100]));
        let length = u64::try_from(content.len()).unwrap();
        assert!((file.limit / 2..=file.limit).contains(&length), "{length}");
        // In blocks of 512 bytes (`stat(3type)`), and some for the metadata of the file.
        let used = file.file.metadata().unwrap().blocks() * 512;
        assert!(used <= file.limit + 64 * 1024, "{used}");
    }

    #[test]
    fn a_file_is_bounded_while_a_child_appends_to_it() {
        const LINES: u32 = 1_000_000;
        let mut text = String::new();
        (1..=LINES).for_each(|line| writeln!(text, "{line}").unwrap());
        for directory in directories() {
            let file = BoundedFile::new(unnamed(&directory), LIMIT);
            let _bound = LogBound::new(&file).unwrap();
            let output = Stdio::from(file.file.try_clone().unwrap());
            let child = Command::new("seq").arg(LINES.to_string()).stdout(output).status().unwrap();
            assert!(child.success());
            wait(&file);
            has_end_of(&file, text.as_bytes());
        }
    }

    #[test]
    fn each_write_beyond_the_limit_removes_the_head_again() {
        for directory in directories() {
            let file = BoundedFile::new(unnamed(&directory), LIMIT);
            let _bound = LogBound::new(&file).unwrap();
            let mut text = String::new();
            for round in 0..20 {
                let from = text.len();
                (0..50_000).for_each(|line| writeln!(text, "{round} {line}").unwrap());
                (&*file.file).write_all(&text.as_bytes()[from..]).unwrap();
                wait(&file);
                has_end_of(&file, text.as_bytes());
            }
        }
    }

    #[test]
    fn a_file_within_its_limit_stays_as_it_is() {
        let file = BoundedFile::new(unnamed(&std::env::temp_dir()), LIMIT);
        (&*file.file).write_all(&vec![b'x'; usize::try_from(LIMIT).unwrap()]).unwrap();
        file.apply().unwrap();
        assert_eq!(file.file.metadata().unwrap().len(), LIMIT);
    }

    /// The program that empties a log with a hole does not hide what is written after that.
    #[test]
    fn a_file_that_another_program_empties_is_read_from_its_begin() {
        let file = BoundedFile::new(unnamed(Path::new("/dev/shm")), LIMIT);
        (&*file.file).write_all(&vec![b'x'; usize::try_from(LIMIT).unwrap() + 1]).unwrap();
        file.apply().unwrap();
        assert!(file.with_start(|start| start) > 0);
        file.file.set_len(0).unwrap();
        file.apply().unwrap();
        (&*file.file).write_all(b"new").unwrap();
        assert_eq!(content(&file), b"new");
    }

    /// Between writes there is neither a deadline nor a lease, and after one there is one lease.
    #[test]
    fn an_idle_watcher_has_no_timer() {
        let watcher = LogWatcher::new().unwrap();
        assert_eq!(watcher.turn(Wake::Ready), Next::Lease);
        assert_eq!(watcher.turn(Wake::Lease), Next::Watch(None));
    }

    /// Returns how often the inotify instance watches a file (`proc_pid_fdinfo(5)`), after all bounds that were dropped have
    /// ended.
    fn watches(watcher: &LogWatcher, file: &BoundedFile) -> usize {
        watcher.supervisor.run(|| ()).unwrap();
        let watch = fs::read_to_string(format!("/proc/self/fdinfo/{}", watcher.files.descriptor().as_raw_fd()));
        let inode = format!(" ino:{:x} ", file.file.metadata().unwrap().ino());
        watch.unwrap().lines().filter(|line| line.contains(&inode)).count()
    }

    #[test]
    fn two_bounds_of_one_file_end_with_the_last_one() {
        let file = unnamed(&std::env::temp_dir());
        let (first, second) = (BoundedFile::new(Arc::clone(&file), LIMIT), BoundedFile::new(file, LIMIT));
        let (one, other) = (LogBound::new(&first).unwrap(), LogBound::new(&second).unwrap());
        let watcher = LogWatcher::get().unwrap();
        assert_eq!(watches(&watcher, &first), 1);
        drop(one);
        assert_eq!((watches(&watcher, &first), Arc::strong_count(&first)), (1, 1));
        (&*second.file).write_all(&vec![b'x'; usize::try_from(LIMIT).unwrap() + 1]).unwrap();
        wait(&second);
        drop(other);
        assert_eq!((watches(&watcher, &second), Arc::strong_count(&second)), (0, 1));
    }
}
