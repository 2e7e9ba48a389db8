//! Release of a kernel: read from the header of its image, and compared with others.

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

/// A part of a release, in the order in which they are older.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// `rc`: 6.10.0-rc1 is older than 6.10.0 (the kernel's `Makefile`, `EXTRAVERSION`).
    Candidate,
    End,
    Word(String),
    Number(u64),
}

/// Returns the parts of a release, such that those of an older kernel are less: 6.9 is older than 6.10.
pub(crate) fn parts(release: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for field in release.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        let mut rest = field;
        while let Some(first) = rest.chars().next() {
            let is_number = first.is_ascii_digit();
            let end = rest.find(|letter: char| letter.is_ascii_digit() != is_number).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            rest = after;
            parts.push(match part {
                "rc" => Part::Candidate,
                // More digits than fit are a larger number than any other.
                _ if is_number => Part::Number(part.parse().unwrap_or(u64::MAX)),
                _ => Part::Word(part.to_owned()),
            });
        }
    }
    parts.push(Part::End);
    parts
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        let from_old_to_new = [
            "5.15.0",
            "6.1.0-9-amd64",
            "6.1.0-56-cloud-amd64",
            "6.9.12",
            "6.10.0-rc2",
            "6.10.0-rc10",
            "6.10.0",
            "6.10.0-custom",
            "6.10.0-1",
            "6.100.0+",
        ];
        for pair in from_old_to_new.windows(2) {
            assert!(parts(pair[0]) < parts(pair[1]), "{pair:?}");
        }
    }
}
