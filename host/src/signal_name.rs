//! Names of signals, by their numbers on this operating system.

use qemu_machine_core::SignalName;
use rustix::process::Signal;

const NAMES: [(Signal, SignalName); 15] = [
    (Signal::HUP, SignalName::Hup),
    (Signal::INT, SignalName::Int),
    (Signal::QUIT, SignalName::Quit),
    (Signal::ILL, SignalName::Ill),
    (Signal::TRAP, SignalName::Trap),
    (Signal::ABORT, SignalName::Abrt),
    (Signal::BUS, SignalName::Bus),
    (Signal::FPE, SignalName::Fpe),
    (Signal::KILL, SignalName::Kill),
    (Signal::SEGV, SignalName::Segv),
    (Signal::PIPE, SignalName::Pipe),
    (Signal::TERM, SignalName::Term),
    (Signal::XCPU, SignalName::Xcpu),
    (Signal::XFSZ, SignalName::Xfsz),
    (Signal::SYS, SignalName::Sys),
];

/// The name of the signal with this number, which ended a process.
pub(crate) fn signal_name(number: i32) -> SignalName {
    let name = NAMES.iter().find(|(signal, _)| signal.as_raw() == number);
    name.map_or(SignalName::Other, |(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each name is the one that rustix has for the number, which takes it from the system's headers.
    #[test]
    fn a_name_is_that_of_its_number() {
        for (signal, name) in NAMES {
            let shown = format!("{signal:?}");
            // rustix spells out the one that POSIX shortens.
            let known = name.as_str().expect("it has a name").replace("SIG", "").replace("ABRT", "ABORT");
            assert_eq!(shown, format!("\"Signal::{known}\""));
            assert_eq!(signal_name(signal.as_raw()), name);
        }
        assert_eq!(signal_name(40), SignalName::Other);
    }
}
