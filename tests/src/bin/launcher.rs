//! Proves nothing by itself: it launches a machine as an ordinary program would, prints the ids of its processes, and
//! waits to be killed. Given a line, it shuts the machine down and prints the whole outcome. With `--keep`, the machine
//! is one to be kept, and what is printed is its identity.
//!
//!     launcher [--keep] TEMPORARY-DIRECTORY [WRAPPER...]

use std::error::Error;
use std::io::stdin;

use qemu_machine_blocking::{Config, Shutdown, Vm, json};
use qemu_machine_tests::{leak_check, qemu};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let keeps = arguments.next_if_eq("--keep").is_some();
    let directory = arguments.next().ok_or("usage: launcher [--keep] TEMPORARY-DIRECTORY [WRAPPER...]")?;
    let config = Config::new(qemu()).machine("none").temporary_directory(directory).wrapper(arguments);
    let vm = Vm::launch(if keeps { config.outlive_parent() } else { config })?;
    if keeps {
        println!("{}", json!(vm.identity()?));
    } else {
        let pids = leak_check::descendants(std::process::id());
        println!("{}", pids.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(" "));
    }
    // Until its end, which comes if the test dies before it kills us; or until we are told to end.
    stdin().read_line(&mut String::new())?;
    println!("{:#}", vm.shutdown(Shutdown::default())?);
    Ok(())
}
