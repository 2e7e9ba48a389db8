//! Proves what speed is made of, as far as noise cannot touch it: allocations, bytes examined, bytes of a request.
//!
//! How long things take is measured by `tests/bench`, and asserted nowhere.

mod core;
mod requests;
mod runtimes;

use std::hint::black_box;

/// How many allocations this thread makes for one of many.
fn allocations_for_each(many: u64, mut act: impl FnMut()) -> f64 {
    let counted = allocation_counter::measure(|| (0..many).for_each(|_| act()));
    counted.count_total as f64 / many as f64
}

/// What counts, counts: without the counter, each number here would be a zero that proves nothing.
#[test]
fn the_counter_counts() {
    let boxes = allocations_for_each(10, || drop(black_box(Box::new(black_box(1)))));
    assert_eq!(boxes.to_string(), "1");
}
