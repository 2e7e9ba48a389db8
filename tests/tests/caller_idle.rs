//! Tests of an idle caller: no console output is lost, and the guest never blocks.

use std::time::Duration;

use qemu_machine_blocking::{Cause, Config, Limits, Mark, Vm, Wait};
use qemu_machine_tests::guest::{
    FLOOD_BYTES, FLOOD_LINES, FLOODED, GREETING, ImageFile, Letter, POWERING_OFF, arguments, flood_line,
};
use qemu_machine_tests::leak_check::Watched;
use qemu_machine_tests::{bounded_by, qemu};

/// A mebibyte through an emulated serial port takes seconds.
const LONG: Duration = Duration::from_secs(60);

fn launch(image: &ImageFile, limits: Limits) -> Vm {
    let config = Config::new(qemu()).args(["-accel", "tcg"]).args(arguments(image.path()));
    let vm = Vm::launch(config.serial("tty").limits(limits)).unwrap_or_else(|error| panic!("{error}"));
    vm.wait_any(&Mark::default(), [Wait::text("tty", GREETING)], LONG).unwrap();
    vm
}

/// Lets the guest print a mebibyte and power off, and makes no call meanwhile: the process is watched without the
/// library.
fn flood_and_power_off(vm: &Vm) {
    let process = Watched::new(vm.pid().unwrap()).unwrap();
    // The second letter stays in the serial port until the guest is done with the first.
    vm.console_write("tty", [Letter::Flood.byte(), Letter::PowerOff.byte()]).unwrap();
    process.assert_ends_within(LONG);
}

#[test]
fn a_console_is_read_while_the_caller_is_idle() {
    bounded_by(2 * LONG, || {
        let image = ImageFile::create().unwrap();
        let mut limits = Limits::default();
        limits.console = 2 * FLOOD_BYTES;
        let vm = launch(&image, limits);
        flood_and_power_off(&vm);
        assert_eq!(vm.wait(LONG).unwrap().cause, Cause::PowerOff);
        let printed = vm.console("tty", &Mark::default()).unwrap();
        let rest = printed.strip_prefix(format!("{GREETING}\r\n").as_bytes()).unwrap();
        let (flood, rest) = rest.split_at(FLOOD_BYTES);
        for (number, line) in (0..FLOOD_LINES).zip(flood.chunks(flood_line(0).len())) {
            assert_eq!(line, flood_line(number), "line {number}: {:?}", String::from_utf8_lossy(line));
        }
        assert_eq!(rest, format!("{FLOODED}\r\n{POWERING_OFF}\r\n").as_bytes());
    });
}

#[test]
fn output_beyond_the_console_limit_is_counted() {
    bounded_by(2 * LONG, || {
        let image = ImageFile::create().unwrap();
        let mut limits = Limits::default();
        limits.console = 1000;
        let vm = launch(&image, limits);
        flood_and_power_off(&vm);
        assert_eq!(vm.wait(LONG).unwrap().cause, Cause::PowerOff);
        let printed = vm.console("tty", &Mark::default()).unwrap();
        assert_eq!(printed.len(), 1000);
        assert!(printed.ends_with(format!("{FLOODED}\r\n{POWERING_OFF}\r\n").as_bytes()));
        let hit = vm.wait_any(&Mark::default(), [Wait::text("tty", POWERING_OFF)], Duration::ZERO).unwrap();
        let all = [GREETING, FLOODED, POWERING_OFF].iter().map(|line| line.len() + 2).sum::<usize>() + FLOOD_BYTES;
        assert_eq!(hit.missed.bytes, (all - 1000) as u64);
    });
}
