//! Complete program with its own mio loop. `Vm::ready` takes the events of the machine, and returns `false` for another.

use mio::{Events, Poll, Token};
use qemu_machine_mio::{Config, Notice, Shutdown, Vm};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut poll = Poll::new()?;
    let mut ready = Events::with_capacity(64);
    let mut tokens = (0..).map(Token);
    let config = Config::new("qemu-system-x86_64").args(["-machine", "none"]);
    let mut vm = Vm::launch(config, poll.registry(), || tokens.next().unwrap_or(Token(0)))?;
    let mut status = None;
    let outcome = loop {
        poll.poll(&mut ready, vm.timeout())?;
        for event in &ready {
            vm.ready(event);
        }
        while let Some(notice) = vm.turn(poll.registry()) {
            if notice == Notice::Ready {
                status = Some(vm.execute("query-status")?);
            }
            if let Some(reply) = status.as_ref().and_then(|ticket| vm.claim(ticket)) {
                println!("{}", reply?["status"]);
                vm.shutdown(Shutdown::default())?;
            }
        }
        if let Some(outcome) = vm.outcome() {
            break outcome;
        }
    };
    println!("{outcome}");
    vm.launched().ok_or("the launch has not finished")??;
    Ok(())
}
