//! Decides how bytes become messages and how commands become bytes.

mod body;
pub(crate) mod encode;
mod envelope;
mod framing;
mod message;
mod name;
mod scan;

pub use encode::Encoded;
pub use framing::{Frame, Framer};
pub use message::{ErrorReply, Greeting, Message, Numbers, Version};
pub(crate) use name::{CommandName, name_of};
