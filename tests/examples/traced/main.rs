//! Runs of a few machines on each runtime, with every `tracing` event of the library printed.
//!
//! `tests/tests/tracing.rs` runs this program and checks its output. The argument is the path of the program
//! `scripted-qemu`.

#[allow(dead_code, reason = "the suite needs all of it")]
#[path = "../../tests/suite/harness.rs"]
mod harness;
#[path = "../../tests/suite/on_mio.rs"]
mod on_mio;
#[allow(dead_code, reason = "the suite needs all of it")]
#[path = "../../tests/suite/on_tasks.rs"]
mod on_tasks;
mod subscriber;

use std::error::Error;

use harness::Harness;
use qemu_machine_core::{Companion, Config, Deadline, Mark, Shutdown, Wait, json};
use qemu_machine_tests::guest::{self, ImageFile};
use qemu_machine_tests::scripted::Script;
use qemu_machine_tests::{PATIENCE, qemu};
use qemu_machine_tokio::tasks::wait_for_dropped;
use tracing::Instrument as _;

/// A secret that must appear only at the level of the wire.
const SECRET: &str = "correct horse battery staple";

const LONG: Deadline = Deadline::after(PATIENCE);

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let scripted = std::env::args().nth(1).ok_or("the argument is missing: the path of `scripted-qemu`")?;
    tracing::subscriber::set_global_default(subscriber::Printing::default())?;
    runs::<qemu_machine_blocking::Vm>(&scripted)?;
    runs::<on_mio::Mio>(&scripted)?;
    runs::<on_tasks::Tasks<on_tasks::OnSmol>>(&scripted)?;
    runs::<on_tasks::Tasks<on_tasks::TokioCurrent>>(&scripted)?;
    runs::<on_tasks::Tasks<on_tasks::TokioMulti>>(&scripted)?;
    in_a_span_of_the_caller()?;
    blocking_shows_itself()?;
    smol::block_on(smol_shows_itself())?;
    // Their ends are logged, too.
    if wait_for_dropped(PATIENCE) { Ok(()) } else { Err("machines that were dropped did not end".into()) }
}

/// Launches a machine in a span of the caller, and uses it in another task, on any thread.
fn in_a_span_of_the_caller() -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let span = tracing::error_span!(target: "qemu_machine::caller", "request", name = "request 7");
    let launch = qemu_machine_tokio::Vm::launch(idle("tokio:in a span")).instrument(span);
    runtime.block_on(async {
        let vm = tokio::spawn(launch).await??;
        let asked = vm.clone();
        tokio::spawn(async move { asked.execute("query-status").await }).await??;
        vm.shutdown(Shutdown::default()).await?;
        Ok(())
    })
}

/// Runs every case once, each machine with its own name.
fn runs<H: Harness>(scripted: &str) -> Done {
    let named = |config: Config, run: &str| config.name(format!("{}:{run}", H::ROW));
    asked_to_end::<H>(|config| named(config, "asked"))?;
    drop(H::launch(named(Config::new(qemu()).args(["-S"]), "dropped"))?);
    accompanied::<H>(|config| named(config, "accompanied"))?;
    let failing = [
        ("missing", Config::new("/nonexistent/qemu")),
        ("forged", Config::new("/nonexistent/\u{1b}[2J\u{9b}\u{202e}\nINFO\tforged")),
        ("refused", Config::new(qemu()).args(["-device", "nonexistent"])),
        ("broken", Script::new().say("{\"return\": {}, \"id\": 0}\r\n").stall().config(scripted)),
        ("declined", Script::new().greet().hear().refuse("not to you").stall().config(scripted)),
    ];
    for (run, config) in failing {
        if H::launch(named(config, run)).is_ok() {
            return Err(format!("the launch `{run}` succeeded, but must fail").into());
        }
    }
    hostile::<H>(|config| named(config, "hostile\u{1b}[2J\u{202e}"), scripted)
}

/// Runs a peer whose version and whose reason for its end control a terminal and forge a line.
fn hostile<H: Harness>(named: impl Fn(Config) -> Config, scripted: &str) -> Done {
    const TEXT: &str = r"\u001b]52;c;cm0=\u0007\u009b2J\u202e\u007f\r\nINFO\tforged";
    let version = format!(r#"{{"qemu": {{"major": 7, "minor": 2, "micro": 0}}, "package": "{TEXT}"}}"#);
    let end = format!(r#"{{"event": "SHUTDOWN", "data": {{"guest": false, "reason": "{TEXT}"}}}}"#);
    let script = Script::new()
        .line(&format!(r#"{{"QMP": {{"version": {version}, "capabilities": []}}}}"#))
        .hear()
        .reply("{}")
        .hear()
        .line(&end)
        .exit(0);
    let mut vm = H::launch(named(script.config(scripted)))?;
    vm.shutdown(Shutdown::default())?;
    Ok(())
}

/// Runs a machine with console input and output, and with a secret for QEMU.
fn asked_to_end<H: Harness>(named: impl Fn(Config) -> Config) -> Done {
    let image = ImageFile::create()?;
    let config = Config::new(qemu()).args(guest::arguments(image.path())).serial("tty");
    let mut vm = H::launch(named(config))?;
    let ready = vm.wait_any(&Mark::default(), &[Wait::text("tty", guest::GREETING)], LONG)?.mark;
    let secret = json!({"qom-type": "secret", "id": "key", "data": SECRET});
    vm.execute_raw(&json!({"execute": "object-add", "arguments": secret}).to_string())?;
    // The guest echoes these letters and does nothing else for them.
    vm.console_write("tty", "WELL MET\u{1b}\r\n")?;
    vm.wait_any(&ready, &[Wait::text("tty", "WELL MET\u{1b}\r\n")], LONG)?;
    vm.shutdown(Shutdown::default())?;
    Ok(())
}

/// Runs a machine with a companion, which gets SIGTERM after the end of QEMU.
fn accompanied<H: Harness>(named: impl Fn(Config) -> Config) -> Done {
    let config = Config::new(qemu()).args(["-machine", "none", "-S"]);
    let mut vm = H::launch(named(config.companion(Companion::new("sleeper", "sleep").arg("600"))))?;
    vm.shutdown(Shutdown::default())?;
    Ok(())
}

fn idle(name: &str) -> Config {
    Config::new(qemu()).args(["-machine", "none", "-S"]).name(name)
}

/// A subscriber is called while the library works on a machine, and may print that machine: this must not deadlock.
fn blocking_shows_itself() -> Done {
    let vm = qemu_machine_blocking::Vm::launch(idle("blocking:shown"))?;
    let shown = vm.clone();
    subscriber::while_shown(move || format!("{shown:?}"), || vm.execute("query-status"))?;
    vm.shutdown(Shutdown::default())?;
    Ok(())
}

async fn smol_shows_itself() -> Done {
    let vm = qemu_machine_smol::Vm::launch(idle("smol:shown")).await?;
    let shown = vm.clone();
    subscriber::while_shown(move || format!("{shown:?}"), || smol::block_on(vm.execute("query-status")))?;
    vm.shutdown(Shutdown::default()).await?;
    Ok(())
}
