//! Launch QEMU, speak QMP with it and own its life, with plain threads and calls that block.

#[cfg(not(target_os = "linux"))]
compile_error!("the runtimes need Linux 5.4 or later: processes are watched by pidfd and epoll");

mod driver;
pub mod host;
mod vm;
mod wires;

pub use qemu_machine_core::*;
pub use vm::Vm;

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
