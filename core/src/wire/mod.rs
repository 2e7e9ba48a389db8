//! Wire format: the module that turns bytes into messages and commands into bytes.

mod body;
pub(crate) mod encode;
mod envelope;
mod framing;
mod message;
mod scan;

pub use encode::Encoded;
pub use framing::{Frame, Framer};
pub(crate) use message::has_id;
pub use message::{ErrorReply, Greeting, Message, Numbers, Version};
pub(crate) use scan::find_special;
