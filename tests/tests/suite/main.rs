//! Suite of stories: tests that are written once, run on every row, and must have the same transcript on each.
//!
//! A row is one runtime and executor that drives the core: the simulated world, threads, mio, tokio with either flavour of
//! its runtime, or smol under one of several executors. Stories with a script run on all rows, stories with the real QEMU
//! on all but the simulated world. Without the feature `all-rows` there is only the row of `blocking`.

#![cfg_attr(not(feature = "all-rows"), allow(dead_code, reason = "the other rows are not built"))]

mod accelerators;
mod after_the_end;
mod batches;
mod boards;
mod cancelled;
mod cgroups;
mod companion_settings;
mod companions;
mod companions_launch;
mod copies;
mod descriptor_sets;
mod detachable;
mod extra_monitors;
mod failed_procedures;
mod given_descriptors;
mod harness;
mod host_forwards;
mod hosted;
mod human_monitor;
mod in_world;
mod killed;
mod left_out;
mod lifetime;
mod liveness;
mod log;
mod on_mio;
mod on_tasks;
mod original_bytes;
mod power;
mod procedures;
mod python;
mod real;
mod recorded;
mod remote;
mod replies;
mod resync;
mod scripted;
mod shells;
mod short_lived;
mod subscriptions;
mod templates;
mod torture;
mod virtiofs;
mod wire;

use harness::Harness;

/// Defines one test for each story on each row that has processes, and with `in_world` also in the simulated world. With
/// `strict` the stories also run on a QEMU that accepts nothing deprecated: those in which the library chooses commands,
/// events and arguments. A new runtime is one more line here.
macro_rules! rows {
    ($stories:ident) => {
        crate::rows! { @each $stories: blocking = qemu_machine_blocking::Vm }
        #[cfg(feature = "all-rows")]
        crate::rows! { @each $stories:
            mio = crate::on_mio::Mio,
            smol_on_smol = crate::on_tasks::Tasks<crate::on_tasks::OnSmol>,
            smol_on_async_std = crate::on_tasks::Tasks<crate::on_tasks::OnAsyncStd>,
            smol_on_tokio = crate::on_tasks::Tasks<crate::on_tasks::OnTokio>,
            smol_on_block_on = crate::on_tasks::Tasks<crate::on_tasks::OnBlockOn>,
            tokio_current = crate::on_tasks::Tasks<crate::on_tasks::TokioCurrent>,
            tokio_multi = crate::on_tasks::Tasks<crate::on_tasks::TokioMulti>,
            impatient = crate::on_tasks::Tasks<crate::on_tasks::Impatient>,
        }
    };
    ($stories:ident, in_world) => {
        crate::rows!($stories);
        #[cfg(feature = "all-rows")]
        crate::rows! { @each $stories: in_world = crate::in_world::InWorld }
    };
    ($stories:ident, strict) => {
        crate::rows!($stories);
        #[cfg(feature = "all-rows")]
        crate::rows! { @each $stories: strict = crate::on_tasks::Tasks<crate::on_tasks::Strict> }
    };
    (@each $stories:ident: $($row:ident = $harness:ty),+ $(,)?) => {
        $(
            mod $row {
                $stories!($harness);
            }
        )+
    };
}
pub(crate) use rows;

/// Defines one test for each story on one row. These stories contain their own assertions.
macro_rules! prove {
    ($harness:ty: $($story:ident)+) => {
        $(
            #[test]
            fn $story() {
                if !crate::left_out::is_left_out(module_path!(), stringify!($story)) {
                    qemu_machine_tests::bounded(super::$story::<$harness>);
                }
            }
        )+
    };
}
pub(crate) use prove;

/// Defines one test for each story on one row, with the transcript that it must have.
macro_rules! each {
    ($harness:ty: $($story:ident [$($line:expr),* $(,)?])+) => {
        $(
            #[test]
            fn $story() {
                if !crate::left_out::is_left_out(module_path!(), stringify!($story)) {
                    crate::tell::<$harness>(super::$story::<$harness>, &[$($line),*]);
                }
            }
        )+
    };
}
pub(crate) use each;

/// Runs a story and compares its transcript. A story that does not end fails the test instead of blocking it.
fn tell<H: Harness>(story: fn() -> harness::Transcript, expected: &[&str]) {
    let told = qemu_machine_tests::bounded(story);
    assert_eq!(told.lines(), expected, "on the row {}", H::ROW);
}
