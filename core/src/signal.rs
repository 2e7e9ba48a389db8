//! Signals that the core sends to a process, and names of the signals that end one.

/// The signals that the core sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a driver sends each")]
pub enum Signal {
    /// SIGTERM: QEMU shuts down in order, and exits with status 0 (measured with QEMU 7.2.22).
    Terminate,
    /// SIGKILL: the kernel ends the process. A process cannot catch it (`signal(7)`).
    Kill,
}

/// Name of a signal that ended a process (`signal(7)`). The host maps the numbers of its operating system to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// SIGSEGV: an invalid memory access.
    Segv,
    /// SIGPIPE: a write to a pipe that no process reads.
    Pipe,
    /// SIGTERM: a request to terminate.
    Term,
    /// SIGXCPU: the limit of processor time is exceeded (`setrlimit(2)`).
    Xcpu,
    /// SIGXFSZ: the limit of the file size is exceeded (`setrlimit(2)`).
    Xfsz,
    /// SIGSYS: a system call that a filter forbids (`-sandbox on`).
    Sys,
    /// Any other signal, known only by its number.
    Other,
}

impl SignalName {
    /// Returns the name as in POSIX, for example `SIGTERM`. `None` means [`Other`](Self::Other).
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
            Self::Segv => "SIGSEGV",
            Self::Pipe => "SIGPIPE",
            Self::Term => "SIGTERM",
            Self::Xcpu => "SIGXCPU",
            Self::Xfsz => "SIGXFSZ",
            Self::Sys => "SIGSYS",
            Self::Other => return None,
        })
    }
}
