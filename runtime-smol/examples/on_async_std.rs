//! Complete program on async-std. That executor is discontinued; the example shows that no particular one is needed.

use qemu_machine_smol::{Config, Shutdown, Vm};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    async_std::task::block_on(async {
        let vm = Vm::launch(Config::new("qemu-system-x86_64").args(["-machine", "none"])).await?;
        let asker = vm.clone();
        let status = async_std::task::spawn(async move { asker.execute("query-status").await });
        println!("{}", status.await?["status"]);
        println!("{}", vm.shutdown(Shutdown::default()).await?);
        Ok(())
    })
}
