//! Proves that a port can be attached to again and again in one loop, by one after the other who just goes away. Alone in
//! its process, so that descriptors get the numbers that others just had.

use qemu_machine_core::{Config, Misuse, Phase, Service, State};
use qemu_machine_mio::{EventLoop, Vm};
use qemu_machine_tests::{bounded, qemu};

#[test]
fn one_that_was_dropped_is_not_in_the_way_of_the_next() {
    bounded(|| {
        let mut event_loop = EventLoop::new().unwrap();
        let config = Config::new(qemu()).args(["-accel", "tcg", "-S"]).guest_agent();
        let mut vms = vec![launch(config, &mut event_loop)];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        for number in 0..10 {
            let port = vms[0].service(Service::GuestAgent).unwrap();
            assert_eq!(vms[0].service(Service::GuestAgent), Err(Misuse::ServiceInUse(Service::GuestAgent)));
            vms.push(launch(port, &mut event_loop));
            // There is no agent in this guest; but the connection is open, and the question is on its way.
            let state = vms[1].machine().state();
            assert_eq!(state, State::Launching(Phase::Syncing), "{number}: {:?}", vms[1].launched());
            vms.truncate(1);
        }
    });
}

fn launch(config: Config, event_loop: &mut EventLoop) -> Vm {
    let (registry, tokens) = event_loop.parts();
    Vm::launch(config, registry, tokens).unwrap()
}
