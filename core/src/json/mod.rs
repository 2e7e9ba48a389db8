//! Readers of JSON text that do not recurse: a cursor, and a decoder of deep values.

mod cursor;
mod decode;

pub(crate) use cursor::{Cursor, Token};
pub use decode::drop_deep;
pub(crate) use decode::{read, read_value};
