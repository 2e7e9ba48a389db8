//! Signals: those that the core sends to a process, and the names of those that end one.

/// The signals that the core sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a driver sends each")]
pub enum Signal {
    /// SIGTERM: QEMU shuts down in order.
    Terminate,
    /// SIGKILL: the kernel ends it.
    Kill,
}

/// The name of a signal that ended a process. The host maps the numbers of its operating system to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignalName {
    /// SIGHUP: the terminal was closed.
    Hup,
    /// SIGINT: Ctrl-C on the terminal.
    Int,
    /// SIGQUIT: Ctrl-\\ on the terminal.
    Quit,
    /// SIGILL: an instruction that the processor does not have.
    Ill,
    /// SIGTRAP: a breakpoint that no debugger took.
    Trap,
    /// SIGABRT: the program found a mistake in itself, by an assertion.
    Abrt,
    /// SIGBUS: memory whose file is gone or full.
    Bus,
    /// SIGFPE: a division by zero.
    Fpe,
    /// SIGKILL: sent by another process, or by the kernel when memory is short.
    Kill,
    /// SIGSEGV: memory that the process does not have.
    Segv,
    /// SIGPIPE: a pipe that no process reads.
    Pipe,
    /// SIGTERM: asked to end.
    Term,
    /// SIGXCPU: the limit of processor time is reached.
    Xcpu,
    /// SIGXFSZ: the limit of the size of a file is reached.
    Xfsz,
    /// SIGSYS: a system call that a filter forbids (`-sandbox on`).
    Sys,
    /// Another one: only its number is known.
    Other,
}

impl SignalName {
    /// As POSIX writes it; `None` for [`Other`](Self::Other).
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
