//! Accelerators of a QEMU: which of them work on this host, and why each other one does not.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::config::Config;
use crate::error::LaunchError;
use crate::launch_cause::LaunchCause;
use crate::os_bytes::OsBytes;
use crate::text::UntrustedText;

/// The known accelerators, the preferred one first: those that execute the guest on the processor, then the emulation. Xen
/// comes last, since a guest of it needs a domain that the tools of Xen have created (QEMU, `accel/xen/xen-all.c`).
const KNOWN: [&str; 6] = ["kvm", "hvf", "nvmm", "whpx", "tcg", "xen"];

/// The accelerators of a QEMU, the preferred one first, each with the reason if it does not work on this host.
///
/// `Vm::accelerators` of the runtimes for threads and tasks returns them. In a loop of the caller's, a
/// [`probe`](Self::probe) does.
///
/// ```
/// use qemu_machine_core::{Accelerators, Config};
///
/// # fn example(found: &Accelerators) {
/// // let config = Config::new("qemu-system-x86_64").args(["-m", "2G"]);
/// // let found = Vm::accelerators(&config)?;
/// println!("{found}"); // kvm: permission for /dev/kvm is missing (…); hvf: not part of this QEMU; …; tcg: works; …
/// // let vm = Vm::launch(config.accelerators(found.working()))?;
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accelerators(Vec<Accelerator>);

/// An accelerator, and whether it works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accelerator {
    /// The name, as in `-accel`: letters, digits, `-` and `_` of ASCII, 32 at most.
    pub name: String,
    /// Whether QEMU starts with it.
    pub availability: Availability,
}

/// Whether an accelerator works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// QEMU starts with it. That does not prove that a guest makes progress: on some hosts that are guests themselves, KVM
    /// does not return from the guest.
    Works,
    /// This QEMU was built without it. KVM is built only for the architecture of the host.
    NotBuilt,
    /// QEMU does not start with it.
    Refused {
        /// The cause, such as [`LaunchCause::KvmDenied`].
        cause: LaunchCause,
        /// The last line that QEMU printed. It is empty if QEMU printed nothing.
        last_line: UntrustedText,
    },
}

impl Accelerators {
    /// Returns the probe of the QEMU that this configuration launches: its program, wrapper, credentials and other
    /// [attributes of the process](crate::ProcessAttributes), directory for temporary files, name and deadline of the launch.
    /// Its arguments, devices and monitor are not part of the probe, and the standard streams are not inherited: QEMU prints
    /// its list there.
    #[must_use]
    pub fn probe(config: &Config) -> AcceleratorProbe {
        let Config { program, wrapper, mut attributes, temporary_directory, name, launch_within, .. } = config.clone();
        if let Some(attributes) = &mut attributes {
            (attributes.inherits_stdin, attributes.inherits_stdout) = (false, false);
        }
        let base = Config { wrapper, attributes, temporary_directory, name, launch_within, ..Config::new(program) };
        AcceleratorProbe { base: base.machine("none").arg("-nodefaults"), waiting: None, found: Vec::new() }
    }

    /// Returns the accelerators, the preferred one first: KVM, HVF, NVMM, WHPX, TCG, Xen, and those that are not known here.
    #[must_use]
    pub fn as_slice(&self) -> &[Accelerator] {
        &self.0
    }

    /// Returns an accelerator. `None` means that neither this library nor this QEMU knows the name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Accelerator> {
        self.0.iter().find(|accelerator| accelerator.name == name)
    }

    /// Returns the names of those that work, the preferred one first: for [`Config::accelerators`].
    pub fn working(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|one| one.availability == Availability::Works).map(|one| &*one.name)
    }
}

/// Writes one printable line.
impl fmt::Display for Accelerators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, one)| write!(f, "{}{one}", if at == 0 { "" } else { "; " }))
    }
}

/// Writes one printable line.
impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.availability)
    }
}

/// Writes one printable line.
impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("works"),
            Self::NotBuilt => f.write_str("not part of this QEMU"),
            Self::Refused { cause: cause @ LaunchCause::Other(_), .. } => write!(f, "{cause}"),
            Self::Refused { cause, last_line } if last_line.is_empty() => write!(f, "{cause}"),
            Self::Refused { cause, last_line } => write!(f, "{cause} ({last_line})"),
        }
    }
}

/// Probe of the [accelerators](Accelerators) of a QEMU: some launches, one after the other, which the caller carries out.
///
/// The first launch lists the accelerators that this QEMU was built with (`-accel help`, with which QEMU exits). Then each
/// one is tried on a machine without a board (`-machine none`): a launch that succeeds shows that it works, and another one
/// has the reason in QEMU's words.
///
/// ```
/// use qemu_machine_core::{Accelerators, Config, LaunchError};
///
/// fn accelerators(launch_and_kill: impl Fn(Config) -> Result<(), LaunchError>) -> Result<Accelerators, LaunchError> {
///     let mut probe = Accelerators::probe(&Config::new("qemu-system-x86_64"));
///     while let Some(config) = probe.next_launch() {
///         probe.report_launch(launch_and_kill(config))?;
///     }
///     Ok(probe.finish())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct AcceleratorProbe {
    base: Config,
    /// The names that are not tried yet. `None` means that QEMU has not listed them.
    waiting: Option<Vec<String>>,
    found: Vec<Accelerator>,
}

impl AcceleratorProbe {
    /// Returns the configuration of the next machine to launch. Report the result by [`report_launch`](Self::report_launch),
    /// and kill the machine if there is one. `None` means that the probe is complete.
    #[must_use]
    pub fn next_launch(&self) -> Option<Config> {
        let name = match &self.waiting {
            None => "help",
            Some(names) => names.first()?,
        };
        Some(self.base.clone().accelerators([name]))
    }

    /// Reports the result of that launch.
    ///
    /// # Errors
    ///
    /// The error of the first launch, unless QEMU has listed its accelerators: mostly the program does not exist. The error
    /// of a later launch, if that has nothing to do with QEMU: the host has failed, or the caller has cancelled the launch.
    /// The same launch can be repeated.
    pub fn report_launch(&mut self, result: Result<(), LaunchError>) -> Result<(), LaunchError> {
        let Some(names) = &mut self.waiting else {
            let names = match result {
                // A wrapper may drop the argument.
                Ok(()) => KNOWN.map(String::from).into(),
                Err(error) => listed(&error).ok_or(error)?,
            };
            self.waiting = Some(names);
            return Ok(());
        };
        if !names.is_empty() {
            let availability = result.map_or_else(refused, |()| Ok(Availability::Works))?;
            self.found.push(Accelerator { name: names.remove(0), availability });
        }
        Ok(())
    }

    /// Returns the accelerators. Those that were not tried, since the probe is not complete, are left out.
    #[must_use]
    pub fn finish(self) -> Accelerators {
        let Self { waiting, mut found, .. } = self;
        let built =
            |name: &str| waiting.iter().flatten().chain(found.iter().map(|one| &one.name)).any(|one| one == name);
        let unbuilt: Vec<&str> = KNOWN.into_iter().filter(|name| waiting.is_some() && !built(name)).collect();
        let unbuilt = unbuilt.into_iter().map(|name| (name.into(), Availability::NotBuilt));
        found.extend(unbuilt.map(|(name, availability)| Accelerator { name, availability }));
        found.sort_by_key(|one| rank(&one.name));
        Accelerators(found)
    }
}

/// Returns the place of an accelerator in the order of preference.
fn rank(name: &str) -> usize {
    KNOWN.iter().position(|known| *known == name).unwrap_or(KNOWN.len())
}

/// Reads the list of accelerators in the log of a QEMU that has ended (QEMU, `system/vl.c`, `qemu_init`, at
/// `QEMU_OPTION_accel`). Other lines may stand between the names: stderr is in the same log. A name has at most 32 bytes, as
/// it is printed whole.
fn listed(error: &LaunchError) -> Option<Vec<String>> {
    let LaunchError::Failed { outcome, .. } = error else { return None };
    let (_, list) = outcome.log.split_once("Accelerators supported in QEMU binary:")?;
    let is_name = |line: &&str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=32).contains(&line.len()) && line.bytes().all(is_part)
    };
    let mut names: Vec<String> = list.lines().map(str::trim).filter(is_name).map(String::from).collect();
    names.sort_by_key(|name| rank(name));
    Some(names)
}

/// Returns the reason of a failed launch.
fn refused(error: LaunchError) -> Result<Availability, LaunchError> {
    let cause = error.launch_cause();
    match &error {
        LaunchError::Failed { outcome, .. } if !matches!(cause, LaunchCause::Host(_) | LaunchCause::Cancelled) => {
            let last = outcome.log.lines().rev().map(str::trim).find(|line| !line.is_empty());
            Ok(Availability::Refused { cause, last_line: last.unwrap_or_default().into() })
        }
        _ => Err(error),
    }
}

impl Config {
    /// Adds accelerators (`-accel`), the preferred one first: QEMU uses the first that works, and its log has the reason
    /// why it does not use those before (QEMU, `system/vl.c`, `configure_accelerators`). If none works, the launch fails.
    /// Default: QEMU's own, which is mostly TCG.
    ///
    /// `["kvm", "tcg"]` falls back to emulation on a host without KVM. [`Accelerators`] reports which ones work, and why the
    /// others do not.
    ///
    /// ```
    /// use qemu_machine_core::Config;
    ///
    /// let config = Config::new("qemu-system-x86_64").accelerators(["kvm", "tcg"]);
    /// assert!(config.command_line()?.to_string().ends_with("-accel kvm -accel tcg"));
    /// # Ok::<(), qemu_machine_core::Misuse>(())
    /// ```
    #[must_use]
    pub fn accelerators<A: OsBytes>(self, names: impl IntoIterator<Item = A>) -> Self {
        names.into_iter().fold(self, |config, name| config.arg("-accel").arg(name))
    }
}
