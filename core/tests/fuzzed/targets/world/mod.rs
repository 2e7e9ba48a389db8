//! World of one machine: a caller, a host, a QEMU and a clock that do anything, and a reference model beside it.
//!
//! One definition for two tests: the fuzzer makes the actions from its bytes, and a property test of every build makes
//! them at random.

mod action;
mod model;
mod qemu;
mod system;

use arbitrary::Unstructured;

pub(crate) use action::{Action, Setup};
use system::World;

/// The most actions of a world. A longer one reaches nothing new.
const MOST: usize = 300;

pub(super) fn run(data: &[u8]) {
    let mut data = Unstructured::new(data);
    let Ok(setup) = data.arbitrary() else { return };
    let actions = core::iter::from_fn(|| if data.is_empty() { None } else { data.arbitrary().ok() });
    live(&setup, actions);
}

/// Performs the actions in a new world, and then ends it.
pub(crate) fn live<'a>(setup: &Setup, actions: impl Iterator<Item = Action<'a>>) {
    let mut world = World::new(setup);
    for action in actions.take(MOST) {
        world.apply(&action);
    }
    world.end();
}
