//! Program that boots a guest of 64 KiB, exchanges messages with QEMU and text with the guest, and prints how it ends.
//!
//! The guest prints a greeting on its serial port and echoes its input. Two letters have an effect: `r` resets it, `p`
//! powers it off.

use std::error::Error;
use std::time::{Duration, Instant};

use qemu_machine_blocking::{Cause, Config, FOREVER, Found, Mark, UntrustedText, Vm, Wait};
use qemu_machine_tests::guest::{self, ImageFile, Letter};

const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let image = ImageFile::create()?;
    let config = Config::new("qemu-system-x86_64")
        .accelerators(["kvm", "tcg"])
        .args(guest::arguments(image.path()))
        .serial("tty");
    let vm = Vm::launch(config)?;
    say(start, "launch", &describe(&vm));

    std::thread::scope(|threads| {
        threads.spawn(|| follow_events(&vm, start));
        // The thread that follows the events waits for the end, so the machine must end even after an error here.
        talk(&vm, start).inspect_err(|_| drop(vm.kill()))
    })?;

    let outcome = vm.wait(PATIENCE)?;
    say(start, "end", &format!("{outcome}"));
    if outcome.cause == Cause::PowerOff { Ok(()) } else { Err("the guest did not power off".into()) }
}

fn describe(vm: &Vm) -> String {
    let version = vm.greeting().map(|greeting| greeting.version.to_string()).unwrap_or_default();
    let negotiated = if vm.out_of_band() { "oob" } else { "none" };
    format!("QEMU {version}, process {}, capabilities negotiated: {negotiated}", vm.pid().unwrap_or_default())
}

/// Prints the events as they are received, until the machine ends.
fn follow_events(vm: &Vm, start: Instant) {
    let mut mark = Mark::default();
    while let Ok(hit) = vm.wait_any(&mark, [Wait::any_event(), Wait::end()], FOREVER) {
        match hit.found {
            Found::Event(event) => say(start, "event", &event.to_string()),
            _ => return,
        }
        mark = hit.mark;
    }
}

/// Executes commands and types on the console, until the guest powers off.
fn talk(vm: &Vm, start: Instant) -> Result<(), Box<dyn Error>> {
    let mut mark = expect(vm, &Mark::default(), start, guest::GREETING)?;

    let status = vm.execute("query-status")?;
    say(start, "reply", &format!("query-status: {}", status["status"]));
    say(start, "reply", &format!("round-trip of a command, median of 101: {:?}", round_trip(vm)?));
    vm.execute("stop")?;
    vm.execute("cont")?;

    vm.console_write("tty", "Hello, guest!\r\n")?;
    mark = expect(vm, &mark, start, "Hello, guest!\r\n")?;
    vm.console_write("tty", [Letter::Reset.byte()])?;
    mark = expect(vm, &mark, start, guest::GREETING)?;
    vm.console_write("tty", [Letter::PowerOff.byte()])?;
    expect(vm, &mark, start, guest::POWERING_OFF)?;
    Ok(())
}

/// Waits until the guest has printed this text, and shows everything that it printed up to there.
fn expect(vm: &Vm, mark: &Mark, start: Instant, text: &str) -> Result<Mark, Box<dyn Error>> {
    let hit = vm.wait_any(mark, [Wait::text("tty", text), Wait::end()], PATIENCE)?;
    match hit.found {
        Found::Text(said) => {
            let lines = said.lines().filter(|line| !line.is_empty()).map(UntrustedText::from);
            lines.for_each(|line| say(start, "guest", &line.to_string()));
            Ok(hit.mark)
        }
        _ => Err(format!("the machine ended before the guest printed {text:?}").into()),
    }
}

fn round_trip(vm: &Vm) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..101 {
        let asked = Instant::now();
        vm.execute("query-status")?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn say(start: Instant, who: &str, what: &str) {
    println!("{:>8.1} ms  {who:<6} {what}", start.elapsed().as_secs_f64() * 1000.0);
}
