//! Tests of the program `kernel-test`, on the real QEMU with Debian's kernel. Each test boots one guest or two, and as many
//! run at once as there are processors.

mod exits;
mod files;
mod kvm;
mod outputs;
mod pages;
mod readme;
mod replaced;
mod results;
mod run;
mod shares;
mod terminal;
