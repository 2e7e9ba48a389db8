//! Proves that a port can be attached to again and again in one loop, by one after the other who just goes away. Alone in
//! its process, so that descriptors get the numbers that others just had.

use qemu_machine_core::{Config, Port};
use qemu_machine_mio::{Desk, Vm};
use qemu_machine_tests::{bounded, qemu};

#[test]
fn one_that_was_dropped_is_not_in_the_way_of_the_next() {
    bounded(|| {
        let mut desk = Desk::new().unwrap();
        let config = Config::new(qemu()).machine("none").qtest();
        let mut vms = vec![launch(config, &mut desk)];
        desk.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        for number in 0..10 {
            let port = vms[0].port(Port::Qtest).unwrap();
            vms.push(launch(port, &mut desk));
            desk.run(&mut vms, |vms| vms[1].launched()).unwrap().unwrap_or_else(|error| panic!("{number}: {error}"));
            let line = vms[1].execute_line("endianness").unwrap();
            let told = desk.run(&mut vms, |vms| vms[1].claim(&line)).unwrap();
            assert_eq!(told.as_deref(), Ok("little"), "{number}");
            vms.truncate(1);
        }
    });
}

fn launch(config: Config, desk: &mut Desk) -> Vm {
    let (registry, tokens) = desk.parts();
    Vm::launch(config, registry, tokens).unwrap()
}
