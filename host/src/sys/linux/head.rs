//! Removal of the head of a file that other processes append to (`fallocate(2)`).
//!
//! The kernel holds the lock of the inode during the call (Linux, `fs/ext4/extents.c`, `ext4_collapse_range`;
//! `mm/shmem.c`, `shmem_fallocate`), and from the moment in which it finds the end of the file for a write with O_APPEND
//! until the write is done (`fs/ext4/file.c`, `ext4_buffered_write_iter`; `mm/shmem.c`, `shmem_file_write_iter`). So each
//! write is whole, and goes to the end of the file before the removal or after it. Other file systems are expected to
//! lock likewise, since `fallocate(2)` describes no other behaviour.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::retry_on_intr;

use crate::sys::Head;

/// The unit in which disk space is freed: the usual block, and the usual page of tmpfs.
const BLOCK: u64 = 4096;

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

pub(super) fn remove(file: BorrowedFd<'_>, length: u64) -> io::Result<Head> {
    // Only whole blocks of the file system can be collapsed (`fallocate(2)`, Collapsing file space). A length of zero is
    // invalid, as is one that reaches the end of the file. The type of `st_blksize` differs between architectures.
    let block = fstatvfs(file).map_or(BLOCK, |found| found.f_bsize);
    let collapsed = length - length.checked_rem(block).unwrap_or(0);
    if retry_on_intr(|| fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, collapsed)).is_ok() {
        return Ok(Head::Cut(collapsed));
    }
    // It starts at 0, so it includes the holes of earlier calls.
    let end = length - length % BLOCK;
    retry_on_intr(|| fallocate(file, PUNCH, 0, end))?;
    Ok(Head::Zeroed(end))
}

/// Tries a hole in a file that is empty, which changes nothing, and fails where the file system makes no holes
/// (`fallocate(2)`, EOPNOTSUPP).
pub(super) fn can_remove(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(retry_on_intr(|| fallocate(file, PUNCH, 0, BLOCK))?)
}
