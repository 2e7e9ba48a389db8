//! Exit status of a process that another part of the program reaped, from its pidfd (Linux 6.15 or later).
//!
//! `waitid(2)` reports a status once. The kernel also keeps it for each open pidfd, when it releases the process (Linux,
//! `fs/pidfs.c`, `pidfs_exit`), and the ioctl PIDFD_GET_INFO returns it. libc defines the ioctl only in versions that are
//! newer than the oldest one that this crate builds with.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use crate::clock::timespec;

/// How long a process that has ended may take until the kernel has released it. The thread that reaps it takes
/// microseconds, unless it does not get a processor.
const RELEASED_WITHIN: Duration = Duration::from_secs(1);

/// `struct pidfd_info` up to its first published size, PIDFD_INFO_SIZE_VER0 (`include/uapi/linux/pidfd.h`). A newer
/// kernel writes no more than this size, which the number of the ioctl contains (Linux, `fs/pidfs.c`, `pidfd_info`).
#[repr(C)]
#[derive(Debug, Default)]
struct PidfdInfo {
    /// The members that the caller wants, and then those that the kernel has written.
    mask: u64,
    cgroup: u64,
    /// `pid`, `tgid` and `ppid`.
    ids: [u32; 3],
    /// Real, effective, saved and file system ids, each of the user and of the group.
    credentials: [u32; 8],
    /// The status in the encoding of `wait(2)`. Versions before 6.15 have a spare member here.
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// PIDFD_INFO_EXIT (`include/uapi/linux/pidfd.h`).
const EXIT: u64 = 1 << 3;

/// PIDFD_GET_INFO (`include/uapi/linux/pidfd.h`).
const GET_INFO: Opcode = opcode::read_write::<PidfdInfo>(0xff, 11);

/// Returns the status, in the encoding of `wait(2)`, of a process that `waitid(2)` no longer reports. `None` means that
/// it runs, or that this version of the kernel keeps no status.
///
/// The kernel goes through three steps when another thread reaps the process, or when it ends while SIGCHLD is ignored:
///
/// 1. `waitid(2)` fails with ECHILD (Linux, `kernel/exit.c`, EXIT_DEAD in `wait_task_zombie` and `exit_notify`);
/// 2. the status is stored (`kernel/exit.c`, `release_task`);
/// 3. POLLHUP is reported for the pidfd (`__unhash_process`; `fs/pidfs.c`, `pidfd_poll`).
///
/// While SIGCHLD is ignored, POLLIN is reported before the second step, and in one of about 2,000 ends the status is not
/// stored yet (measured with Linux 6.18). So this waits for POLLHUP, for a second at most.
pub(super) fn wait_status(process: BorrowedFd<'_>) -> Option<i32> {
    match ask(process) {
        Ok(Some(status)) => return Some(status),
        // ESRCH: the process was released during the call (Linux, `fs/pidfs.c`, `pidfd_info`, which reads the ids last).
        Ok(None) | Err(Errno::SRCH) => {}
        Err(_) => return None,
    }
    let has_ended =
        retry_on_intr(|| poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timespec(Duration::ZERO))));
    if has_ended != Ok(1) {
        return None;
    }
    let until = Instant::now() + RELEASED_WITHIN;
    // POLLHUP is reported without a request (`poll(2)`). A signal may end the wait early.
    retry_on_intr(|| {
        let rest = timespec(until.saturating_duration_since(Instant::now()));
        poll(&mut [PollFd::new(&process, PollFlags::empty())], Some(&rest))
    })
    .ok()?;
    ask(process).ok().flatten()
}

/// Returns the status of a process that has ended, if the kernel keeps one for its pidfd by now.
pub(super) fn stored_status(process: BorrowedFd<'_>) -> Option<i32> {
    ask(process).ok().flatten()
}

/// Asks the kernel for the status. `None` means that it has none yet, and an error that it never has one: it does not
/// know the ioctl (`ioctl(2)`, ENOTTY; EINVAL before Linux 6.13), or it knows it and has reaped the process without a
/// status (ESRCH, before Linux 6.15).
#[allow(unsafe_code, reason = "no safe crate has this ioctl; see SAFETY")]
fn ask(process: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    let mut info = PidfdInfo { mask: EXIT, ..PidfdInfo::default() };
    // SAFETY: the number contains the size of the structure, and the kernel reads and writes at most that many bytes,
    // of which every bit pattern is valid. On a descriptor of another kind the number is unknown: its type 0xff is that
    // of pidfds alone (`Documentation/userspace-api/ioctl/ioctl-number.rst`).
    unsafe { ioctl(process, Updater::<GET_INFO, _>::new(&mut info))? };
    Ok((info.mask & EXIT != 0).then_some(info.exit_code))
}
