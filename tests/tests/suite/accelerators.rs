//! Stories of accelerators on the real QEMU of this architecture and of others.

use qemu_machine_core::{Availability, COMMAND_WITHIN, Config};
use qemu_machine_tests::{installed, qemu};

use crate::hosted::Hosted;
use crate::rows;

/// A QEMU of Linux has none of another operating system, and KVM only for the architecture of the host.
fn accelerators_are_asked<H: Hosted>() {
    for program in [qemu(), installed("qemu-system-aarch64"), installed("qemu-system-s390x")] {
        let found = H::accelerators(&Config::new(program)).unwrap_or_else(|error| panic!("{error}"));
        let is = |name, availability| found.get(name).expect("it is known").availability == availability;
        assert!(is("tcg", Availability::Works), "{program}: {found}");
        for name in ["hvf", "nvmm", "whpx"] {
            assert!(is(name, Availability::NotBuilt), "{program}: {found}");
        }
        assert_eq!(is("kvm", Availability::NotBuilt), !program.ends_with(std::env::consts::ARCH), "{program}: {found}");
        // QEMU uses the first that works.
        let config = Config::new(program).machine("none").accelerators(found.working());
        let mut machine = H::launch(config).unwrap_or_else(|error| panic!("{error}"));
        let kvm = machine.execute("query-kvm", COMMAND_WITHIN).expect("QEMU replies");
        assert_eq!(kvm["enabled"], is("kvm", Availability::Works), "{program}: {found}");
    }
}

fn a_program_that_does_not_exist_has_no_accelerators<H: Hosted>() {
    let error = H::accelerators(&Config::new("no-such-qemu")).expect_err("there is no such program");
    assert!(error.to_string().starts_with("launch failed: cannot execute `no-such-qemu`"), "{error}");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            accelerators_are_asked
            a_program_that_does_not_exist_has_no_accelerators
        }
    };
}

rows!(stories);
