//! Launch QEMU, speak QMP with it and own its life, from your own mio loop.

mod desk;
mod sources;
mod vm;

pub use desk::Desk;
pub use qemu_machine_core::*;
pub use vm::Vm;
