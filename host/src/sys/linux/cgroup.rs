//! Cgroup of a process on Linux, which it enters before it executes its program.

use std::ffi::CString;

use rustix::fs::{FsWord, Mode, OFlags, fstatfs, open};
use rustix::io::{Errno, write};

/// Moves the child to a cgroup, by the file `cgroup.procs` of that: 0 is the process that writes (Linux,
/// `Documentation/admin-guide/cgroup-v2.rst`, `cgroup.procs`; `kernel/cgroup/cgroup.c`, `cgroup_procs_write_start`).
pub(super) fn enter_cgroup(processes: &CString) -> rustix::io::Result<()> {
    /// `CGROUP2_SUPER_MAGIC` in `linux/magic.h`.
    const CGROUP2: FsWord = 0x6367_7270;
    let processes = open(processes.as_c_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // Any other file could be written to as well, and the process would run without the limits.
    if fstatfs(&processes)?.f_type != CGROUP2 {
        return Err(Errno::OPNOTSUPP);
    }
    write(&processes, b"0").map(drop)
}
