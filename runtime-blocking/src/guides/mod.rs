//! Guides for those who come from somewhere else, and for those who are stuck. There is nothing here but words.
//!
//! | guide | for |
//! |---|---|
//! | [`from_python`] | those who know QEMU's Python classes: every member of theirs, and what stands for it here |
//! | [`from_qapi`] | those who speak QMP with the crate `qapi` or `qmp`: what each thing becomes |
//! | [`from_shell`] | those who test a kernel with a script, `sleep`, `nc` and `expect` |
//! | [`records`] | those who report a bug, and those who test without a QEMU (feature `record`) |
//! | [`troubleshooting`] | what an error means, and what to do: by symptom, in the words that are printed |

pub mod from_python;
pub mod from_qapi;
pub mod from_shell;
#[cfg(feature = "record")]
pub mod records;
pub mod troubleshooting;
