//! Property test of whole worlds, made at random: the machine and a reference model agree, whatever happens.
//!
//! The actions and the model are those of the fuzz target `world`.

use arbitrary::Unstructured;
use proptest::prelude::*;

use crate::fuzzed::targets::world::{Action, Setup, live};

/// Bytes that mean a setup or an action. A failing case is shown as what they mean.
macro_rules! meaning {
    ($name:ident, $meaning:ty) => {
        struct $name(Vec<u8>);

        impl $name {
            fn read(&self) -> $meaning {
                Unstructured::new(&self.0).arbitrary().expect("bytes that are missing are zero")
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.read().fmt(f)
            }
        }
    };
}

meaning!(SetupBytes, Setup);
meaning!(ActionBytes, Action<'_>);

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 48)
}

proptest! {
    /// The fuzzer finds rare worlds; this finds common faults in every build.
    #[test]
    fn a_machine_and_its_model_agree_whatever_happens(
        setup in bytes().prop_map(SetupBytes),
        actions in prop::collection::vec(bytes().prop_map(ActionBytes), 0..120),
    ) {
        live(&setup.read(), actions.iter().map(ActionBytes::read));
    }
}
