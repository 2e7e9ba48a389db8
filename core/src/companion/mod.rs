//! Companions of a machine: the programs that start before QEMU and end after it, and their states as plain data.
//!
//! [`Companion`] describes a program. [`Companions`] follows those of one run, apart from the
//! [`Lifecycle`](crate::lifecycle::Lifecycle) of QEMU: the machine starts QEMU when all of them are ready, and removes the
//! files of the run when all of them are gone.
#![deny(clippy::wildcard_enum_match_arm, reason = "a new state must be considered in every transition")]

mod companions;
mod definition;
mod failure;
mod io;

pub use companions::{Companions, Policy, Stage};
pub(crate) use definition::Backend;
#[cfg(feature = "record")]
pub(crate) use definition::SocketArgument;
pub use definition::{Companion, CompanionSocket};
pub use failure::CompanionFailure;
pub use io::{Input, Output};
