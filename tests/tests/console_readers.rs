//! Tests of consoles as bytes to read on threads and in a loop: nothing is lost with back-pressure, and what is lost
//! without it is counted.

use std::io::{ErrorKind, Read as _};
use std::time::Duration;

use qemu_machine_blocking::{Cancel, Config, Limits, Mark, Misuse, Vm, Wait, WaitError};
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::bounded_by;

const LONG: Duration = Duration::from_secs(60);

/// Long enough for a program that nothing blocks to print all.
const WHILE: Duration = Duration::from_secs(1);

/// The bytes that the program prints.
const ALL: usize = 4 << 20;

/// The bytes that are kept of them.
const LIMIT: usize = 768 << 10;

/// A program that prints as fast as it is read, once it has received a byte.
const PROGRAM: &str = r#"
for argument; do
    case $argument in socket,fd=*) console=${argument#socket,fd=}; console=${console%%,*} ;; esac
done
head -c 1 <&"$console" >/dev/null
yes | head -c 4194304 >&"$console"
"#;

fn config(limit: usize) -> Config {
    running(PROGRAM, limit)
}

fn running(program: &str, limit: usize) -> Config {
    let mut limits = Limits::default();
    limits.console = limit;
    let program = Config::new("unused").wrapper(["bash", "-c", program, "bash"]);
    program.with_display().with_vga().without_monitor().serial("tty").limits(limits)
}

fn assert_is_end_of_output(bytes: &[u8], length: usize) {
    assert_eq!(bytes.len(), length);
    assert!(bytes.chunks(2).all(|line| line == b"y\n"));
}

#[test]
fn a_reader_on_a_thread_lets_the_guest_wait() {
    bounded_by(2 * LONG, || {
        let vm = Vm::launch(config(LIMIT)).unwrap();
        let mut tty = vm.console_reader("tty", &Mark::default()).unwrap().with_back_pressure().unwrap();
        vm.console_write("tty", "x").unwrap();
        assert!(matches!(vm.wait(WHILE), Err(WaitError::TimedOut)), "the program waits for its reader");
        let mut all = Vec::new();
        tty.read_to_end(&mut all).unwrap();
        assert_is_end_of_output(&all, ALL);
        assert_eq!(tty.read(&mut [0]).unwrap(), 0);
        vm.wait(LONG).unwrap();
    });
}

/// The reader that is dropped is the only one for which the guest waits.
#[test]
fn the_guest_does_not_wait_for_a_reader_that_is_dropped() {
    bounded_by(2 * LONG, || {
        let vm = Vm::launch(config(LIMIT)).unwrap();
        let tty = vm.console_reader("tty", &Mark::default()).unwrap().with_back_pressure().unwrap();
        vm.console_write("tty", "x").unwrap();
        assert!(vm.wait(WHILE).is_err(), "the program waits for its reader");
        drop(tty);
        vm.wait(LONG).unwrap();
    });
}

#[test]
fn a_reader_on_a_thread_counts_what_is_lost() {
    bounded_by(2 * LONG, || {
        let vm = Vm::launch(config(LIMIT)).unwrap();
        let mut tty = vm.console_reader("tty", &Mark::default()).unwrap();
        assert!(matches!(vm.console_reader("other", &Mark::default()), Err(Misuse::UnknownConsole(_))));
        vm.console_write("tty", "x").unwrap();
        vm.wait(LONG).unwrap();
        let lost = tty.read(&mut [0]).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::InvalidData);
        assert!(lost.to_string().starts_with(&format!("{} bytes", ALL - LIMIT)), "{lost}");
        let mut rest = Vec::new();
        tty.read_to_end(&mut rest).unwrap();
        assert_is_end_of_output(&rest, LIMIT);
        let small = Vm::launch(config(LIMIT - 1)).unwrap();
        let refused = small.console_reader("tty", &Mark::default()).unwrap().with_back_pressure();
        assert!(matches!(refused, Err(Misuse::Config(_))));
    });
}

/// One thread reads, another waits for the same output, and a third cancels the read.
#[test]
fn a_reader_on_a_thread_waits_for_output_and_is_cancelled() {
    bounded_by(2 * LONG, || {
        let vm = Vm::launch(config(LIMIT)).unwrap();
        let (cancel, mut tty) = (Cancel::new(), vm.console_reader("tty", &Mark::default()).unwrap());
        std::thread::scope(|threads| {
            let reading = threads.spawn(|| cancel.run_until_cancelled(|| tty.read(&mut [0])));
            cancel.cancel();
            let error = reading.join().unwrap().unwrap_err();
            let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
            assert_eq!(cause, Some(&WaitError::Cancelled));
        });
        std::thread::scope(|threads| {
            let reading = threads.spawn(|| tty.read(&mut [0; 2]));
            let waiting = threads.spawn(|| vm.wait_any(&Mark::default(), [Wait::text("tty", "y\ny\n")], LONG));
            vm.console_write("tty", "x").unwrap();
            assert_eq!(reading.join().unwrap().unwrap(), 2);
            waiting.join().unwrap().unwrap();
        });
        vm.kill().unwrap();
    });
}

/// Another thread waits for what the guest prints after the read, and nothing else wakes that thread.
#[test]
fn one_read_lets_the_guest_go_on_while_another_thread_waits() {
    /// It prints less than two reads, and so waits for its reader once.
    const PROGRAM: &str = r#"
for argument; do
    case $argument in socket,fd=*) console=${argument#socket,fd=}; console=${console%%,*} ;; esac
done
head -c 1 <&"$console" >/dev/null
{ yes | head -c 700000; echo end; } >&"$console"
cat <&"$console" >/dev/null
"#;
    bounded_by(2 * LONG, || {
        let vm = Vm::launch(running(PROGRAM, LIMIT)).unwrap();
        let mut tty = vm.console_reader("tty", &Mark::default()).unwrap().with_back_pressure().unwrap();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| vm.wait_any(&Mark::default(), [Wait::text("tty", "end")], LONG));
            vm.console_write("tty", "x").unwrap();
            assert!(vm.wait(WHILE).is_err(), "the program waits for its reader");
            assert!(!vm.console("tty", &Mark::default()).unwrap().ends_with(b"end\n"), "the console is held");
            assert!(tty.read(&mut vec![0; LIMIT]).unwrap() > LIMIT / 4);
            waiting.join().unwrap().unwrap();
        });
        vm.kill().unwrap();
    });
}

/// The program waits for its reader on one side, and reads more than the socket holds on the other.
const READING_PROGRAM: &str = r#"
for argument; do
    case $argument in socket,fd=*) console=${argument#socket,fd=}; console=${console%%,*} ;; esac
done
head -c 1 <&"$console" >/dev/null
yes >&"$console" &
head -c 1000000 <&"$console" >/dev/null
kill -9 $!
"#;

#[test]
fn input_is_sent_while_the_guest_waits_for_its_reader() {
    bounded_by(2 * LONG, || {
        let vm = Vm::launch(running(READING_PROGRAM, LIMIT)).unwrap();
        let _tty = vm.console_reader("tty", &Mark::default()).unwrap().with_back_pressure().unwrap();
        vm.console_write("tty", "x").unwrap();
        assert!(vm.wait(WHILE).is_err(), "the program waits for its reader");
        vm.console_write("tty", vec![0; 1_000_000]).unwrap();
        vm.wait(LONG).unwrap();
    });
}

#[test]
fn input_is_sent_in_a_loop_while_the_guest_waits_for_its_reader() {
    bounded_by(2 * LONG, || {
        let mut event_loop = EventLoop::new().unwrap();
        let (registry, tokens) = event_loop.parts();
        let mut vms = [qemu_machine_mio::Vm::launch(running(READING_PROGRAM, LIMIT), registry, tokens).unwrap()];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        let tty = vms[0].open_console("tty", &Mark::default()).unwrap();
        vms[0].set_back_pressure(tty).unwrap();
        vms[0].console_write("tty", "x").unwrap();
        let wait = vms[0].wait_any(&Mark::default(), [Wait::end()], WHILE).unwrap();
        let waited = event_loop.run(&mut vms, |vms| vms[0].claim_wait(wait)).unwrap();
        assert!(waited.is_err(), "the program waits for its reader");
        vms[0].console_write("tty", vec![0; 1_000_000]).unwrap();
        event_loop.run(&mut vms, |vms| vms[0].outcome().map(drop)).unwrap();
    });
}

#[test]
fn a_reader_in_a_loop_lets_the_guest_wait() {
    bounded_by(2 * LONG, || {
        let mut event_loop = EventLoop::new().unwrap();
        let (registry, tokens) = event_loop.parts();
        let mut vms = [qemu_machine_mio::Vm::launch(config(LIMIT), registry, tokens).unwrap()];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        let tty = vms[0].open_console("tty", &Mark::default()).unwrap();
        vms[0].set_back_pressure(tty).unwrap();
        vms[0].console_write("tty", "x").unwrap();
        let wait = vms[0].wait_any(&Mark::default(), [Wait::end()], WHILE).unwrap();
        let waited = event_loop.run(&mut vms, |vms| vms[0].claim_wait(wait)).unwrap();
        assert!(matches!(waited, Err(WaitError::TimedOut)), "the program waits for its reader");
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        let read = |vms: &mut [qemu_machine_mio::Vm]| {
            loop {
                match vms[0].read_console(tty, &mut buffer) {
                    Ok(0) => return Some(()),
                    Ok(count) => all.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        event_loop.run(&mut vms, read).unwrap();
        assert_is_end_of_output(&all, ALL);
        event_loop.run(&mut vms, |vms| vms[0].outcome().map(drop)).unwrap();
        vms[0].close_console(tty);
        assert_eq!(vms[0].read_console(tty, &mut [0]).unwrap(), 0);
    });
}
