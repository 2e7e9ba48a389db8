//! Launch QEMU, speak QMP with it and own its life, from any async executor.

mod driver;
mod vm;
mod wires;

pub use driver::Driver;
pub use qemu_machine_core::*;
pub use vm::Vm;
