//! Credentials of the peers of Unix sockets: the process that connected, and the process that sent a message.
//!
//! rustix stores the id of a process as a number other than zero, and the kernel reports zero for a process in a pid
//! namespace that is not visible (`pid_namespaces(7)`).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Returns the id of the process that connected an accepted socket (`unix(7)`, SO_PEERCRED). `None` means that it is in
/// another pid namespace.
#[allow(unsafe_code, reason = "no safe crate reports an id of zero; see SAFETY")]
pub(super) fn connector(socket: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut credentials = MaybeUninit::<libc::ucred>::zeroed();
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to the structure, of which every bit pattern is valid.
    let credentials = unsafe {
        let result = libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            credentials.as_mut_ptr().cast(),
            &raw mut length,
        );
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        credentials.assume_init()
    };
    Ok(visible(credentials.pid))
}

/// Returns the id of the process that sent the next bytes, which stay unread (`unix(7)`, SCM_CREDENTIALS). `None` means
/// that it is in another pid namespace, or that the kernel was not asked to name the senders when it sent them.
#[allow(unsafe_code, reason = "no safe crate reports an id of zero; see SAFETY")]
pub(super) fn sender(socket: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: ptr::from_mut(&mut byte).cast(), iov_len: 1 };
    // Room for the credentials, and for no descriptor: with room, a peer could open some here.
    let mut control = MaybeUninit::<Control>::zeroed();
    // SAFETY: zero is valid for each member. The kernel writes at most `iov_len` bytes to `byte`, and `msg_controllen`
    // bytes to `control`, which is aligned as its headers need. CMSG_FIRSTHDR returns a header inside of `control`, or
    // null, and the data of a header of this type and length is a `ucred`.
    unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>() as _;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        if libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) < 0 {
            return Err(io::Error::last_os_error());
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() {
            return Ok(None);
        }
        let kind = ((*header).cmsg_level, (*header).cmsg_type);
        let is_whole = (*header).cmsg_len as usize >= libc::CMSG_LEN(size_of::<libc::ucred>() as u32) as usize;
        if kind != (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) || !is_whole {
            return Ok(None);
        }
        let credentials: libc::ucred = ptr::read_unaligned(libc::CMSG_DATA(header).cast());
        Ok(visible(credentials.pid))
    }
}

/// A control message with credentials.
#[repr(C)]
struct Control {
    _header: libc::cmsghdr,
    _credentials: [u8; CREDENTIALS],
}

/// The size of the credentials, rounded up as `CMSG_SPACE(3)` does.
const CREDENTIALS: usize = size_of::<libc::ucred>().next_multiple_of(size_of::<usize>());

fn visible(pid: libc::pid_t) -> Option<u32> {
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}
