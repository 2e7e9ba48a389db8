#![doc = include_str!("../../docs/templates.md")]

#[cfg(doc)]
#[allow(unused_imports, reason = "the links of the guide resolve through it")]
use crate::*;
