//! Proves that all runtimes behave alike: each story is told once, and every row must tell it in the same words.
//!
//! A row is a way to drive the core: in a simulated world, with threads, with mio, or with smol under several
//! executors. Stories with a script run on all of them; stories with the real QEMU on all but the simulated world.

mod detachable;
mod harness;
mod hosted;
mod in_world;
mod liveness;
mod on_mio;
mod on_smol;
mod procedures;
mod python;
mod real;
mod recorded;
mod scripted;
mod subscriptions;
mod torture;

use harness::Harness;

/// One test for each story on each row that has processes; with `in_world` also in the simulated world. A new runtime is
/// one more line here.
macro_rules! rows {
    ($stories:ident) => {
        crate::rows! { @each $stories:
            blocking = qemu_machine_blocking::Vm,
            mio = crate::on_mio::Mio,
            smol_on_smol = crate::on_smol::Smol<crate::on_smol::OnSmol>,
            smol_on_async_std = crate::on_smol::Smol<crate::on_smol::OnAsyncStd>,
            smol_on_tokio = crate::on_smol::Smol<crate::on_smol::OnTokio>,
            smol_on_block_on = crate::on_smol::Smol<crate::on_smol::OnBlockOn>,
            impatient = crate::on_smol::Smol<crate::on_smol::Impatient>,
        }
    };
    ($stories:ident, in_world) => {
        crate::rows!($stories);
        crate::rows! { @each $stories: in_world = crate::in_world::InWorld }
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

/// One test for each story on one row; these prove by themselves what they promise.
macro_rules! prove {
    ($harness:ty: $($story:ident)+) => {
        $(
            #[test]
            fn $story() {
                qemu_machine_tests::bounded(super::$story::<$harness>);
            }
        )+
    };
}
pub(crate) use prove;

/// One test for each story on one row, with the words that it must be told in.
macro_rules! each {
    ($harness:ty: $($story:ident [$($line:expr),* $(,)?])+) => {
        $(
            #[test]
            fn $story() {
                crate::tell::<$harness>(super::$story::<$harness>, &[$($line),*]);
            }
        )+
    };
}
pub(crate) use each;

/// A test that fails, and does not hang, when a story does not come to its end.
fn tell<H: Harness>(story: fn() -> harness::Transcript, expected: &[&str]) {
    let told = qemu_machine_tests::bounded(story);
    assert_eq!(told.lines(), expected, "on the row {}", H::ROW);
}
