//! Id of a file: what tells it from a later one at its path.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use qemu_machine_core::FileId;

/// Returns the id of the file with this metadata.
pub(crate) fn file_id(file: &Metadata) -> FileId {
    FileId::new(file.dev(), file.ino(), created(file))
}

/// Returns when a file was created, in nanoseconds since 1970. `None` means that the file system does not report it.
fn created(file: &Metadata) -> Option<u64> {
    let since = file.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}
