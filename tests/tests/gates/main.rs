//! Tests of costs that do not depend on the load of the host: allocations, bytes examined, bytes of a request.
//!
//! Durations are measured by `tests/bench` and asserted nowhere.

mod batches;
mod core;
mod requests;
mod runtimes;
mod waiting;

use std::hint::black_box;

/// Returns how many allocations this thread makes for each of many calls.
fn allocations_for_each(many: u64, mut act: impl FnMut()) -> f64 {
    let counted = allocation_counter::measure(|| (0..many).for_each(|_| act()));
    counted.count_total as f64 / many as f64
}

/// Without a working counter, every number here would be a zero that proves nothing.
#[test]
fn the_allocation_counter_counts() {
    let boxes = allocations_for_each(10, || drop(black_box(Box::new(black_box(1)))));
    assert_eq!(boxes.to_string(), "1");
}
