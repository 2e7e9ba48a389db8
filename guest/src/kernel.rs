//! Release of a kernel image, read from its header.

/// The offset of the magic number in a bzImage (`Documentation/arch/x86/boot.rst` of the kernel, "The Real-Mode Kernel
/// Header").
const MAGIC_AT: usize = 0x202;

/// The offset of the field `kernel_version`.
const VERSION_AT: usize = 0x20E;

/// `kernel_version` counts from the end of the boot sector.
const BOOT_SECTOR: usize = 0x200;

/// Returns the release of an x86 kernel (bzImage), such as `6.1.0-56-cloud-amd64`: the name of the directory of its
/// modules. `None` means that the image has no such header, as a `vmlinux`.
#[must_use]
pub fn kernel_release(image: &[u8]) -> Option<String> {
    if image.get(MAGIC_AT..MAGIC_AT + 4)? != b"HdrS" {
        return None;
    }
    let at = u16::from_le_bytes(image.get(VERSION_AT..VERSION_AT + 2)?.try_into().ok()?);
    let version = image.get(usize::from(at) + BOOT_SECTOR..).filter(|_| at != 0)?;
    // The version ends at a NUL byte, and begins with the release and a blank.
    let release = version.split(|byte| matches!(byte, 0 | b' ')).next()?;
    let is_name = release.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/');
    String::from_utf8(release.to_vec()).ok().filter(|release| is_name && !release.is_empty() && release != "..")
}
