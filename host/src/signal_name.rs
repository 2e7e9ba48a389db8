//! Names of signals, by their numbers on this operating system. Some signals have other numbers on other architectures
//! (`signal(7)`, Signal numbering for standard signals).

use qemu_machine_core::SignalName;
use rustix::process::Signal;

const NAMES: [(Signal, SignalName); 29] = [
    (Signal::HUP, SignalName::Hup),
    (Signal::INT, SignalName::Int),
    (Signal::QUIT, SignalName::Quit),
    (Signal::ILL, SignalName::Ill),
    (Signal::TRAP, SignalName::Trap),
    (Signal::ABORT, SignalName::Abrt),
    (Signal::BUS, SignalName::Bus),
    (Signal::FPE, SignalName::Fpe),
    (Signal::KILL, SignalName::Kill),
    (Signal::USR1, SignalName::Usr1),
    (Signal::SEGV, SignalName::Segv),
    (Signal::USR2, SignalName::Usr2),
    (Signal::PIPE, SignalName::Pipe),
    (Signal::ALARM, SignalName::Alrm),
    (Signal::TERM, SignalName::Term),
    (Signal::CHILD, SignalName::Chld),
    (Signal::CONT, SignalName::Cont),
    (Signal::STOP, SignalName::Stop),
    (Signal::TSTP, SignalName::Tstp),
    (Signal::TTIN, SignalName::Ttin),
    (Signal::TTOU, SignalName::Ttou),
    (Signal::URG, SignalName::Urg),
    (Signal::XCPU, SignalName::Xcpu),
    (Signal::XFSZ, SignalName::Xfsz),
    (Signal::VTALARM, SignalName::Vtalrm),
    (Signal::PROF, SignalName::Prof),
    (Signal::WINCH, SignalName::Winch),
    (Signal::IO, SignalName::Io),
    (Signal::SYS, SignalName::Sys),
];

/// The number of SIGSTKFLT on Linux. `None` means that this architecture does not have it (`signal(7)`).
#[cfg(target_os = "linux")]
const STKFLT: Option<i32> = if cfg!(any(
    target_arch = "mips",
    target_arch = "mips32r6",
    target_arch = "mips64",
    target_arch = "mips64r6",
    target_arch = "sparc",
    target_arch = "sparc64"
)) {
    None
} else {
    Some(16)
};

/// Returns the name of the signal with this number, which ended a process.
pub(crate) fn signal_name(number: i32) -> SignalName {
    if let Some((_, name)) = NAMES.iter().find(|(signal, _)| signal.as_raw() == number) {
        return *name;
    }
    name_on_this_system(number)
}

/// Returns the name of a signal that POSIX does not have, or whose number is no constant.
#[cfg(target_os = "linux")]
fn name_on_this_system(number: i32) -> SignalName {
    if Signal::POWER.as_raw() == number {
        return SignalName::Pwr;
    }
    if Some(number) == STKFLT {
        return SignalName::Stkflt;
    }
    // The first real-time signals of the kernel are reserved for the C library (`signal(7)`, Real-time signals), which
    // returns the first one that is not.
    let distance = (libc::SIGRTMIN()..=libc::SIGRTMAX()).position(|other| other == number);
    distance.and_then(|distance| distance.try_into().ok()).map_or(SignalName::Other, SignalName::RealTime)
}

#[cfg(not(target_os = "linux"))]
fn name_on_this_system(_: i32) -> SignalName {
    SignalName::Other
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;

    use super::*;

    /// Compares the names with those of bash, which come from the system's headers.
    #[test]
    fn each_standard_signal_number_maps_to_its_name() {
        let list = "for number in {1..31}; do kill -l $number; done";
        let output = Command::new("bash").args(["-c", list]).output().expect("bash is installed");
        let known = String::from_utf8(output.stdout).expect("names are text");
        let names: Vec<_> = (1..=31).map(|number| signal_name(number).to_string()).collect();
        let known: Vec<_> = known.lines().map(|name| format!("SIG{name}")).collect();
        assert_eq!(names, known);
    }

    #[test]
    fn real_time_signals_count_from_the_first_that_the_c_library_leaves() {
        let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
        assert_eq!(signal_name(first), SignalName::RealTime(0));
        assert_eq!(signal_name(first + 2), SignalName::RealTime(2));
        assert_eq!(signal_name(last), SignalName::RealTime((last - first) as u8));
        for number in [-1, 0, 32, first - 1, last + 1, i32::MAX] {
            assert_eq!(signal_name(number), SignalName::Other, "{number}");
        }
    }
}
