//! Names that every runtime re-exports to its users. Everything else of the core is under `core`.

pub use qemu_machine_core::{
    Accelerator, AcceleratorProbe, Accelerators, Address, Availability, Cause, Command, CommandError, Companion,
    CompanionEnd, CompanionFailure, Config, Deadline, Dialect, DiskFormat, Event, ExitStatus, ExtraMonitor, FOREVER,
    FaultKind, ForwardProtocol, Found, Gap, Hit, HostFault, HostForward, Identity, LaunchCause, LaunchError,
    LaunchFailure, Limits, Liveness, LogLevel, LogLine, Mark, Misuse, Monitor, OmitNull, OutOfBand, Outcome, Peer,
    ProcessAttributes, Progress, ProtocolError, RawReply, Refusal, Resource, Rung, Service, ServiceError, Shutdown,
    SignalName, State, Template, TemplateConfig, UntrustedText, Value, Wait, WaitError, WithRawReply, commands, json,
    procedure,
};

#[cfg(feature = "regex")]
pub use qemu_machine_core::PatternError;
#[cfg(feature = "schema")]
pub use qemu_machine_core::Schema;
#[cfg(feature = "record")]
pub use qemu_machine_core::record;

pub use crate::clock::until;
pub use crate::identity::IdentityError;
pub use crate::log_reader::LogReader;
#[cfg(feature = "record")]
pub use crate::play::play;
#[cfg(feature = "qapi")]
pub use crate::qapi::{self, Qapi};
pub use crate::registry::{Presence, Registered, registered};
pub use crate::shared_fd::descriptor;
pub use crate::template::{TemplateFileError, template_clone, template_source};
