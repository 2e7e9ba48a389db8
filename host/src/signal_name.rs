//! Names of signals, by their numbers on this operating system. Some signals have other numbers on other architectures
//! (`signal(7)`, Signal numbering for standard signals).

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

/// Returns the name of the signal with this number, which ended a process.
pub(crate) fn signal_name(number: i32) -> SignalName {
    let name = NAMES.iter().find(|(signal, _)| signal.as_raw() == number);
    name.map_or(SignalName::Other, |(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares each name with the name that rustix has for the number, which comes from the system's headers.
    #[test]
    fn each_signal_number_maps_to_its_name() {
        for (signal, name) in NAMES {
            let shown = format!("{signal:?}");
            // rustix writes ABORT for the signal that POSIX calls SIGABRT.
            let known = name.as_str().expect("a listed signal has a name").replace("SIG", "").replace("ABRT", "ABORT");
            assert_eq!(shown, format!("\"Signal::{known}\""));
            assert_eq!(signal_name(signal.as_raw()), name);
        }
        assert_eq!(signal_name(40), SignalName::Other);
    }
}
