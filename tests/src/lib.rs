//! The parts that tests share.

pub mod guest;
