#![doc = include_str!("../../docs/records.md")]

#[cfg(doc)]
#[allow(unused_imports, reason = "the links of the guide are found through it")]
use crate::*;
