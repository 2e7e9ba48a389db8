//! Program that launches a machine as an ordinary user would, for tests that kill it.
//!
//! It prints the pids of its processes, and waits. On a line of standard input, or its end, it shuts the machine down
//! and prints the whole outcome. With `--keep`, the machine outlives its parent, and the program prints the machine's
//! identity instead of the pids. With `--socket`, QEMU dials a socket in the private directory. With `--companion`, the
//! machine has a virtiofsd, and with `--last LINE` another companion after that, a script of the shell with the path of
//! its socket as `$0`; with `--extra-monitor`, a monitor for other programs in the temporary directory. `--program` names
//! another QEMU, and `--arg` adds an argument of it. With `--reap`, another thread waits for all children, as some
//! programs do.
//!
//!     launcher [--keep] [--socket] [--companion] [--last LINE] [--extra-monitor] [--reap] [--program PATH] [--arg
//!     ARGUMENT]... TEMPORARY-DIRECTORY [WRAPPER...]

use std::error::Error;
use std::io::stdin;

use qemu_machine_blocking::{Companion, Config, FOREVER, Monitor, Shutdown, Vm, json};
use qemu_machine_tests::{leak_check, qemu, virtiofsd};
use rustix::process::WaitOptions;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let keeps = arguments.next_if_eq("--keep").is_some();
    let dials = arguments.next_if_eq("--socket").is_some();
    let has_companion = arguments.next_if_eq("--companion").is_some();
    let last = arguments.next_if_eq("--last").and_then(|_| arguments.next());
    let is_extra = arguments.next_if_eq("--extra-monitor").is_some();
    let reaps = arguments.next_if_eq("--reap").is_some();
    let program = arguments.next_if_eq("--program").and_then(|_| arguments.next());
    let mut config = Config::new(program.unwrap_or_else(|| qemu().into())).machine("none");
    while arguments.next_if_eq("--arg").is_some() {
        config = config.arg(arguments.next().ok_or("--arg needs an argument")?);
    }
    let directory = arguments.next().ok_or("usage: see the source of this program")?;
    if has_companion {
        let server = Companion::new("fs", virtiofsd()).args(["-o", &format!("source={directory}")]);
        config = config.companion(server.listener("--fd=").chardev("fs"));
    }
    if let Some(line) = last {
        config = config.companion(Companion::new("last", "sh").args(["-c", &line]).path("")).launch_within(FOREVER);
    }
    if is_extra {
        config = config.extra_monitor(format!("{directory}/extra-monitor"));
    }
    config = config.temporary_directory(directory).wrapper(arguments);
    if dials {
        config = config.monitor(Monitor::Socket);
    }
    let vm = Vm::launch(if keeps { config.outlive_parent() } else { config })?;
    if keeps {
        println!("{}", json!(vm.identity()?));
    } else {
        let pids = leak_check::descendants(std::process::id());
        println!("{}", pids.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(" "));
    }
    if reaps {
        // Returns with an error when there are no more children (`wait(2)`, ECHILD).
        std::thread::spawn(|| while rustix::process::wait(WaitOptions::empty()).is_ok() {});
    }
    // Blocks until the test writes a line, kills this process, or dies itself, which closes the standard input.
    stdin().read_line(&mut String::new())?;
    println!("{:#}", vm.shutdown(Shutdown::default())?);
    Ok(())
}
