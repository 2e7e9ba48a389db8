//! try
use qemu_machine_blocking::*;
use qemu_machine_tests::guest;
use std::time::{Duration, Instant};
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = guest::ImageFile::create()?;
    let t = Instant::now();
    let vm = Vm::launch(
        Config::new("qemu-system-x86_64")
            .args(["-accel", "kvm", "-accel", "tcg"])
            .args(guest::arguments(image.path()))
            .serial("tty"),
    )?;
    println!("launched {:?}", t.elapsed());
    println!("{:?}", vm.greeting());
    let hit =
        vm.wait_any(&Mark::default(), [Wait::text("tty", guest::GREETING), Wait::end()], Duration::from_secs(5))?;
    println!("{:?} {:?}", t.elapsed(), hit.found);
    for _ in 0..5 {
        let t = Instant::now();
        let s = vm.execute("query-status")?;
        println!("{s} {:?}", t.elapsed());
    }
    vm.type_on("tty", "p")?;
    println!("{}", vm.wait(Duration::from_secs(5))?);
    Ok(())
}
