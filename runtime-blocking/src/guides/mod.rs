//! Guides: how to move from other tools to this crate, how to run other programs beside QEMU, how to record a run, how to
//! start from a booted machine, and how to read an error. No code.
//!
//! | guide | for | answers |
//! |---|---|---|
//! | [`from_python`] | users of QEMU's Python classes | the counterpart of every member, and the differences |
//! | [`from_qmp_shell`] | users of QEMU's `qmp-shell` | the same sessions in the shell `qmpsh`, and the differences |
//! | [`from_qapi`] | users of the crates `qapi` and `qmp` | the counterpart of every item, and the differences |
//! | [`from_shell`] | authors of scripts with `sleep`, `nc` and `expect` | what goes wrong, and the same test here |
//! | [`companions`] | users of virtiofsd, swtpm, passt and vhost-user backends | how these programs start and end with the machine |
//! | [`records`] | users who report a bug, authors of tests | recording, redacting, replaying (feature `record`) |
//! | [`schedulers`] | users of Kubernetes, Slurm, systemd or ssh | what each guarantees for machines, and what it cannot |
//! | [`templates`] | authors of tests that need a booted machine | booting once, clones that start in milliseconds, what is the same in all |
//! | [`troubleshooting`] | users who see an error | what each message means, and what to do |

pub mod companions;
pub mod from_python;
pub mod from_qapi;
pub mod from_qmp_shell;
pub mod from_shell;
#[cfg(feature = "record")]
pub mod records;
pub mod schedulers;
pub mod templates;
pub mod troubleshooting;
