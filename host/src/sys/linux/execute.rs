//! Execution of a program on Linux by `execve(2)`, without writing `errno`.

use std::ffi::CString;
use std::io;
use std::sync::LazyLock;

use rustix::io::Errno;
use rustix::process::{Pid, getpgid};

use crate::sys::attributes::Strings;

/// Whether a child may share the memory of this program: where neither [`execute`] nor rustix writes `errno`.
pub(super) static MAY_SHARE_MEMORY: LazyLock<bool> = LazyLock::new(|| MAKES_THE_CALL && !rustix_writes_errno());

/// Whether [`execute`] makes the system call itself on this architecture. On the others the child has a copy of the memory.
const MAKES_THE_CALL: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// Returns whether the system calls of rustix write `errno`. They do so with its feature `use-libc`, which any crate of
/// the program can turn on.
fn rustix_writes_errno() -> bool {
    // No process has the largest id (`proc_sys_kernel(5)`, `pid_max`).
    let fails = || getpgid(Pid::from_raw(i32::MAX)).err();
    // A file that does not exist sets another error than a process that does not.
    let before = std::fs::File::open("").err().and_then(|error| error.raw_os_error());
    let error = fails().map(Errno::raw_os_error);
    let after = io::Error::last_os_error().raw_os_error();
    before == error || after != before
}

/// Executes a program, and returns why that failed (`execve(2)`). Unlike the function of libc it does not write `errno`.
#[allow(unsafe_code, reason = "execve has no safe form; see SAFETY")]
pub(super) fn execute(program: &CString, arguments: &Strings, environment: &Strings) -> Errno {
    let (program, arguments, environment) = (program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
    let result: isize;
    // SAFETY: the path is a C string, and both lists end with a null pointer. The call reads them, and returns only when
    // it failed. The registers are those of a system call (`syscall(2)`, Architecture calling conventions).
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_execve as isize => result,
            in("rdi") program,
            in("rsi") arguments,
            in("rdx") environment,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") libc::SYS_execve,
            inlateout("x0") program => result,
            in("x1") arguments,
            in("x2") environment,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        std::arch::asm!(
            "ecall",
            in("a7") libc::SYS_execve,
            inlateout("a0") program => result,
            in("a1") arguments,
            in("a2") environment,
            options(nostack),
        );
    }
    // SAFETY: as above. The child has a copy of the memory on these architectures, and so an `errno` of its own.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    unsafe {
        libc::execve(program, arguments, environment);
        result = -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) as isize;
    }
    Errno::from_raw_os_error(i32::try_from(result.saturating_neg()).unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No crate of this workspace turns on `rustix/use-libc`.
    #[test]
    fn children_share_the_memory_of_this_program() {
        assert!(!rustix_writes_errno());
        assert_eq!(*MAY_SHARE_MEMORY, MAKES_THE_CALL);
    }
}
