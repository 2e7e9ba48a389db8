//! Test of guests that end at once: two hundred launches end as the guest decides, on threads.

use std::collections::BTreeSet;

use qemu_machine_blocking::{ExitStatus, Vm};
use qemu_machine_tests::PATIENCE;
use qemu_machine_tests::guest::tiny::GUESTS;
use qemu_machine_tests::leak_check::{bytes, leaving_nothing};

#[test]
fn g27_two_hundred_guests_that_end_at_once() {
    leaving_nothing(|scratch| {
        let images: Vec<_> = GUESTS.iter().map(|guest| guest.image().unwrap()).collect();
        let mut ends = [const { BTreeSet::new() }; GUESTS.len()];
        for index in (0..GUESTS.len()).cycle().take(200) {
            let guest = &GUESTS[index];
            let config = guest.config(&images[index]).temporary_directory(bytes(scratch));
            let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{}: {error}", guest.name));
            let outcome = vm.wait(PATIENCE).unwrap();
            assert!(guest.causes.contains(&outcome.cause), "{}: {}, {}", guest.name, outcome.cause, outcome.log);
            assert_eq!(outcome.exit, Some(ExitStatus::Code(guest.exit_code)), "{}", guest.name);
            ends[index].insert(outcome.cause.to_string());
        }
        assert!(ends.iter().all(|causes| causes.len() == 1), "{ends:?}");
    });
}
