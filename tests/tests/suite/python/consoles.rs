//! Stories of rows 15, 16 and 38: consoles on several devices, their history, and qtest, which can print on them.

use qemu_machine_core::{CommandError, Config, Found, Hit, Limits, Mark, Misuse, Service, Shutdown, Wait, json};
use qemu_machine_tests::guest::{self, FLOOD_BYTES, FLOODED, GREETING, ImageFile, Letter};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::qemu;

use super::{LONG, bytes};
use crate::hosted::Hosted;
use crate::rows;

/// The I/O ports of the serial interfaces of a PC.
const SERIAL: [u16; 2] = [0x3f8, 0x2f8];
const DEBUG: u16 = 0xe9;

/// A paused PC with qtest.
fn still() -> Config {
    Config::new(qemu()).args(["-accel", "tcg", "-S"]).qtest()
}

fn qtest<H: Hosted>(machine: &mut H) -> H {
    H::launch(machine.service(Service::Qtest).expect("the machine has qtest")).expect("qtest answers")
}

fn row_15_consoles_on_serial_ports_and_on_devices<H: Hosted>() {
    let config = still().no_serial().serial("second").console_on("debug", "isa-debugcon,iobase=0xe9").chardev("people");
    let mut machine = H::launch(config.args(["-monitor", "chardev:people"])).expect("QEMU starts");
    let mut qtest = qtest(&mut machine);
    for (port, byte) in [(SERIAL[0], b'0'), (SERIAL[1], b'1'), (DEBUG, b'2')] {
        qtest.line(&format!("outb {port:#x} {byte:#x}")).expect("the device accepts it");
    }
    let hit = machine.wait_for(Wait::text("second", "1"));
    assert_eq!(hit.found, Found::Text("1".into()), "the first port has no console");
    assert_eq!(machine.wait_for(Wait::text("debug", "2")).found, Found::Text("2".into()));
    machine.wait_for(Wait::text("people", "(qemu)"));
    let mark = machine.mark();
    machine.console_write("people", "info status\n").expect("the console accepts the input");
    machine.wait_any(&mark, &[Wait::text("people", "VM status: paused")], LONG).expect("the human monitor prints it");
    assert_eq!(machine.console("first", &Mark::default()), Err(Misuse::UnknownConsole("first".into())));
    machine.kill().expect("the machine was launched");
}

fn guest(image: &ImageFile) -> Config {
    Config::new(qemu()).args(["-accel", "tcg"]).args(guest::arguments(image.path())).serial("tty")
}

fn row_16_everything_is_in_the_history_and_in_the_file<H: Hosted>() {
    let (image, scratch) = (ImageFile::create().expect("the image can be written"), Scratch::create());
    let path = scratch.path().join("the,log");
    std::fs::write(&path, "of another time").expect("the file can be written");
    let mut machine = H::launch(guest(&image).console_log("tty", bytes(&path))).expect("QEMU starts");
    machine.wait_for(Wait::text("tty", GREETING));
    machine.console_write("tty", "Hello").expect("the console accepts the input");
    machine.wait_for(Wait::text("tty", "Hello"));
    machine
        .console_write("tty", &char::from(Letter::PowerOff.byte()).to_string())
        .expect("the console accepts the input");
    let outcome = machine.wait(LONG).expect("the guest powers off");
    let whole = machine.console("tty", &Mark::default()).expect("the console exists");
    let text = String::from_utf8_lossy(&whole).into_owned();
    assert!(text.starts_with(GREETING), "no byte of the beginning is lost: {text:?}");
    assert!(text.ends_with("guest: powering off\r\n"), "no byte of the end is lost: {text:?}");
    assert_eq!(std::fs::read(&path).expect("it was made"), whole);
    assert_eq!(outcome.consoles, [("tty".to_owned(), text.into())]);
}

fn row_16_the_first_of_several_texts_from_a_mark_on<H: Hosted>() {
    let image = ImageFile::create().expect("the image can be written");
    let mut machine = H::launch(guest(&image)).expect("QEMU starts");
    let hit = machine.wait_for(Wait::text("tty", GREETING));
    machine.console_write("tty", "one two nine").expect("the console accepts the input");
    let things = [Wait::text("tty", "nine"), Wait::text("tty", "two"), Wait::event("NEVER")];
    let hit = machine.wait_any(&hit.mark, &things, LONG).expect("the guest echoes it");
    assert_eq!((hit.index, &hit.found), (1, &Found::Text("\r\none two".into())));
    let hit = machine.wait_any(&hit.mark, &things, LONG).expect("the guest echoes it");
    assert_eq!((hit.index, &hit.found), (0, &Found::Text(" nine".into())));
    let nothing = machine.wait_any(&hit.mark, &things, std::time::Duration::from_millis(50).into());
    assert_eq!(
        nothing.map(|_| ()).expect_err("no more output comes").to_string(),
        "the deadline passed before the wait found anything"
    );
    machine.kill().expect("the machine was launched");
}

fn row_16_a_console_is_read_as_it_prints<H: Hosted>() {
    let image = ImageFile::create().expect("the image can be written");
    let mut machine = H::launch(guest(&image)).expect("QEMU starts");
    let (mut mark, mut read) = (Mark::default(), String::new());
    machine.wait_for(Wait::text("tty", GREETING));
    machine.console_write("tty", "SOME TEXT").expect("the console accepts the input");
    machine
        .console_write("tty", &char::from(Letter::PowerOff.byte()).to_string())
        .expect("the console accepts the input");
    let outcome = loop {
        match machine.wait_any(&mark, &[Wait::output("tty"), Wait::end()], LONG).expect("output or the end comes") {
            Hit { found: Found::Text(text), mark: behind, .. } => {
                assert!(!text.is_empty());
                read.push_str(&text);
                mark = behind;
            }
            hit => break hit.into_end().expect("it is the end"),
        }
    };
    assert_eq!(outcome.consoles, [("tty".to_owned(), read.into())]);
}

fn row_16_a_flood_is_bounded_and_counted<H: Hosted>() {
    const LIMIT: usize = 4096;
    let image = ImageFile::create().expect("the image can be written");
    let mut limits = Limits::default();
    limits.console = LIMIT;
    let mut machine = H::launch(guest(&image).limits(limits)).expect("QEMU starts");
    let hit = machine.wait_for(Wait::text("tty", GREETING));
    machine.console_write("tty", &char::from(Letter::Flood.byte()).to_string()).expect("the console accepts the input");
    // After the flood comes the line FLOODED; the greeting also ends with a carriage return and a line feed.
    let flooded =
        machine.wait_any(&hit.mark, &[Wait::text("tty", &*format!("{FLOODED}\r\n"))], LONG).expect("the machine ends");
    let kept = machine.console("tty", &Mark::default()).expect("the console exists");
    assert_eq!(kept.len(), LIMIT);
    let printed = (GREETING.len() + 2 + FLOOD_BYTES + FLOODED.len() + 2) as u64;
    let late = machine
        .wait_any(&Mark::default(), &[Wait::text("tty", FLOODED)], LONG)
        .expect("the end of the flood is in the history");
    assert_eq!(late.missed.bytes, printed - LIMIT as u64, "evicted bytes are counted exactly");
    assert_eq!(flooded.missed.bytes, 0);
    assert_eq!(
        machine.shutdown(Shutdown::default()).expect("the machine was launched").exit.map(|exit| exit.to_string()),
        Some("exit status 0".into())
    );
}

fn row_38_the_device_qtest_reads_and_writes<H: Hosted>() {
    let mut machine = H::launch(still()).expect("QEMU starts");
    let mut qtest = qtest(&mut machine);
    assert_eq!(qtest.line("writel 0x1000 0xdeadbeef"), Ok(String::new()));
    assert_eq!(qtest.line("readl 0x1000"), Ok("0x00000000deadbeef".into()));
    assert_eq!(qtest.line("read 0x1000 4"), Ok("0xefbeadde".into()));
    assert_eq!(qtest.line("endianness"), Ok("little".into()));
    let Err(CommandError::Refused(refusal)) = qtest.line("nonsense") else { panic!("there is no such command") };
    assert_eq!(refusal.to_string(), "`nonsense` was refused: FAIL: Unknown command 'nonsense'");
    assert_eq!(qtest.line("two\nlines"), Err(Misuse::QtestLine.into()));
    assert_eq!(qtest.execute("query-status", LONG), Err(Misuse::WrongDialect.into()));
    assert_eq!(machine.line("readl 0"), Err(Misuse::WrongDialect.into()));
    assert_eq!(
        machine.service(Service::Qtest),
        Err(Misuse::NoService(Service::Qtest)),
        "the service is given away once"
    );
    qtest.disconnect().expect("the machine is not ours");
    machine.execute("query-status", LONG).expect("the machine runs on");
    machine.kill().expect("the machine was launched");
    assert_eq!(
        machine.service(Service::Qtest),
        Err(Misuse::NoService(Service::Qtest)),
        "the service ended with the machine"
    );
}

fn row_38_interrupts_come_as_events<H: Hosted>() {
    let mut machine = H::launch(still().serial("tty")).expect("QEMU starts");
    let mut qtest = qtest(&mut machine);
    qtest.line("irq_intercept_in ioapic").expect("a PC has one");
    let mut interrupts = qtest.subscribe(&Mark::default(), &[Wait::event("IRQ")]).expect("the filter names events");
    // The first serial interface requests an interrupt when its transmitter is empty.
    qtest.line("outb 0x3fc 0x8").expect("the device accepts it");
    qtest.line("outb 0x3f9 0x2").expect("the device accepts it");
    let event = qtest.next(&mut interrupts, LONG).expect("the line is raised");
    assert_eq!(event.read_data::<qemu_machine_core::Value>().expect("it has data"), json!({"raised": true, "line": 4}));
    machine.kill().expect("the machine was launched");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_15_consoles_on_serial_ports_and_on_devices
            row_16_everything_is_in_the_history_and_in_the_file
            row_16_the_first_of_several_texts_from_a_mark_on
            row_16_a_console_is_read_as_it_prints
            row_16_a_flood_is_bounded_and_counted
            row_38_the_device_qtest_reads_and_writes
            row_38_interrupts_come_as_events
        }
    };
}

rows!(stories);
