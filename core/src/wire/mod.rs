//! Decides how bytes become messages and how commands become bytes.

pub mod encode;
pub mod framing;
pub mod message;

pub use framing::{Frame, Framer};
pub use message::{Greeting, Message, Version};
