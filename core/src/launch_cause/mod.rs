//! Cause of a failed launch, as a value that a program can act on.

mod log;

use core::fmt;

use crate::error::LaunchError;
use crate::fault::FaultKind;
use crate::lifecycle::LaunchFailure;
use crate::text::UntrustedText;

/// Cause of a failed launch, from [`LaunchError::launch_cause`], or from a [log](Self::from_log) of QEMU.
///
/// QEMU exits with status 1 for nearly every reason and reports the reason only in words, so the variants from
/// [`ImageLocked`](Self::ImageLocked) on are recognized by the words in its log: those of QEMU 7.2, 10.0 and 11.1 are
/// tested. A later version may word a reason differently; then the cause is [`Other`](Self::Other), with the words. The
/// log also has what a wrapper prints, and what the guest prints if its console is `stdio`. So a cause helps to choose
/// a message, or to try again with other settings; do not base a decision about security on it.
///
/// | variant | the usual remedy |
/// |---|---|
/// | [`ImageLocked`](Self::ImageLocked) | end the other machine, or give this one an image of its own |
/// | [`KvmMissing`](Self::KvmMissing), [`KvmUnsupported`](Self::KvmUnsupported) | `-accel tcg` |
/// | [`KvmDenied`](Self::KvmDenied) | the group of `/dev/kvm`: [`Config::groups`](crate::Config::groups) |
/// | [`OutOfMemory`](Self::OutOfMemory) | less memory for the guest, or more huge pages on the host |
/// | [`AddressUnavailable`](Self::AddressUnavailable) | [`Config::host_forward`](crate::Config::host_forward) with a port that the kernel chooses |
/// | [`UnsupportedCpu`](Self::UnsupportedCpu) | `-cpu max`, which each accelerator provides |
///
/// # Languages
///
/// The words are English, whatever the locale is: the C library translates the text of an error number only after
/// `setlocale(3)`, which `qemu-system-x86_64` does not import (measured with QEMU 7.2.22, 10.0.13 and 11.1.3). A module
/// for a display on the screen of the host may call it, as GTK does in `gtk_init`: only with
/// [`Config::with_display`](crate::Config::with_display) or an argument of the caller. Then a reason that QEMU reports
/// later may be in the language of the user, and is [`Other`](Self::Other). The same holds for the words of a wrapper.
///
/// ```
/// use qemu_machine_core::{LaunchCause, LaunchError};
///
/// /// Returns whether a launch with `-accel tcg` may succeed where this one failed.
/// fn is_worth_a_try_without_kvm(error: &LaunchError) -> bool {
///     use LaunchCause::{KvmDenied, KvmMissing, KvmUnsupported};
///     matches!(error.launch_cause(), KvmMissing | KvmDenied | KvmUnsupported)
/// }
///
/// let log = b"Could not access KVM kernel module: Permission denied\n\
///             qemu-system-x86_64: -accel kvm: failed to initialize kvm: Permission denied\n";
/// assert_eq!(LaunchCause::from_log(log), LaunchCause::KvmDenied);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaunchCause {
    /// The caller's fault: [`LaunchError::Misuse`] says which. Nothing was started.
    Misuse,
    /// The host's fault, or no process listens at the address of the monitor. [`FaultKind::NotFound`] means mostly that
    /// the program does not exist, and [`FaultKind::Denied`] that it may not be executed. The
    /// [`HostFault`](crate::HostFault) in the [`LaunchFailure`] names the operation.
    Host(FaultKind),
    /// The deadline passed, and QEMU had neither ended nor closed its monitor.
    TimedOut,
    /// The caller ended the machine before it was ready.
    Cancelled,
    /// The monitor is busy, was closed, broke the protocol, or refused the negotiation: the [`LaunchFailure`] says
    /// which. An attached machine has no log, so the cause of its end is not known.
    Monitor,
    /// The guest ended QEMU before the monitor was ready, and QEMU has reported it:
    /// [`Outcome::cause`](crate::Outcome::cause) says how.
    Guest,
    /// Another process has locked an image, mostly another QEMU that uses it (QEMU, `block/file-posix.c`,
    /// `raw_check_lock_bytes`).
    ImageLocked {
        /// The path of the image. `None` means that QEMU does not name it.
        path: Option<UntrustedText>,
    },
    /// A file, a directory or a socket does not exist.
    FileMissing {
        /// The path, as QEMU was given it. `None` means that QEMU does not name it.
        path: Option<UntrustedText>,
    },
    /// QEMU may not open, create or write a file, or may not use a device or a socket.
    FileDenied {
        /// The path, as QEMU was given it. `None` means that QEMU does not name it.
        path: Option<UntrustedText>,
    },
    /// The host has no KVM: `/dev/kvm` does not exist, or no module serves it.
    KvmMissing,
    /// The user of QEMU may not use `/dev/kvm`.
    KvmDenied,
    /// KVM cannot be used: it is too old, another hypervisor occupies the processor, or this QEMU is built without it
    /// or emulates another architecture.
    KvmUnsupported,
    /// The host does not have the memory, or the huge pages, that the guest is to have.
    OutOfMemory,
    /// QEMU cannot listen at an address: mostly another process does. For a host forward QEMU gives no reason (measured
    /// with QEMU 7.2.22), so a port below 1024 without permission, and an address that the host does not have, look the
    /// same there.
    AddressUnavailable {
        /// The rule of a host forward, such as `tcp:127.0.0.1:2222-:22`, or the path of a Unix socket. `None` means
        /// that QEMU names the address only in the option, if at all.
        address: Option<UntrustedText>,
    },
    /// QEMU has no device of this name.
    UnknownDevice {
        /// The name. `None` means that QEMU does not repeat it.
        name: Option<UntrustedText>,
    },
    /// QEMU has no machine type of this name.
    UnknownMachine {
        /// The name. `None` means that QEMU does not repeat it, as 7.2 does not.
        name: Option<UntrustedText>,
    },
    /// QEMU has no CPU model of this name for this machine type.
    UnknownCpu {
        /// The name. `None` means that QEMU does not repeat it.
        name: Option<UntrustedText>,
    },
    /// QEMU does not know an option, a property or a parameter.
    UnknownOption {
        /// The option (`-nosuch`), the property (`e1000.nosuch`) or the parameter (`nosuch`). `None` means that QEMU
        /// does not repeat it.
        name: Option<UntrustedText>,
    },
    /// An option, a property or a parameter has a value that QEMU does not accept, or lacks one that it needs.
    InvalidValue {
        /// The option, property or parameter. `None` means that QEMU does not name it, or only in the option.
        name: Option<UntrustedText>,
    },
    /// The accelerator does not provide the CPU model or one of its features, as TCG does not provide `-cpu host`. A
    /// QEMU that emulates another architecture does not know the model `host` at all, and has this cause as well.
    UnsupportedCpu,
    /// QEMU ended for a reason that is not recognized. The text has the last lines of its log, ten at most; it is empty
    /// if QEMU has printed nothing, as when a signal ended it.
    Other(UntrustedText),
}

impl LaunchError {
    /// Returns why the launch failed, as a value that a program can act on.
    ///
    /// A launch in which QEMU ended, or closed its monitor, gets the cause that its log names
    /// ([`LaunchCause::from_log`]), unless the guest ended it. The log is read up to
    /// [`Limits::log`](crate::Limits::log). A launch that failed for another reason gets that one, and its
    /// log is not read: a QEMU that runs when the deadline passes may have printed anything.
    #[must_use]
    pub fn launch_cause(&self) -> LaunchCause {
        let Self::Failed { failure, outcome } = self else { return LaunchCause::Misuse };
        match failure {
            LaunchFailure::Host(fault) | LaunchFailure::NotListening(fault) | LaunchFailure::Dead(fault) => {
                LaunchCause::Host(fault.kind)
            }
            LaunchFailure::TimedOut(_) => LaunchCause::TimedOut,
            LaunchFailure::Cancelled(_) => LaunchCause::Cancelled,
            LaunchFailure::Exited(_) | LaunchFailure::Hung(_) if outcome.cause.of_guest().is_some() => {
                LaunchCause::Guest
            }
            LaunchFailure::Exited(_) | LaunchFailure::Hung(_) => LaunchCause::from_log(outcome.log.as_bytes()),
            // Without a log, as for an attached machine, no more is known.
            LaunchFailure::HungUp(_) if !outcome.log.is_empty() => LaunchCause::from_log(outcome.log.as_bytes()),
            LaunchFailure::Busy
            | LaunchFailure::HungUp(_)
            | LaunchFailure::Broken(_)
            | LaunchFailure::Refused(_)
            | LaunchFailure::NotSynchronised(_) => LaunchCause::Monitor,
        }
    }
}

/// Writes one printable line.
impl fmt::Display for LaunchCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, named) = match self {
            Self::Misuse => ("the call or the configuration is not valid", None),
            Self::Host(_) => ("an operation of the host failed", None),
            Self::TimedOut => ("the deadline passed", None),
            Self::Cancelled => ("the caller ended the machine", None),
            Self::Monitor => ("the monitor is busy, was closed, or broke the protocol", None),
            Self::Guest => ("the guest ended QEMU", None),
            Self::ImageLocked { path } => ("another process has locked the image", path.as_ref()),
            Self::FileMissing { path } => ("a file does not exist", path.as_ref()),
            Self::FileDenied { path } => ("permission for a file is missing", path.as_ref()),
            Self::KvmMissing => ("the host has no KVM", None),
            Self::KvmDenied => ("permission for /dev/kvm is missing", None),
            Self::KvmUnsupported => ("KVM cannot be used", None),
            Self::OutOfMemory => ("the host does not have the memory of the guest", None),
            Self::AddressUnavailable { address } => ("QEMU cannot listen at an address", address.as_ref()),
            Self::UnknownDevice { name } => ("QEMU does not know the device", name.as_ref()),
            Self::UnknownMachine { name } => ("QEMU does not know the machine type", name.as_ref()),
            Self::UnknownCpu { name } => ("QEMU does not know the CPU model", name.as_ref()),
            Self::UnknownOption { name } => ("QEMU does not know an option", name.as_ref()),
            Self::InvalidValue { name } => ("QEMU does not accept the value of an option", name.as_ref()),
            Self::UnsupportedCpu => ("the accelerator does not provide the CPU", None),
            Self::Other(words) if words.is_empty() => ("QEMU ended without a word", None),
            Self::Other(words) => ("QEMU ended", Some(words)),
        };
        f.write_str(what)?;
        named.map_or(Ok(()), |named| write!(f, ": {named}"))
    }
}
