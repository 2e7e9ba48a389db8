//! Complete program on smol: two tasks share one machine.

use std::time::Duration;

use qemu_machine_smol::{Config, Mark, Shutdown, Vm, Wait};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let vm = Vm::launch(Config::new("qemu-system-x86_64").args(["-machine", "none"])).await?;
        let watcher = vm.clone();
        let stopped = smol::spawn(async move {
            watcher.wait_any(&Mark::default(), [Wait::event("STOP")], Duration::from_secs(10)).await
        });
        vm.execute("stop").await?;
        println!("{:?}", stopped.await?.found);
        println!("{}", vm.shutdown(Shutdown::default()).await?);
        Ok(())
    })
}
