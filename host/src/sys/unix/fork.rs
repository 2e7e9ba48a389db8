//! Creation of child processes by `fork(2)`, and the calls that a child makes until it executes its program.
//!
//! The other threads of the program do not exist in the child, and may have held any lock. So the child calls only functions
//! that are safe in a signal handler (POSIX, `fork(2)`; `signal-safety(7)`).

use std::ffi::{CString, c_int};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, dup2};
use rustix::process::{Gid, Pid, Resource, Uid, getrlimit};

use crate::sys::attributes::Strings;

/// The descriptors up to this number, or up to the limit of open ones if that is lower, are closed in a child.
const MOST_DESCRIPTORS: u64 = 1 << 16;

/// Function that a child process runs.
///
/// # Safety
///
/// `run` must not allocate, take a lock or panic.
#[allow(unsafe_code, reason = "what a child may do cannot be checked; see Safety")]
pub(super) unsafe trait Child {
    /// Runs in the child, and returns its exit status. The exit handlers of this program are not called.
    fn run(&mut self) -> c_int;
}

/// Creates a child, and returns its id. All signals are blocked in the child: a handler of the program must not run there.
#[allow(unsafe_code, reason = "`fork(2)` has no safe form; see SAFETY")]
pub(super) fn fork(child: &mut impl Child) -> io::Result<Pid> {
    // SAFETY: the signal sets are filled by libc before they are read. The child runs only what `Child` permits, and ends
    // without a return to the caller.
    let (pid, error) = unsafe {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let pid = libc::fork();
        if pid == 0 {
            let status = child.run();
            libc::_exit(status);
        }
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        (pid, error)
    };
    // A negative number is no id, and `from_raw` panics for it.
    Pid::from_raw(pid.max(0)).ok_or(error)
}

/// Executes a program, and returns why that failed (`execve(2)`).
#[allow(unsafe_code, reason = "execve has no safe form; see SAFETY")]
pub(super) fn execute(program: &CString, arguments: &Strings, environment: &Strings) -> Errno {
    // SAFETY: the path is a C string, and both lists end with a null pointer. The call reads them, and returns only when
    // it failed.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Resets the handlers of all signals, and then unblocks all. A process begins with the signal mask of its parent
/// (`execve(2)`), and Rust programs ignore SIGPIPE, which QEMU does not expect.
#[allow(unsafe_code, reason = "signal handlers have no safe interface; see SAFETY")]
pub(super) fn reset_signals() {
    /// Larger than the number of any signal.
    const MOST: c_int = 128;
    // For SIGABRT glibc takes a lock (glibc 2.41, `sysdeps/nptl/`, `__abort_lock_wrlock`); `execve(2)` resets its handler.
    for number in (1..MOST).filter(|number| *number != libc::SIGABRT) {
        // SAFETY: the action is filled by libc before it is read; where there is no such signal, or it cannot be caught, the
        // first call or the second fails. Handlers of the child are its own.
        unsafe {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            if libc::sigaction(number, ptr::null(), action.as_mut_ptr()) != 0 {
                continue;
            }
            let mut action = action.assume_init();
            if action.sa_sigaction != libc::SIG_IGN || number == libc::SIGPIPE {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(number, &raw const action, ptr::null_mut());
            }
        }
    }
    // SAFETY: the set is filled by libc before it is read.
    unsafe {
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Sets the groups first: without the privileges of the old user that is not permitted (`setgroups(2)`).
#[allow(unsafe_code, reason = "no safe crate sets the ids of a process without other threads; see SAFETY")]
pub(super) fn set_credentials(groups: Option<&[Gid]>, gid: Option<Gid>, uid: Option<Uid>) -> rustix::io::Result<()> {
    let checked = |result: c_int| match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::PERM)),
    };
    // SAFETY: the pointer leads to as many ids as the length says: `Gid` is transparent. The child has one thread, so that
    // libc has no others to change.
    unsafe {
        if let Some(groups) = groups {
            checked(libc::setgroups(groups.len() as _, groups.as_ptr().cast()))?;
        }
        if let Some(gid) = gid {
            checked(libc::setgid(gid.as_raw()))?;
        }
        if let Some(uid) = uid {
            checked(libc::setuid(uid.as_raw()))?;
        }
    }
    Ok(())
}

/// Borrows a descriptor of the child by its number.
#[allow(unsafe_code, reason = "the descriptors of the child are known by their numbers alone; see SAFETY")]
pub(super) fn borrowed(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the child has one thread and its own table of descriptors. It closes only those that it does not use.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Makes a number refer to what another descriptor of the child refers to. It is not closed at exec.
#[allow(unsafe_code, reason = "the descriptors of the child are known by their numbers alone; see SAFETY")]
pub(super) fn replace(source: impl AsFd, target: RawFd) -> rustix::io::Result<()> {
    // SAFETY: it is not dropped, so that it closes nothing. `dup2` accepts a number that is not open.
    let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(target) });
    dup2(source, &mut target)
}

/// Closes all descriptors from this number on.
#[allow(unsafe_code, reason = "the descriptors of a child are known by their numbers alone; see SAFETY")]
pub(super) fn close_from(first: RawFd) {
    for number in open_numbers(first) {
        // SAFETY: the child has one thread and its own table of descriptors, and uses none of these. A number that is not
        // open is an error, which does not matter.
        unsafe { libc::close(number) };
    }
}

/// Returns the numbers from this one on that a descriptor may have.
pub(super) fn open_numbers(first: RawFd) -> std::ops::Range<RawFd> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS);
    first..RawFd::try_from(limit).unwrap_or(RawFd::MAX)
}
