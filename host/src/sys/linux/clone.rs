//! Creation of child processes on Linux by `clone(2)`: each runs on a stack of its own, in the memory of this program or
//! in a copy of it.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use rustix::process::Pid;

/// Size of the stack of a child. Its frames take a few kilobytes, most of them for the list of open descriptors.
const STACK: usize = 32 << 10;

/// Function that a child process runs.
///
/// # Safety
///
/// Another thread may have held any lock when the child was created (`fork(2)`), and the child may share the memory of
/// this program. So `run` must not allocate, take a lock or panic. If the memory is shared, it must write nothing but
/// itself and its stack, and so make no call of libc that can fail: such a call writes `errno`, which would be that of
/// the parent's thread.
#[allow(unsafe_code, reason = "what a child may do cannot be checked; see Safety")]
pub(super) unsafe trait Child {
    /// Runs in the child, and returns its exit status. The exit handlers of this program are not called (`clone(2)`).
    fn run(&mut self) -> c_int;
}

/// The memory of a child. It leaks when it is dropped, since a child that is never heard of again may use it for ever.
pub(super) struct Memory<C> {
    child: *mut C,
    stack: *mut [MaybeUninit<Frame>],
}

/// A unit of the stack, which is aligned to 16 bytes (System V ABI; AAPCS64; RISC-V calling convention).
#[repr(align(16))]
#[derive(Clone, Copy)]
pub(super) struct Frame {
    _bytes: [u8; 16],
}

// SAFETY: the pointers own their memory, like boxes, and no thread of this program uses it until it is freed.
#[allow(unsafe_code, reason = "raw pointers are not Send by themselves; see SAFETY")]
unsafe impl<C: Send> Send for Memory<C> {}

impl<C> std::fmt::Debug for Memory<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

impl<C> Memory<C> {
    fn new(child: C) -> Self {
        let stack = vec![MaybeUninit::<Frame>::uninit(); STACK / size_of::<Frame>()].into_boxed_slice();
        Self { child: Box::into_raw(Box::new(child)), stack: Box::into_raw(stack) }
    }

    /// Frees the memory, which no child uses any more.
    #[allow(unsafe_code, reason = "the memory is behind raw pointers while the child uses it; see SAFETY")]
    pub(super) fn free(self) {
        // SAFETY: both pointers come from `Box::into_raw` in `new`, and are freed once, since `self` is consumed.
        unsafe {
            drop(Box::from_raw(self.child));
            drop(Box::from_raw(self.stack));
        }
    }
}

/// Creates a child, and returns its id, its pidfd and its memory. All signals are blocked in the child: a handler of the
/// program must not run there. `shares` is whether the child shares the memory of this program instead of a copy.
#[allow(unsafe_code, reason = "`clone(2)` has no safe form; see SAFETY")]
pub(super) fn clone<C: Child>(child: C, shares: bool) -> io::Result<(Pid, OwnedFd, Memory<C>)> {
    let memory = Memory::new(child);
    let flags = libc::SIGCHLD | libc::CLONE_PIDFD | if shares { libc::CLONE_VM } else { 0 };
    let mut pidfd: c_int = -1;
    // SAFETY: the signal sets are filled by libc before they are read. The stack grows downwards from the end of the
    // slice. Stack and child stay allocated until `free`, and this program does not access them meanwhile. CLONE_PIDFD
    // makes the kernel write one `c_int` to `pidfd` before `clone` returns.
    let (pid, error) = unsafe {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let top = memory.stack.cast::<MaybeUninit<Frame>>().add(memory.stack.len());
        let pid = libc::clone(enter::<C>, top.cast(), flags, memory.child.cast(), ptr::from_mut(&mut pidfd));
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        (pid, error)
    };
    // A negative number is no id, and `from_raw` panics for it.
    let Some(pid) = Pid::from_raw(pid.max(0)) else {
        memory.free();
        return Err(error);
    };
    // SAFETY: the kernel opened it for this call.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }, memory))
}

#[allow(unsafe_code, reason = "`clone(2)` passes a pointer; see SAFETY")]
extern "C" fn enter<C: Child>(child: *mut c_void) -> c_int {
    // SAFETY: `clone` passes the child, which nothing else uses until it has ended or executed a program.
    unsafe { &mut *child.cast::<C>() }.run()
}
