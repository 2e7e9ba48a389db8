//! Tests of a log that is followed: its lines and their levels, its place in the configuration, and what it leaves out.

use crate::rig::{Rig, SIGKILL, config};
use qemu_machine_core::record::Record;
use qemu_machine_core::{
    Channel, Config, Effect, FOREVER, Found, Hit, Inherited, Input, Limits, LogLevel, Mark, Misuse, Transport, Wait,
};

/// The log is behind the console of the rig.
const LOG: Channel = Channel::Console(1);

fn followed() -> Config {
    Config::new("/usr/bin/qemu-system-x86_64").autostart().serial("tty").follow_log()
}

fn prints(rig: &mut Rig, text: impl AsRef<[u8]>) {
    rig.handle(Input::Received(LOG, text.as_ref()));
}

/// Returns what a wait for a line of this level finds, if it is there.
fn find(rig: &mut Rig, from: &Mark, level: LogLevel) -> Option<Hit> {
    let id = rig.wait(from, [Wait::log(level)]);
    let hit = rig.vm.claim_wait(id).map(|found| found.expect("a line"));
    rig.vm.disown_wait(id);
    hit
}

fn line(hit: &Hit) -> (LogLevel, &str) {
    let line = hit.log_line().expect("a line was waited for");
    (line.level, line.text.as_str())
}

/// However the output is split, each line is found once, and with the level that it has as a whole.
#[test]
fn each_line_is_found_in_any_pieces() {
    let all =
        "boot\nqemu-system-x86_64: warning: old\n\nqemu-system-x86_64: bad\r\nqemu-system-x86_64: info: slow\nrest";
    let expected = [
        (LogLevel::Output, "boot"),
        (LogLevel::Warning, "qemu-system-x86_64: warning: old"),
        (LogLevel::Output, ""),
        (LogLevel::Error, "qemu-system-x86_64: bad"),
        (LogLevel::Info, "qemu-system-x86_64: info: slow"),
    ];
    for level in [LogLevel::Output, LogLevel::Info, LogLevel::Warning, LogLevel::Error] {
        let wanted: Vec<_> = expected.into_iter().filter(|(of, _)| *of >= level).collect();
        for size in 1..=all.len() {
            // One wait after another while it is printed, and again when all of it is there.
            let mut rig = Rig::ready(followed());
            let mut at = rig.vm.mark();
            let mut id = rig.wait(&at, [Wait::log(level)]);
            let mut found = Vec::new();
            for piece in all.as_bytes().chunks(size) {
                prints(&mut rig, piece);
                while let Some(hit) = rig.vm.claim_wait(id) {
                    let hit = hit.expect("a line");
                    found.push((line(&hit).0, line(&hit).1.to_owned()));
                    at = hit.mark;
                    id = rig.wait(&at, [Wait::log(level)]);
                }
            }
            let found: Vec<_> = found.iter().map(|(level, text)| (*level, text.as_str())).collect();
            assert_eq!(found, wanted, "{level:?} {size}");
            let mut at = Mark::default();
            for wanted in &wanted {
                let hit = find(&mut rig, &at, level).expect("it was printed");
                assert_eq!((line(&hit), hit.missed.bytes), (*wanted, 0));
                at = hit.mark;
            }
            assert_eq!(find(&mut rig, &at, level), None, "the last line is not complete");
        }
    }
}

/// QEMU prints a report in several pieces, so a mark may be inside of one.
#[test]
fn a_line_that_was_begun_before_the_mark_counts_as_a_whole() {
    let mut rig = Rig::ready(followed());
    prints(&mut rig, "before\nqemu-system-x86_64: warn");
    let mark = rig.vm.mark();
    assert_eq!(find(&mut rig, &mark, LogLevel::Output), None);
    prints(&mut rig, "ing: it is old\n");
    let hit = find(&mut rig, &mark, LogLevel::Warning).expect("it is complete");
    assert_eq!(line(&hit), (LogLevel::Warning, "qemu-system-x86_64: warning: it is old"));
    assert_eq!(find(&mut rig, &hit.mark, LogLevel::Output), None);
    assert_eq!(rig.vm.console_since(Config::LOG, &mark), Ok(&b"ing: it is old\n"[..]), "other waits begin at the mark");
}

/// Evicted bytes are counted, and a wait does not depend on the texts and consoles of others.
#[test]
fn a_log_is_bounded_and_apart_from_the_consoles() {
    let mut limits = Limits::default();
    limits.console = 10;
    let mut rig = Rig::ready(followed().limits(limits));
    let mark = rig.vm.mark();
    let pending = rig.wait(&mark, [Wait::text("tty", "warning: "), Wait::log(LogLevel::Error)]);
    rig.prints("qemu-system-x86_64: bad\n");
    assert_eq!(rig.vm.claim_wait(pending), None);
    prints(&mut rig, "0123456789\n0123456\n");
    let hit = find(&mut rig, &mark, LogLevel::Output).expect("a line");
    assert_eq!((line(&hit).1, hit.missed.bytes), ("9", 9), "the head of the line is gone");
    prints(&mut rig, "qemu-system-x86_64: a long error\n");
    let hit = rig.vm.claim_wait(pending).expect("it is over").expect("a line");
    assert_eq!((hit.index, line(&hit)), (1, (LogLevel::Error, "qemu-system-x86_64: a long error")));
}

#[test]
fn a_log_is_new_in_each_run() {
    let mut rig = Rig::ready(followed());
    prints(&mut rig, "qemu-system-x86_64: first\n");
    let old = find(&mut rig, &Mark::default(), LogLevel::Error).expect("a line").mark;
    let pending = rig.wait(&old, [Wait::log(LogLevel::Output), Wait::end()]);
    let outcome = rig.dies(SIGKILL);
    let ended = rig.vm.claim_wait(pending).expect("it is over").expect("the end");
    assert!(matches!(ended.found, Found::End(_)) && ended.log_line().is_none());
    assert_eq!(outcome.consoles, [("tty".into(), "".into())], "its end is the log of the outcome");
    rig.launch();
    assert_eq!(find(&mut rig, &Mark::default(), LogLevel::Output), None);
    prints(&mut rig, "second\n");
    for mark in [Mark::default(), old] {
        assert_eq!(line(&find(&mut rig, &mark, LogLevel::Output).expect("a line")).1, "second");
    }
}

#[test]
fn a_log_is_a_channel_and_no_argument() {
    let mut rig = Rig::launched(followed());
    let Effect::Prepare(wanted) = rig.effects.swap_remove(0) else { panic!("it is prepared first") };
    let tty = (Channel::Console(0), Transport::Pair);
    assert_eq!(wanted.channels, [(Channel::Monitor, Transport::Pair), tty, (LOG, Transport::Output)]);
    let arguments = |config: &Config| config.command_line().expect("a good configuration");
    let without = Config::new("/usr/bin/qemu-system-x86_64").autostart().serial("tty");
    assert_eq!(arguments(&followed()), arguments(&without));
    assert_eq!(arguments(&followed().follow_log()), arguments(&without), "once is enough");
    assert!(!rig.vm.prepared().descriptors.iter().any(|(what, _)| *what == Inherited::Channel(LOG)));
    // A console behind it has its own channel and its own descriptor.
    let behind = Config::new("qemu").follow_log().serial("tty").command_line().expect("a good configuration");
    assert!(behind.arguments().contains(&b"socket,fd=4,id=tty".to_vec()), "{behind}");
}

#[test]
fn a_log_takes_no_input_and_is_no_file() {
    let mut rig = Rig::ready(followed());
    assert_eq!(rig.vm.console_write(rig.now, Config::LOG, b"x"), Err(Misuse::TakesNoInput("log".into())));
    rig.vm.console_write(rig.now, "tty", b"x").expect("a console");
    let refused = |config: Config| config.command_line().expect_err("it is refused");
    for config in [followed().outlive_parent(), followed().log_directory("/logs")] {
        assert!(refused(config).to_string().contains("a log that is followed is no file"));
    }
    assert_eq!(refused(followed().console_log("log", "/log")), Misuse::UnknownConsole("log".into()));
    for config in [followed().serial("log"), config().chardev("log").follow_log()] {
        assert!(refused(config).to_string().contains("`log` cannot name a console"));
    }
    let mut rig = Rig::ready(config().chardev("log"));
    let not_followed = rig.vm.wait(rig.now, &Mark::default(), [Wait::log(LogLevel::Output)], FOREVER);
    assert_eq!(not_followed, Err(Misuse::UnknownConsole("log".into())), "a console of that name is not the log");
}

#[test]
fn a_log_is_recorded() {
    let mut rig = Rig::ready(followed());
    let mark = rig.vm.mark();
    let id = rig.wait(&mark, [Wait::log(LogLevel::Info), Wait::log(LogLevel::Warning)]);
    prints(&mut rig, "qemu-system-x86_64: warning: secret\n");
    assert!(rig.vm.claim_wait(id).is_some());
    rig.dies(SIGKILL);
    let mut record: Record = rig.vm.record().expect("it is recorded").to_string().parse().expect("a valid record");
    assert!(record.replay().is_ok(), "{record}");
    record.redact("secret").expect("it is long enough");
    assert!(!record.to_string().contains("secret") && record.replay().is_ok());
}
