//! Tests of the procedures of the guest agent, step by step against a scripted agent: programs and files in the guest.

use core::fmt::Debug;
use core::time::Duration;

use crate::rig::steps::{LONG, begun, on};
use crate::rig::{Rig, secs};
use qemu_machine_core::procedure::{
    AskGuest, AskGuestEnd, CLEAN_UP_WITHIN, Created, GuestExec, GuestExecError, GuestExit, Procedure, ProcedureError,
    ReadGuestFile, Run, WriteGuestFile,
};
use qemu_machine_core::{CommandError, Misuse, WaitError};

/// Runs a step that sends one command.
fn asks<P: Procedure>(rig: &mut Rig, run: &mut Run<P>, command: &str)
where
    P::Return: PartialEq + Debug,
{
    assert_eq!((on(rig, run), rig.asked()), (None, vec![command.to_string()]));
}

const STATUS: &str = "guest-exec-status,arguments:{pid:7}";

/// Starts a program, up to the reply of `guest-exec`.
fn started() -> (Rig, Run<GuestExec>) {
    let exec = GuestExec::program("/bin/sh").args(["-c", "true"]).env("A", "1").input("in");
    let (mut rig, mut run) = begun(exec, LONG);
    let request = "path:/bin/sh,arg:[-c,true],env:[A=1],input-data:aW4=,capture-output:true";
    assert_eq!(rig.asked(), [format!("guest-exec,arguments:{{{request}}}")]);
    rig.returns(1, r#"{"pid": 7}"#);
    assert_eq!(on(&mut rig, &mut run), None);
    (rig, run)
}

#[test]
fn a_program_is_asked_for_its_end_at_growing_intervals() {
    let (mut rig, mut run) = started();
    let mut pause = Duration::from_millis(10);
    for id in 2..12 {
        assert_eq!(rig.take_sent(), "", "no question before its time");
        rig.pass(pause - Duration::from_millis(1));
        assert_eq!((on(&mut rig, &mut run), rig.take_sent()), (None, String::new()));
        rig.pass(Duration::from_millis(1));
        asks(&mut rig, &mut run, STATUS);
        rig.returns(id % 10, r#"{"exited": false}"#);
        assert_eq!(on(&mut rig, &mut run), None);
        pause = (2 * pause).min(Duration::from_millis(500));
    }
    rig.pass(pause);
    asks(&mut rig, &mut run, STATUS);
    let status = r#"{"exited": true, "exitcode": 3, "out-data": "b3V0", "err-data": "", "out-truncated": true}"#;
    rig.returns(2, status);
    let end = on(&mut rig, &mut run).expect("it is over").expect("it ended");
    assert_eq!((end.pid, end.exit), (7, GuestExit::Code(3)));
    assert_eq!((&*end.stdout, &*end.stderr), (&b"out"[..], &b""[..]));
    assert!(end.is_stdout_truncated && !end.is_stderr_truncated);
}

#[test]
fn each_end_of_a_program_is_reported() {
    for (status, exit) in [
        (r#"{"exited": true, "signal": 9}"#, GuestExit::Signal(9)),
        (r#"{"exited": true, "exitcode": 3221225477}"#, GuestExit::Code(0xC000_0005)),
        (r#"{"exited": true}"#, GuestExit::Unknown),
    ] {
        let (mut rig, mut run) = begun(GuestExec::process(7), LONG);
        assert_eq!(rig.asked(), [STATUS]);
        rig.returns(1, status);
        assert_eq!(on(&mut rig, &mut run).expect("it is over").expect("it ended").exit, exit);
    }
}

#[test]
fn a_program_whose_end_is_not_observed_is_named() {
    // The deadline passes between two questions, and during one.
    for asks in [false, true] {
        let (mut rig, mut run) = started();
        if asks {
            rig.pass(Duration::from_millis(10));
            assert_eq!((on(&mut rig, &mut run), rig.asked()), (None, vec![STATUS.to_string()]));
        }
        rig.pass(secs(60));
        let error = loop {
            match on(&mut rig, &mut run) {
                Some(end) => break end.expect_err("its end is unknown"),
                None => rig.pass(secs(60)),
            }
        };
        let GuestExecError::Unfinished { pid: 7, error } = error else { panic!("{error}") };
        let is_late = matches!(
            error,
            ProcedureError::Wait(WaitError::TimedOut) | ProcedureError::Command(CommandError::TimedOut(..))
        );
        assert!(is_late, "{error}");
    }
    // The agent refuses, or sends what is no status.
    for answer in
        [r#""error": {"class": "GenericError", "desc": "no"}"#, r#""return": {"exited": true, "out-data": "?"}"#]
    {
        let (mut rig, mut run) = started();
        rig.pass(Duration::from_millis(10));
        asks(&mut rig, &mut run, STATUS);
        rig.says(&format!("{{{answer}, \"id\": 2}}"));
        let error = on(&mut rig, &mut run).expect("it is over").expect_err("its end is unknown");
        assert!(matches!(error, GuestExecError::Unfinished { pid: 7, .. }), "{error}");
    }
    // It was not started.
    let (mut rig, mut run) = begun(GuestExec::program("/nowhere"), LONG);
    rig.refuses(1);
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("it is refused");
    assert!(matches!(error, GuestExecError::Procedure(ProcedureError::Command(CommandError::Refused(_)))), "{error}");
}

#[test]
fn a_question_after_the_end_of_the_connection_is_no_question() {
    let (mut rig, mut run) = started();
    rig.exits(crate::rig::SIGKILL);
    rig.closes_all();
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("its end is unknown");
    assert!(matches!(error, GuestExecError::Unfinished { pid: 7, error: ProcedureError::Wait(WaitError::Ended(_)) }));
}

const CLOSE: &str = "guest-file-close,arguments:{handle:5}";

/// Opens a file to read, up to the first request for bytes.
fn reading(read: ReadGuestFile, count: usize) -> (Rig, Run<ReadGuestFile>) {
    let (mut rig, mut run) = begun(read, LONG);
    assert_eq!(rig.asked(), ["guest-file-open,arguments:{mode:r,path:/f}"]);
    rig.returns(1, "5");
    asks(&mut rig, &mut run, &format!("guest-file-read,arguments:{{count:{count},handle:5}}"));
    (rig, run)
}

#[test]
fn a_file_is_read_to_its_end() {
    let (mut rig, mut run) = reading(ReadGuestFile::new("/f"), 1 << 20);
    rig.returns(2, r#"{"count": 2, "buf-b64": "YWI=", "eof": false}"#);
    asks(&mut rig, &mut run, "guest-file-read,arguments:{count:1048576,handle:5}");
    rig.returns(3, r#"{"count": 1, "buf-b64": "Yw==", "eof": true}"#);
    asks(&mut rig, &mut run, CLOSE);
    rig.replies(4);
    let part = on(&mut rig, &mut run).expect("it is over").expect("it is read");
    assert_eq!((&*part.bytes, part.is_at_end), (&b"abc"[..], true));
}

#[test]
fn a_limit_bounds_what_is_read() {
    for (answer, bytes, is_at_end) in [
        (r#"{"count": 3, "buf-b64": "YWJj", "eof": false}"#, "ab", false),
        (r#"{"count": 3, "buf-b64": "YWJj", "eof": true}"#, "ab", false),
        (r#"{"count": 2, "buf-b64": "YWI=", "eof": true}"#, "ab", true),
        (r#"{"count": 9, "buf-b64": "YWJjZGVmZ2hp", "eof": true}"#, "ab", false),
        (r#"{"count": 0, "buf-b64": "", "eof": false}"#, "", false),
    ] {
        let (mut rig, mut run) = reading(ReadGuestFile::new("/f").limit(2), 3);
        rig.returns(2, answer);
        asks(&mut rig, &mut run, CLOSE);
        rig.replies(3);
        let part = on(&mut rig, &mut run).expect("it is over").expect("it is read");
        assert_eq!((&*part.bytes, part.is_at_end), (bytes.as_bytes(), is_at_end), "{answer}");
    }
}

#[test]
fn a_file_is_read_from_an_offset() {
    let (mut rig, mut run) = begun(ReadGuestFile::new("/f").offset(9), LONG);
    rig.take_sent();
    rig.returns(1, "5");
    asks(&mut rig, &mut run, "guest-file-seek,arguments:{handle:5,offset:9,whence:set}");
    rig.returns(2, r#"{"position": 9, "eof": false}"#);
    asks(&mut rig, &mut run, "guest-file-read,arguments:{count:1048576,handle:5}");
}

/// Opens a file to write, up to the first bytes.
fn writing(write: WriteGuestFile, mode: &str, chunk: &str) -> (Rig, Run<WriteGuestFile>) {
    let (mut rig, mut run) = begun(write, LONG);
    assert_eq!(rig.asked(), [format!("guest-file-open,arguments:{{mode:{mode},path:/f}}")]);
    rig.returns(1, "5");
    asks(&mut rig, &mut run, &format!("guest-file-write,arguments:{{buf-b64:{chunk},handle:5}}"));
    (rig, run)
}

#[test]
fn a_file_is_written_whole_also_when_the_agent_writes_a_part() {
    let (mut rig, mut run) = writing(WriteGuestFile::new("/f", "abc").append(), "a", "YWJj");
    rig.returns(2, r#"{"count": 2, "eof": false}"#);
    asks(&mut rig, &mut run, "guest-file-write,arguments:{buf-b64:Yw==,handle:5}");
    rig.returns(3, r#"{"count": 1, "eof": false}"#);
    asks(&mut rig, &mut run, "guest-file-flush,arguments:{handle:5}");
    rig.replies(4);
    asks(&mut rig, &mut run, CLOSE);
    rig.replies(5);
    assert_eq!(on(&mut rig, &mut run), Some(Ok(())));
}

#[test]
fn g40_a_file_is_closed_after_each_failure() {
    for answer in [
        r#""error": {"class": "GenericError", "desc": "no"}"#,
        r#""return": {"count": 0}"#,
        r#""return": {"count": 4}"#,
        r#""return": {"count": -1}"#,
    ] {
        let (mut rig, mut run) = writing(WriteGuestFile::new("/f", "abc"), "w", "YWJj");
        rig.says(&format!("{{{answer}, \"id\": 2}}"));
        asks(&mut rig, &mut run, CLOSE);
        rig.replies(3);
        let error = on(&mut rig, &mut run).expect("it is over").expect_err("it is not written");
        assert!(matches!(error, ProcedureError::Command(_)), "{answer}: {error}");
    }
    // The deadline passes, and the file is closed in the time after it.
    let (mut rig, mut run) = reading(ReadGuestFile::new("/f"), 1 << 20);
    rig.pass(secs(60));
    asks(&mut rig, &mut run, CLOSE);
    rig.replies(3);
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("it is late");
    assert!(matches!(error, ProcedureError::Command(CommandError::TimedOut(..))), "{error}");
}

#[test]
fn g40_a_file_that_cannot_be_closed_is_named() {
    let open = |handle| Created::GuestFile { path: "/f".into(), handle };
    // After a failure, and after success.
    for works in [false, true] {
        let (mut rig, mut run) = reading(ReadGuestFile::new("/f"), 1 << 20);
        if works {
            rig.returns(2, r#"{"count": 0, "buf-b64": "", "eof": true}"#);
        } else {
            rig.refuses(2);
        }
        asks(&mut rig, &mut run, CLOSE);
        rig.pass(if works { secs(60) } else { CLEAN_UP_WITHIN.max(secs(60)) });
        let error = on(&mut rig, &mut run).expect("it is over").expect_err("it is not closed");
        assert_eq!(error.remains()[0].created, open(Some(5)), "{error}");
        assert!(error.to_string().contains("; still open: handle 5 of /f in the guest ("), "{error}");
    }
    // The agent may have opened it.
    let (mut rig, mut run) = begun(ReadGuestFile::new("/f"), LONG);
    rig.pass(secs(60));
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("it is late");
    assert_eq!(error.remains()[0].created, open(None), "{error}");
    // It has not.
    let (mut rig, mut run) = begun(ReadGuestFile::new("/f"), LONG);
    rig.refuses(1);
    let error = on(&mut rig, &mut run).expect("it is over").expect_err("it is refused");
    assert!(error.remains().is_empty(), "{error}");
}

#[test]
fn g40_a_file_of_a_run_that_is_dropped_is_closed() {
    // While it is open, and while it is being opened.
    let (mut rig, mut run) = reading(ReadGuestFile::new("/f"), 1 << 20);
    run.disown(&mut rig.vm, rig.now);
    assert_eq!(rig.asked(), [CLOSE]);
    let (mut rig, mut run) = begun(WriteGuestFile::new("/f", "abc"), LONG);
    rig.take_sent();
    run.disown(&mut rig.vm, rig.now);
    assert_eq!(rig.take_sent(), "");
    rig.returns(1, "5");
    assert_eq!(rig.asked(), [CLOSE]);
    // The agent has not opened it.
    let (mut rig, mut run) = begun(WriteGuestFile::new("/f", "abc"), LONG);
    rig.take_sent();
    run.disown(&mut rig.vm, rig.now);
    rig.refuses(1);
    assert_eq!(rig.take_sent(), "");
}

#[test]
fn a_request_to_the_guest_may_stay_without_an_answer() {
    let (mut rig, mut run) = begun(AskGuest::reboot(), LONG);
    assert_eq!(rig.asked(), ["guest-shutdown,arguments:{mode:reboot}"]);
    rig.returns(1, "{}");
    assert_eq!(on(&mut rig, &mut run), Some(Ok(AskGuestEnd::Accepted)));
    let (mut rig, mut run) = begun(AskGuest::power_off(), LONG);
    assert_eq!(rig.asked(), ["guest-shutdown,arguments:{mode:powerdown}"]);
    rig.pass(secs(60));
    assert_eq!(on(&mut rig, &mut run), Some(Ok(AskGuestEnd::Unanswered)), "late");
    let (mut rig, mut run) = begun(AskGuest::suspend(), LONG);
    assert_eq!(rig.asked(), ["guest-suspend-ram"]);
    rig.exits(crate::rig::SIGKILL);
    rig.closes_all();
    assert_eq!(on(&mut rig, &mut run), Some(Ok(AskGuestEnd::Unanswered)), "disconnected");
    let (mut rig, mut run) = begun(AskGuest::suspend(), LONG);
    rig.refuses(1);
    let refused = on(&mut rig, &mut run).expect("it is over");
    assert!(matches!(refused, Err(ProcedureError::Command(CommandError::Refused(_)))), "{refused:?}");
}

/// A procedure that ran and runs once more, as part of another one, is refused.
#[test]
fn a_procedure_runs_once() {
    use qemu_machine_core::procedure;

    fn again<P: Procedure>(mut procedure: P) {
        drop(procedure.step(procedure::Input::Begun(Default::default())));
        let second = procedure.step(procedure::Input::Begun(Default::default()));
        assert!(matches!(second, procedure::Output::Execute(Err(Misuse::ProcedureReused))));
    }
    again(GuestExec::program("/x"));
    again(ReadGuestFile::new("/x"));
    again(WriteGuestFile::new("/x", "x"));
    again(AskGuest::reboot());
}
