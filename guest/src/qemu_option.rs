//! Values of QEMU's options: paths and sizes as QEMU reads them.

use std::ffi::OsStr;
use std::path::Path;

/// Returns a path as the value of an option of QEMU, where a comma is doubled (`qemu(1)`).
pub(crate) fn escaped(path: &Path) -> Vec<u8> {
    let parts: Vec<&[u8]> = path.as_os_str().as_encoded_bytes().split(|byte| *byte == b',').collect();
    parts.join(&b",,"[..])
}

/// Returns the size in a value of `-m`, for a memory backend: `[size=]SIZE[,slots=…]`, in MiB without a suffix, where a
/// backend counts bytes (`qemu(1)`).
pub(crate) fn memory_size(memory: &OsStr) -> Vec<u8> {
    let first = memory.as_encoded_bytes().split(|byte| *byte == b',').next().unwrap_or_default();
    let mut size = first.strip_prefix(b"size=").unwrap_or(first).to_vec();
    size.extend(size.last().is_some_and(u8::is_ascii_digit).then_some(b'M'));
    size
}

#[cfg(test)]
mod tests {
    use super::memory_size;

    #[test]
    fn a_size_without_a_suffix_is_in_mebibytes() {
        for (memory, size) in [("256", "256M"), ("1G", "1G"), ("size=512,slots=2,maxmem=1G", "512M"), ("", "")] {
            assert_eq!(memory_size(memory.as_ref()), size.as_bytes());
        }
    }
}
