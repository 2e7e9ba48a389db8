//! Complete program on tokio: an event and the end in one `select!`, which drops the future that completes second.

use std::time::Duration;

use qemu_machine_tokio::{Config, Shutdown, Vm, Wait};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The driver is a task of this runtime.
    let vm = Vm::launch(Config::new("qemu-system-x86_64").args(["-machine", "none"])).await?;
    let start = vm.mark();
    vm.execute("stop").await?;
    tokio::select! {
        hit = vm.wait_any(&start, [Wait::event("STOP")], Duration::from_secs(10)) => println!("{:?}", hit?.found),
        outcome = vm.wait(Duration::from_secs(10)) => println!("{}", outcome?),
    }
    println!("{}", vm.shutdown(Shutdown::default()).await?);
    Ok(())
}
