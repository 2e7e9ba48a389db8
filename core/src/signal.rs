//! Signals that the core sends to a process, and names of the signals that end one.

use core::fmt;

/// The signals that the core sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[allow(clippy::exhaustive_enums, reason = "a driver sends each")]
pub enum Signal {
    /// SIGTERM: QEMU shuts down in order, and exits with status 0 (measured with QEMU 7.2.22).
    Terminate,
    /// SIGKILL: the kernel ends the process. A process cannot catch it (`signal(7)`).
    Kill,
}

/// Name of a signal that ended a process (`signal(7)`). The host maps the numbers of its operating system to these.
///
/// `{}` displays it as in POSIX, for example `SIGTERM` or `SIGRTMIN+2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[non_exhaustive]
pub enum SignalName {
    /// SIGHUP: the terminal was closed.
    Hup,
    /// SIGINT: Ctrl-C on the terminal.
    Int,
    /// SIGQUIT: Ctrl-\\ on the terminal.
    Quit,
    /// SIGILL: an illegal instruction, for example one that the processor does not support.
    Ill,
    /// SIGTRAP: a breakpoint without a debugger.
    Trap,
    /// SIGABRT: `abort(3)`, mostly after a failed assertion.
    Abrt,
    /// SIGBUS: an access to memory whose backing file is truncated, or whose file system is full.
    Bus,
    /// SIGFPE: an arithmetic error, such as a division by zero.
    Fpe,
    /// SIGKILL: sent by another process, or by the kernel's OOM killer.
    Kill,
    /// SIGUSR1: defined by the program that sends it.
    Usr1,
    /// SIGSEGV: an invalid memory access.
    Segv,
    /// SIGUSR2: defined by the program that sends it.
    Usr2,
    /// SIGPIPE: a write to a pipe that no process reads.
    Pipe,
    /// SIGALRM: a timer of `alarm(2)`.
    Alrm,
    /// SIGTERM: a request to terminate.
    Term,
    /// SIGSTKFLT: unused. Some architectures do not have it.
    Stkflt,
    /// SIGCHLD: a child ended. The signal ends no process.
    Chld,
    /// SIGCONT: continue after a stop. The signal ends no process.
    Cont,
    /// SIGSTOP: stop. The signal ends no process.
    Stop,
    /// SIGTSTP: Ctrl-Z on the terminal. The signal ends no process.
    Tstp,
    /// SIGTTIN: a background process reads from the terminal. The signal ends no process.
    Ttin,
    /// SIGTTOU: a background process writes to the terminal. The signal ends no process.
    Ttou,
    /// SIGURG: urgent data on a socket. The signal ends no process.
    Urg,
    /// SIGXCPU: the limit of processor time is exceeded (`setrlimit(2)`).
    Xcpu,
    /// SIGXFSZ: the limit of the file size is exceeded (`setrlimit(2)`).
    Xfsz,
    /// SIGVTALRM: a timer of processor time in user mode (`setitimer(2)`).
    Vtalrm,
    /// SIGPROF: a timer of processor time (`setitimer(2)`).
    Prof,
    /// SIGWINCH: the terminal has another size. The signal ends no process.
    Winch,
    /// SIGIO: a descriptor is ready (`fcntl(2)`, `O_ASYNC`).
    Io,
    /// SIGPWR: a power failure.
    Pwr,
    /// SIGSYS: a system call that a filter forbids (`-sandbox on`).
    Sys,
    /// A real-time signal, by its distance from SIGRTMIN. The C library reserves the first numbers of the kernel for
    /// itself (`signal(7)`, Real-time signals), so that SIGRTMIN depends on it.
    RealTime(u8),
    /// Any other signal, known only by its number.
    Other,
}

impl SignalName {
    /// Returns the name as in POSIX, for example `SIGTERM`. `None` means [`RealTime`](Self::RealTime), which has a
    /// number in its name, or [`Other`](Self::Other).
    #[must_use]
    pub fn as_str(self) -> Option<&'static str> {
        Some(match self {
            Self::Hup => "SIGHUP",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Ill => "SIGILL",
            Self::Trap => "SIGTRAP",
            Self::Abrt => "SIGABRT",
            Self::Bus => "SIGBUS",
            Self::Fpe => "SIGFPE",
            Self::Kill => "SIGKILL",
            Self::Usr1 => "SIGUSR1",
            Self::Segv => "SIGSEGV",
            Self::Usr2 => "SIGUSR2",
            Self::Pipe => "SIGPIPE",
            Self::Alrm => "SIGALRM",
            Self::Term => "SIGTERM",
            Self::Stkflt => "SIGSTKFLT",
            Self::Chld => "SIGCHLD",
            Self::Cont => "SIGCONT",
            Self::Stop => "SIGSTOP",
            Self::Tstp => "SIGTSTP",
            Self::Ttin => "SIGTTIN",
            Self::Ttou => "SIGTTOU",
            Self::Urg => "SIGURG",
            Self::Xcpu => "SIGXCPU",
            Self::Xfsz => "SIGXFSZ",
            Self::Vtalrm => "SIGVTALRM",
            Self::Prof => "SIGPROF",
            Self::Winch => "SIGWINCH",
            Self::Io => "SIGIO",
            Self::Pwr => "SIGPWR",
            Self::Sys => "SIGSYS",
            Self::RealTime(_) | Self::Other => return None,
        })
    }
}

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.as_str()) {
            (_, Some(name)) => f.write_str(name),
            (Self::RealTime(0), None) => f.write_str("SIGRTMIN"),
            (Self::RealTime(distance), None) => write!(f, "SIGRTMIN+{distance}"),
            (_, None) => f.write_str("a signal without a name"),
        }
    }
}
