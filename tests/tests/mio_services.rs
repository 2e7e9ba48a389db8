//! Test of many clients that attach to one service in one loop, each dropped before the next. The test is alone in its
//! process, so that each descriptor gets the number of the one before.

use qemu_machine_core::{Config, Misuse, Phase, Service, State};
use qemu_machine_mio::{EventLoop, Vm};
use qemu_machine_tests::{bounded, qemu};

#[test]
fn a_dropped_client_does_not_block_the_next() {
    bounded(|| {
        let mut event_loop = EventLoop::new().unwrap();
        let config = Config::new(qemu()).args(["-accel", "tcg", "-S"]).guest_agent();
        let mut vms = vec![launch(config, &mut event_loop)];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        for number in 0..10 {
            let port = vms[0].service(Service::GuestAgent).unwrap();
            assert_eq!(vms[0].service(Service::GuestAgent), Err(Misuse::ServiceInUse(Service::GuestAgent)));
            vms.push(launch(port, &mut event_loop));
            // The guest has no agent, but the connection is open and the synchronisation is under way.
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
