//! File system that does not answer: an ext4 in a file, which is frozen (`ioctl_fifreeze(2)`). Each operation that changes
//! it blocks, in a state in which no signal interrupts it, as on a network file system whose server is gone.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

use crate::leak_check::Scratch;

/// A file system that can be frozen.
#[derive(Debug)]
pub struct Frozen {
    scratch: Scratch,
    is_frozen: bool,
}

fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    // The programs of root are not on every user's path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let failed = || format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(failed()) }
}

impl Frozen {
    /// Creates a file system, which answers. `None` means that this program may not mount one: it is not root, or is in a
    /// container.
    ///
    /// # Panics
    ///
    /// If that fails.
    #[must_use]
    pub fn create() -> Option<Self> {
        let scratch = Scratch::create();
        let image = scratch.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).unwrap();
        let mounted = scratch.path().join("mounted");
        std::fs::create_dir(&mounted).unwrap();
        run("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &image]).unwrap();
        if let Err(reason) = run("mount", &[Path::new("-o"), Path::new("loop"), &image, &mounted]) {
            eprintln!("NOT PROVEN: what a file system that does not answer delays; {reason}");
            return None;
        }
        Some(Self { scratch, is_frozen: false })
    }

    /// Returns its directory.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.scratch.path().join("mounted")
    }

    /// Lets it answer no more.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn freeze(&mut self) {
        run("fsfreeze", &[Path::new("--freeze"), &self.path()]).unwrap();
        self.is_frozen = true;
    }

    /// Lets it answer, and waits until a file or directory below its own directory is removed.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn thaw_until_removed(&mut self) {
        let watch = init(CreateFlags::CLOEXEC).unwrap();
        add_watch(&watch, self.path(), WatchFlags::DELETE).unwrap();
        self.thaw();
        let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
        Reader::new(&watch, &mut buffer).next().unwrap();
    }

    fn thaw(&mut self) {
        run("fsfreeze", &[Path::new("--unfreeze"), &self.path()]).unwrap();
        self.is_frozen = false;
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if self.is_frozen {
            self.thaw();
        }
        // Lazily, since a process that was blocked may still have a file open (`umount2(2)`, MNT_DETACH).
        run("umount", &[Path::new("--lazy"), &self.path()]).unwrap();
    }
}
