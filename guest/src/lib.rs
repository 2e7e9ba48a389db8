//! Tests of kernels: runs a command in a Linux guest, and returns its exit code and the tests that it reported.
//!
//! The program `kernel-test` of this package does it at a prompt and in continuous integration:
//! [the guide](guide) shows it. This library is the same for programs:
//!
//! | to | use |
//! |---|---|
//! | run a command under a kernel | [`KernelTest`], whose [`run`](KernelTest::run) returns a [`Report`] |
//! | know why there is no exit code | [`Failure`]: a panic, a hang, an early end, … |
//! | write results for continuous integration | [`junit`], [`tap`], and [`html`], a page for a browser |
//! | read KTAP from your own console | [`ktap::Parser`], and the [`Case`]s that it returns |
//! | build your own initramfs | [`Archive`], and [`Modules`] with their dependencies in loading order |
//!
//! The guest is an x86_64 machine. Its machine is one of `qemu-machine-blocking`: it ends with this program, however that
//! ends, and no file is left. A kernel needs no driver but that of the serial port (`CONFIG_SERIAL_8250_CONSOLE`), and
//! support for an initramfs (`CONFIG_BLK_DEV_INITRD`) and ELF programs. Disks, directories and the agent need drivers of
//! virtio, built in or as modules.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a guest must not end the program")]

mod agent;
mod archive;
mod case;
mod dry_run;
mod failure;
mod file_server;
mod guest_reports;
mod host_files;
mod html;
mod initramfs;
mod junit;
mod kernel;
mod kernel_test;
pub mod ktap;
mod kvm;
mod machine;
mod modules;
mod output;
mod qemu_option;
mod quiet;
mod recorded;
mod replace;
mod report;
mod run;
mod shares;
mod tap;
mod unnamed;

/// The guide of the program `kernel-test`.
#[doc = include_str!("../docs/kernel_test.md")]
pub mod guide {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use archive::{Archive, ArchiveError};
pub use case::{Case, Verdict, leaves};
pub use failure::Failure;
pub use host_files::default_kernel;
pub use html::html;
pub use junit::junit;
pub use kernel::kernel_release;
pub use kernel_test::{Accel, CopyOut, Disk, KernelTest, Printed, Share, ShareBy};
pub use modules::{Module, ModuleError, Modules};
pub use output::check_outputs;
pub use replace::write_output;
pub use report::Report;
pub use tap::tap;
