//! core
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod command;
mod command_line;
mod config;
mod console;
mod effect;
mod error;
mod event;
mod input;
pub mod lifecycle;
mod machine;
mod notice;
mod outbox;
mod outcome;
pub mod session;
mod time;
mod wait;
pub mod wire;

pub use command::{Command, CommandId, FromReply, OutOfBand, Payload, Raw, Ticket, Unread};
pub use command_line::{CommandLine, escape_commas};
pub use config::{Config, Limits};
pub use console::Console;
pub use effect::{Effect, Preparation, Signal, Spawn};
pub use error::{
    CommandError, HostFault, LaunchError, LaunchFailure, Misuse, Progress, ProtocolError, Refusal, WaitError,
};
pub use event::{Event, History, Timestamp, matches};
pub use input::{Channel, ExitStatus, Input, Prepared};
pub use lifecycle::{Phase, Rung, Shutdown, State, Why};
pub use machine::Machine;
pub use notice::Notice;
pub use outcome::{Cause, Outcome};
pub use serde_json::{Value, json};
pub use time::{Deadline, FOREVER, Moment};
pub use wait::{Found, Hit, Mark, Missed, Wait, WaitId};
