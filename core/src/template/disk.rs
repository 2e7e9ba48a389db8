//! Disk of a template: its block node, and the image of an overlay for a clone.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::command_line::escape_commas;
use crate::fault::Misuse;

/// Disk of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateDisk {
    /// The name of the block node.
    pub node: String,
    /// The path of the image to which the source writes.
    pub path: Vec<u8>,
    /// The format of the image.
    pub format: DiskFormat,
}

/// Format of the image of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskFormat {
    /// The bytes of the disk, one after the other.
    Raw,
    /// QEMU's own format (QEMU, `docs/interop/qcow2.txt`).
    Qcow2,
}

impl DiskFormat {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

const MAGIC: &[u8] = b"QFI\xfb";
/// The size of a cluster, in bytes: QEMU's default.
const CLUSTER: u64 = 1 << 16;
/// The bytes of the disk that one entry of the L1 table covers: an L2 table of one cluster has this many clusters.
const L1_SPAN: u64 = CLUSTER / 8 * CLUSTER;
/// The longest name of a backing file, in bytes (QEMU, `docs/interop/qcow2.txt`, Header).
const BACKING_NAME: usize = 1023;
/// The largest L1 table, in bytes (QEMU, `block/qcow2.h`, `QCOW_MAX_L1_SIZE`).
const L1_BYTES: u64 = 32 << 20;

impl TemplateDisk {
    /// The number of bytes at the beginning of an image that [`overlay`](Self::overlay) needs.
    pub const HEAD: usize = 32;

    /// Returns the content of an overlay on the image: a qcow2 file without data, whose backing file is the image (QEMU,
    /// `docs/interop/qcow2.txt`). `head` is the beginning of the image, and `length` the length of its file, in bytes.
    ///
    /// # Errors
    ///
    /// [`Misuse::Config`] if the image does not have the format, is too large for the table of one overlay (2 PiB), or has a
    /// path of more than 1023 bytes.
    pub fn overlay(&self, head: &[u8], length: u64) -> Result<Vec<u8>, Misuse> {
        let wrong = |what: &str| Misuse::Config(what.to_string().into());
        let size = match self.format {
            DiskFormat::Raw => length.checked_next_multiple_of(512),
            DiskFormat::Qcow2 => size_in(head),
        };
        let size = size.ok_or_else(|| wrong("the image of a template's disk does not have its format"))?;
        let l1_entries = size.div_ceil(L1_SPAN).max(1);
        if self.path.len() > BACKING_NAME || l1_entries > L1_BYTES / 8 {
            return Err(wrong("the image of a template's disk is too large for an overlay, or its path is too long"));
        }
        let clusters = 3 + (l1_entries * 8).div_ceil(CLUSTER);
        let mut image = self.header(size, l1_entries);
        image.resize(usize::try_from(clusters * CLUSTER).map_err(|_| wrong("the image is too large"))?, 0);
        let cluster = CLUSTER as usize;
        // The refcount table, whose one entry is the offset of a block with a count of one for each cluster of this file.
        image[cluster..][..8].copy_from_slice(&(2 * CLUSTER).to_be_bytes());
        for count in image[2 * cluster..3 * cluster].chunks_exact_mut(2).zip(0..clusters).map(|(count, _)| count) {
            count.copy_from_slice(&1_u16.to_be_bytes());
        }
        Ok(image)
    }

    /// Returns the header, with the extension that names the format of the backing file.
    fn header(&self, size: u64, l1_entries: u64) -> Vec<u8> {
        const LENGTH: u32 = 104;
        let format = self.format.name().as_bytes();
        let mut extensions = [&0xe279_2aca_u32.to_be_bytes(), &(format.len() as u32).to_be_bytes(), format].concat();
        extensions.resize(extensions.len().next_multiple_of(8) + 8, 0);
        let name_at = u64::from(LENGTH) + extensions.len() as u64;
        let mut header = vec![];
        header.extend(MAGIC);
        header.extend(3_u32.to_be_bytes());
        header.extend(name_at.to_be_bytes());
        header.extend((self.path.len() as u32).to_be_bytes());
        header.extend(CLUSTER.trailing_zeros().to_be_bytes());
        header.extend(size.to_be_bytes());
        // No encryption.
        header.extend(0_u32.to_be_bytes());
        header.extend((l1_entries as u32).to_be_bytes());
        header.extend((3 * CLUSTER).to_be_bytes());
        header.extend(CLUSTER.to_be_bytes());
        header.extend(1_u32.to_be_bytes());
        // No snapshots, and no features.
        header.extend([0; 4 + 8 + 3 * 8]);
        // A count has 16 bits.
        header.extend(4_u32.to_be_bytes());
        header.extend(LENGTH.to_be_bytes());
        [header, extensions, self.path.clone()].concat()
    }

    /// Returns the value of `-blockdev` that opens the node on this file.
    pub(super) fn node_on(&self, format: DiskFormat, file: &[u8]) -> Vec<u8> {
        let node = [b"driver=", format.name().as_bytes(), b",node-name=", &escape_commas(&self.node)].concat();
        [&*node, b",file.driver=file,file.filename=", &escape_commas(file)].concat()
    }
}

/// Returns the size of the disk in an image of the format qcow2, in bytes. `None` means that it has another format.
fn size_in(head: &[u8]) -> Option<u64> {
    let size = head.strip_prefix(MAGIC)?.get(20..28)?;
    size.try_into().ok().map(u64::from_be_bytes)
}
