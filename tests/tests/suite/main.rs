//! Proves that all runtimes behave alike: each story is told once, and every row must tell it in the same words.
//!
//! A row is a way to drive the core: in a simulated world, with threads, with mio, or with smol under several
//! executors. Stories with a script run on all of them; stories with the real QEMU on all but the simulated world.

mod harness;
mod in_world;
mod on_mio;
mod on_smol;
mod real;
mod scripted;

use harness::Harness;

/// One test for each story on each row.
macro_rules! rows {
    ($stories:ident: $($row:ident = $harness:ty),+ $(,)?) => {
        $(
            mod $row {
                #[allow(unused_imports, reason = "each row needs only its own harness")]
                use super::*;

                $stories!($harness);
            }
        )+
    };
}
pub(crate) use rows;

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
