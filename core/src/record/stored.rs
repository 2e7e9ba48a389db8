//! Stored form of values in the lines of a record.
//!
//! It is private, so that no public type of this crate promises a serialized format. Each type has a mirror in
//! `stored_config.rs` or `stored_values.rs` (`#[serde(remote = …)]`): a mirror that lacks a field or a variant does not
//! compile.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::descriptor::Descriptor;

/// A value that is stored in the lines of a record.
pub(super) trait Stored: Sized {
    fn store<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;

    fn restore<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// For `#[serde(with = "stored")]`.
pub(super) fn serialize<T: Stored, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    value.store(to)
}

/// For `#[serde(with = "stored")]`.
pub(super) fn deserialize<'de, T: Stored, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::restore(from)
}

/// Stores types through their mirrors.
macro_rules! mirrored {
    ($($mirror:ident => $value:ty),+ $(,)?) => {
        $(
            impl crate::record::stored::Stored for $value {
                fn store<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    $mirror::serialize(self, to)
                }

                fn restore<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    $mirror::deserialize(from)
                }
            }
        )+
    };
}
pub(super) use mirrored;

/// A stored value inside another one, with serde's own traits.
struct Inner<T>(T);

impl<T: Stored> Serialize for Inner<&T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.store(to)
    }
}

impl<'de, T: Stored> Deserialize<'de> for Inner<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::restore(from).map(Self)
    }
}

impl<T: Stored> Stored for Vec<T> {
    fn store<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(Inner))
    }

    fn restore<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::<Inner<T>>::deserialize(from).map(|all| all.into_iter().map(|inner| inner.0).collect())
    }
}

impl<T: Stored> Stored for Option<T> {
    fn store<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(Inner).serialize(to)
    }

    fn restore<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Option::<Inner<T>>::deserialize(from).map(|value| value.map(|inner| inner.0))
    }
}

impl<T: Stored> Stored for Box<T> {
    fn store<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (**self).store(to)
    }

    fn restore<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::restore(from).map(Self::new)
    }
}

impl<T: Stored> Stored for (T, i32) {
    fn store<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (Inner(&self.0), self.1).serialize(to)
    }

    fn restore<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <(Inner<T>, i32)>::deserialize(from).map(|(inner, number)| (inner.0, number))
    }
}

/// A descriptor cannot be stored: it is restored as an empty one.
impl Stored for Descriptor {
    fn store<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }

    fn restore<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <()>::deserialize(from).map(Self::new)
    }
}
