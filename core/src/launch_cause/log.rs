//! Recognition of the cause of a failed launch in the log of QEMU.

use alloc::string::String;
use alloc::vec::Vec;

use super::LaunchCause;
use crate::text::UntrustedText;

impl LaunchCause {
    /// Recognizes why QEMU ended in what it printed, such as [`Outcome::log`](crate::Outcome::log) or a log that the
    /// caller has read. Returns [`Other`](Self::Other) if no line is recognized. The last 100 lines are read, the last
    /// one first, since QEMU ends after the error that it cannot bear; warnings are passed over. Invalid UTF-8 is
    /// replaced.
    #[must_use]
    pub fn from_log(log: &[u8]) -> Self {
        const READ: usize = 100;
        let log = String::from_utf8_lossy(log);
        let lines = log.lines().map(str::trim_end).filter(|line| !line.trim_start().is_empty());
        let lines: Vec<&str> = lines.rev().take(READ).collect();
        let mut next = None;
        for line in &lines {
            // The lines before are about an accelerator that QEMU replaced by another one (QEMU, `system/vl.c`,
            // `configure_accelerators`).
            if line.contains(": falling back to ") {
                break;
            }
            // (QEMU, `util/error-report.c`, `print_loc` and `vreport`)
            if !line.contains("warning: ") && !line.contains("info: ") {
                if let Some(cause) = cause(line, next) {
                    return cause;
                }
            }
            next = Some(*line);
        }
        Self::Other(last(&lines).into())
    }
}

/// Returns the last lines, given with the last one first.
fn last(lines: &[&str]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<&str> = lines.iter().take(SHOWN).rev().copied().collect();
    shown.join("\n")
}

/// Recognizes an error in a line of the log. The next line may be a hint that belongs to it.
fn cause(line: &str, next: Option<&str>) -> Option<LaunchCause> {
    locked(line, next)
        .or_else(|| accelerator(line))
        .or_else(|| memory(line))
        .or_else(|| address(line))
        .or_else(|| unknown(line))
        .or_else(|| file(line))
        .or_else(|| value(line))
}

/// Reason of a failed system call, from the text of its error number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Missing,
    Denied,
    NoMemory,
    NoDevice,
    Address,
    Other,
}

/// The texts of error numbers: of glibc, and where they have another one, of musl (musl, `src/errno/__strerror.h`), and of
/// FreeBSD and macOS (FreeBSD, `lib/libc/gen/errlst.c`).
const REASONS: [(&str, Reason); 13] = [
    ("No such file or directory", Reason::Missing),
    ("Permission denied", Reason::Denied),
    ("Operation not permitted", Reason::Denied),
    ("Read-only file system", Reason::Denied),
    ("Cannot allocate memory", Reason::NoMemory),
    ("Out of memory", Reason::NoMemory),
    ("No such device", Reason::NoDevice),
    ("No such device or address", Reason::NoDevice),
    ("Address already in use", Reason::Address),
    ("Address in use", Reason::Address),
    ("Cannot assign requested address", Reason::Address),
    ("Can't assign requested address", Reason::Address),
    ("Address not available", Reason::Address),
];

/// Splits a line that ends with a colon and the text of an error number.
fn reason(line: &str) -> Option<(&str, Reason)> {
    REASONS.iter().find_map(|(text, reason)| Some((line.strip_suffix(text)?.strip_suffix(": ")?, *reason)))
}

fn named(name: &str) -> Option<UntrustedText> {
    (!name.is_empty()).then(|| name.into())
}

/// Returns the text in quotes after this text, which ends with the opening one.
fn quoted(line: &str, after: &str) -> Option<UntrustedText> {
    let (_, rest) = line.rsplit_once(after)?;
    named(rest.rsplit_once('\'').map_or(rest, |(name, _)| name))
}

/// A lock of an image (QEMU, `block/file-posix.c`, `raw_apply_lock_bytes` and `raw_check_lock_bytes`). The next line
/// has the path: "Is another process using the image [%s]?". A lock that fails for another reason has that reason
/// behind it.
fn locked(line: &str, next: Option<&str>) -> Option<LaunchCause> {
    let is_lock = line.contains("Failed to get ") && line.ends_with("\" lock");
    let is_byte = line.rsplit_once(": Failed to lock byte ").is_some_and(|(_, byte)| byte.parse::<u32>().is_ok());
    let path = next.and_then(|hint| hint.strip_prefix("Is another process using the image [")?.strip_suffix("]?"));
    (is_lock || is_byte).then(|| LaunchCause::ImageLocked { path: path.and_then(named) })
}

/// An accelerator that cannot be used, or does not fit to the CPU.
fn accelerator(line: &str) -> Option<LaunchCause> {
    // (QEMU, `target/i386/cpu.c`, `x86_cpu_realizefn` and `x86_cpu_filter_features`; `target/arm/cpu64.c`,
    // `aarch64_host_initfn`; `target/arm/kvm.c`, `kvm_arch_init_vcpu`)
    let is_of_cpu = line.contains("CPU model '") && line.contains("' requires KVM")
        || line.contains("CPU type can only be used with KVM")
        || line.contains("KVM is not supported for this guest CPU type")
        || line.ends_with("doesn't support requested features");
    if is_of_cpu {
        return Some(LaunchCause::UnsupportedCpu);
    }
    // (QEMU, `accel/kvm/kvm-all.c`, `kvm_init`; `system/vl.c`, `do_configure_accelerator`)
    let lower = line.to_ascii_lowercase();
    if lower.contains("could not access kvm kernel module: ") || lower.contains("failed to initialize kvm: ") {
        return Some(match reason(line) {
            Some((_, Reason::Missing | Reason::NoDevice)) => LaunchCause::KvmMissing,
            Some((_, Reason::Denied)) => LaunchCause::KvmDenied,
            Some((_, Reason::NoMemory)) => LaunchCause::OutOfMemory,
            Some((_, Reason::Address | Reason::Other)) | None => LaunchCause::KvmUnsupported,
        });
    }
    // This QEMU is built without it, or emulates another architecture.
    lower.ends_with("invalid accelerator kvm").then_some(LaunchCause::KvmUnsupported)
}

/// Memory that the host does not have: the text of ENOMEM, or that of a preallocation, which ends with EFAULT when the
/// huge pages are used up (QEMU, `util/oslib-posix.c`, `qemu_prealloc_mem`), or that of GLib (`g_malloc`).
fn memory(line: &str) -> Option<LaunchCause> {
    const WORDS: [&str; 2] = [
        "preallocating memory failed: Bad address",
        "Insufficient free host memory pages available to allocate guest RAM",
    ];
    let is_of_system = reason(line).is_some_and(|(_, reason)| reason == Reason::NoMemory);
    let is_of_glib = line.contains(": failed to allocate ") && line.ends_with(" bytes");
    let is_meant = is_of_system || is_of_glib || WORDS.iter().any(|words| line.ends_with(words));
    is_meant.then_some(LaunchCause::OutOfMemory)
}

/// An address at which QEMU cannot listen (QEMU, `net/slirp.c`, `slirp_hostfwd`; `util/qemu-sockets.c`).
fn address(line: &str) -> Option<LaunchCause> {
    const RULE: &str = "ould not set up host forwarding rule '";
    let (head, reason) = reason(line).unwrap_or((line, Reason::Other));
    let is_rule = head.contains(RULE);
    let path = head.rsplit_once("Failed to bind socket to ").map(|(_, path)| path);
    let address = if is_rule { quoted(head, RULE) } else { path.and_then(named) };
    (is_rule || reason == Reason::Address).then_some(LaunchCause::AddressUnavailable { address })
}

/// A name that QEMU does not know.
fn unknown(line: &str) -> Option<LaunchCause> {
    // "'%s' is not a valid device model name", with "(alias '%s')" before the verb (QEMU, `system/qdev-monitor.c`,
    // `qdev_get_device_class`).
    if let Some(head) = line.strip_suffix(" is not a valid device model name") {
        let name = head.rsplit_once(" (alias '").map_or(head, |(name, _)| name);
        let name = name.rsplit_once(": '").map_or(name, |(_, name)| name);
        return Some(LaunchCause::UnknownDevice { name: named(name.strip_suffix('\'').unwrap_or(name)) });
    }
    // (QEMU, `system/vl.c`, `select_machine` and `machine_class_base_init`)
    if let Some((_, rest)) = line.rsplit_once("nsupported machine type") {
        let name = rest.trim_start_matches([':', ' ']).trim_matches(['"', '\'']);
        return Some(LaunchCause::UnknownMachine { name: named(name) });
    }
    // (QEMU, `hw/core/cpu-common.c`, `parse_cpu_option`)
    const CPU: &str = "unable to find CPU model '";
    if line.contains(CPU) {
        let name = quoted(line, CPU);
        // A QEMU that emulates another architecture has no such model.
        let is_of_host = name.as_deref() == Some("host");
        return Some(if is_of_host { LaunchCause::UnsupportedCpu } else { LaunchCause::UnknownCpu { name } });
    }
    // (QEMU, `system/vl.c`, `lookup_opt`)
    if let Some(head) = line.strip_suffix(": invalid option") {
        let name = head.rsplit_once(": ").map_or(head, |(_, name)| name);
        return Some(LaunchCause::UnknownOption { name: named(name) });
    }
    option(line).map(|name| LaunchCause::UnknownOption { name })
}

/// A property or parameter that QEMU does not know (QEMU, `include/qapi/qmp/qerror.h`, `qom/object.c`, `block.c`).
fn option(line: &str) -> Option<Option<UntrustedText>> {
    const WORDS: [(&str, &str); 4] = [
        ("Property '", "' not found"),
        ("Invalid parameter '", "'"),
        ("Parameter '", "' is unexpected"),
        ("does not support the option '", "'"),
    ];
    WORDS.iter().find_map(|(begin, end)| line.strip_suffix(end)?.rsplit_once(begin).map(|(_, name)| named(name)))
}

/// A file that is missing or may not be used.
fn file(line: &str) -> Option<LaunchCause> {
    // The loader of programs names the library first (`ld.so(8)`).
    const LIBRARY: &str = ": error while loading shared libraries: ";
    let (head, reason) = reason(line)?;
    let path = match head.split_once(LIBRARY) {
        Some((_, rest)) => rest.split_once(": ").map(|(library, _)| library).and_then(named),
        None => path(head),
    };
    match reason {
        Reason::Missing => Some(LaunchCause::FileMissing { path }),
        Reason::Denied => Some(LaunchCause::FileDenied { path }),
        Reason::NoMemory | Reason::NoDevice | Reason::Address | Reason::Other => None,
    }
}

/// Returns the path at the end of a message: in quotes, those of GLib among them, or after the words of a message that
/// has none.
fn path(head: &str) -> Option<UntrustedText> {
    const BARE: [&str; 3] = ["backing store ", "Failed to bind socket to ", "opening logfile "];
    if let Some(head) = head.strip_suffix('\'') {
        return head.rsplit_once(" '").and_then(|(_, path)| named(path));
    }
    if let Some(head) = head.strip_suffix('”') {
        return head.rsplit_once('“').and_then(|(_, path)| named(path));
    }
    let head = head.strip_suffix(" for guest RAM").unwrap_or(head);
    let bare = BARE.iter().find_map(|words| head.rsplit_once(words).map(|(_, path)| path));
    bare.or_else(|| head.starts_with('/').then_some(head)).and_then(named)
}

/// A value that QEMU does not accept, or that is missing.
fn value(line: &str) -> Option<LaunchCause> {
    // (QEMU, `include/qapi/qmp/qerror.h`, `hw/core/qdev-properties.c`, `util/qemu-option.c`)
    const WORDS: [(&str, &str); 7] = [
        ("Parameter '", "' expects "),
        ("Parameter '", "' does not accept value "),
        ("Parameter '", "' is missing"),
        ("Property '", "' doesn't take value "),
        ("Property '", "' can't take value "),
        ("Property '", "' can't find value "),
        ("Invalid parameter type for '", "', expected"),
    ];
    let name = WORDS.iter().find_map(|(begin, end)| {
        let (head, _) = line.rsplit_once(end)?;
        head.rsplit_once(begin).map(|(_, name)| named(name))
    });
    if let Some(name) = name {
        return Some(LaunchCause::InvalidValue { name });
    }
    // (QEMU, `system/vl.c`, `lookup_opt`)
    if let Some(head) = line.strip_suffix(": requires an argument") {
        let name = head.rsplit_once(": ").map_or(head, |(_, name)| name);
        return Some(LaunchCause::InvalidValue { name: named(name) });
    }
    // A part of the message begins so, except for the text of EINVAL, which is the reason of a system call. Or it
    // refers to something that does not exist, or exists already.
    let is_invalid = |part: &str| {
        let begins = ["Invalid ", "invalid ", "Unknown ", "unknown ", "Duplicate ID '"];
        begins.iter().any(|begin| part.starts_with(begin)) && part != "Invalid argument"
    };
    let is_meant = line.split(": ").any(is_invalid) || line.ends_with("' not found");
    is_meant.then_some(LaunchCause::InvalidValue { name: None })
}
