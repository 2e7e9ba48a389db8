//! Complete program with plain threads: one waits for an event while another executes a command.

use std::thread;
use std::time::Duration;

use qemu_machine_blocking::{Config, Mark, Shutdown, Vm, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let vm = Vm::launch(Config::new("qemu-system-x86_64").args(["-machine", "none"]))?;
    let watcher = vm.clone();
    let stopped =
        thread::spawn(move || watcher.wait_any(&Mark::default(), [Wait::event("STOP")], Duration::from_secs(10)));
    vm.execute("stop")?;
    println!("{:?}", stopped.join().map_err(|_| "the watcher panicked")??.found);
    println!("{}", vm.shutdown(Shutdown::default())?);
    Ok(())
}
