//! Guides: how to move from other tools to this crate, how to record a run, and how to read an error. No code.
//!
//! | guide | for | answers |
//! |---|---|---|
//! | [`from_python`] | users of QEMU's Python classes | the counterpart of every member, and the differences |
//! | [`from_qapi`] | users of the crates `qapi` and `qmp` | the counterpart of every item, and the differences |
//! | [`from_shell`] | authors of scripts with `sleep`, `nc` and `expect` | what goes wrong, and the same test here |
//! | [`records`] | users who report a bug, authors of tests | recording, redacting, replaying (feature `record`) |
//! | [`schedulers`] | users of Kubernetes, Slurm, systemd or ssh | what each guarantees for machines, and what it cannot |
//! | [`troubleshooting`] | users who see an error | what each message means, and what to do |

pub mod from_python;
pub mod from_qapi;
pub mod from_shell;
#[cfg(feature = "record")]
pub mod records;
pub mod schedulers;
pub mod troubleshooting;
