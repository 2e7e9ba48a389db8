//! Guides for those who come from somewhere else. There is nothing here but words.

pub mod from_python;
