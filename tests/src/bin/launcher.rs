//! Proves nothing by itself: it launches a machine as an ordinary program would, prints the ids of its processes, and
//! waits to be killed. Given a line, it shuts the machine down and prints the outcome.
//!
//!     launcher TEMPORARY-DIRECTORY [WRAPPER...]

use std::error::Error;
use std::io::stdin;

use qemu_machine_blocking::{Config, Shutdown, Vm};
use qemu_machine_tests::{census, qemu};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: launcher TEMPORARY-DIRECTORY [WRAPPER...]")?;
    let config = Config::new(qemu()).machine("none").temporary_directory(directory).wrapper(arguments);
    let vm = Vm::launch(config)?;
    let pids = census::descendants(std::process::id());
    println!("{}", pids.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(" "));
    // Until its end, which comes if the test dies before it kills us; or until we are told to end.
    stdin().read_line(&mut String::new())?;
    println!("{}", vm.shutdown(Shutdown::default())?);
    Ok(())
}
