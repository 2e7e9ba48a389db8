#![doc = include_str!("../../docs/companions.md")]
