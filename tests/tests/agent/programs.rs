//! Stories of procedures of a guest agent, with a qemu-ga on this host: programs and files.

use std::fs;
use std::io::Write;
use std::path::Path;

use qemu_machine_core::UntrustedText;
use qemu_machine_core::procedure::{
    GuestExec, GuestExecEnd, GuestExecError, GuestExit, ProcedureError, ReadGuestFile, WriteGuestFile,
};
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::host::{attach, with_an_agent};
use crate::on_each_row;
use crate::rows::{Agent, Row, SHORT};

on_each_row! {
    a_program_in_the_guest_ends_with_its_output,
    a_program_in_the_guest_that_runs_on_is_named_and_waited_for,
    the_output_of_a_program_in_the_guest_is_bounded,
    the_output_of_a_program_in_the_guest_is_followed_in_a_file,
    a_file_in_the_guest_is_written_and_read,
    g40_a_file_in_the_guest_is_closed_after_a_failure,
}

fn sh(script: &str) -> GuestExec {
    GuestExec::program("/bin/sh").args(["-c", script])
}

fn ends<A: Agent>(agent: &mut A, exec: GuestExec) -> GuestExecEnd {
    agent.run(exec).unwrap_or_else(|error| panic!("{error}"))
}

fn text(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().expect("a path in UTF-8").to_owned()
}

/// Creates a FIFO. A program that reads it blocks until a line is written.
fn gate(directory: &Path) -> String {
    let path = text(directory, "hold");
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).expect("a FIFO can be created");
    path
}

fn a_program_in_the_guest_ends_with_its_output<R: Row>() {
    with_an_agent(|directory| {
        let mut agent = attach::<R>(directory);
        let exec = sh("cat; echo $A $B; echo err >&2; exit 3").env("A", "one").env("B", "two").input(*b"in\xff\0\n");
        let end = ends(&mut agent, exec);
        assert_eq!(
            (end.exit, &*end.stdout, &*end.stderr),
            (GuestExit::Code(3), &b"in\xff\0\none two\n"[..], &b"err\n"[..])
        );
        assert!(!end.is_stdout_truncated && !end.is_stderr_truncated && end.pid > 0, "{end:?}");
        assert_eq!(ends(&mut agent, sh("kill -9 $$")).exit, GuestExit::Signal(9));
        let silent = ends(&mut agent, sh("echo out").without_output());
        assert_eq!((silent.exit, &*silent.stdout), (GuestExit::Code(0), &b""[..]));
        let failed = agent.run(GuestExec::program("/nowhere/at/all")).expect_err("there is no such program");
        assert!(matches!(failed, GuestExecError::Procedure(ProcedureError::Command(_))), "{failed}");
    });
}

fn a_program_in_the_guest_that_runs_on_is_named_and_waited_for<R: Row>() {
    with_an_agent(|directory| {
        let mut agent = attach::<R>(directory);
        let hold = gate(directory);
        let late = agent.run_within(sh(&format!("read line <{hold}; exit $line")), SHORT).expect_err("it runs on");
        let told = late.to_string();
        let GuestExecError::Unfinished { pid, .. } = late else { panic!("{late}") };
        assert!(told.starts_with(&format!("process {pid} in the guest was started, and may still run: ")), "{told}");
        // The write blocks until the program reads.
        fs::write(&hold, "7\n").expect("the program reads");
        assert_eq!(ends(&mut agent, GuestExec::process(pid)).exit, GuestExit::Code(7));
        let gone = agent.run(GuestExec::process(pid)).expect_err("the agent reports an end once");
        assert!(matches!(gone, GuestExecError::Unfinished { .. }), "{gone}");
    });
}

/// The agent keeps 16 MiB.
fn the_output_of_a_program_in_the_guest_is_bounded<R: Row>() {
    with_an_agent(|directory| {
        let mut agent = attach::<R>(directory);
        let end = ends(&mut agent, sh("head -c 17000000 /dev/zero; echo all >&2"));
        assert_eq!((end.stdout.len(), &*end.stderr), (16 << 20, &b"all\n"[..]));
        assert!(end.is_stdout_truncated && !end.is_stderr_truncated);
    });
}

fn the_output_of_a_program_in_the_guest_is_followed_in_a_file<R: Row>() {
    with_an_agent(|directory| {
        let mut agent = attach::<R>(directory);
        let (hold, log) = (gate(directory), text(directory, "output"));
        let exec = sh(&format!("(echo one; read line <{hold}; echo two) >{log} 2>&1")).without_output();
        let late = agent.run_within(exec, SHORT).expect_err("it runs on");
        let GuestExecError::Unfinished { pid, .. } = late else { panic!("{late}") };
        // The open blocks until the program reads, and it has printed its first line then.
        let mut writer = fs::OpenOptions::new().write(true).open(&hold).expect("the program reads");
        let first = agent.run(ReadGuestFile::new(&log)).expect("the file is readable");
        assert_eq!((&*first.bytes, first.is_at_end), (&b"one\n"[..], true));
        writer.write_all(b"\n").expect("the program reads");
        assert_eq!(ends(&mut agent, GuestExec::process(pid)).exit, GuestExit::Code(0));
        let rest = agent.run(ReadGuestFile::new(&log).offset(4)).expect("the file is readable");
        assert_eq!(&*rest.bytes, b"two\n");
    });
}

fn a_file_in_the_guest_is_written_and_read<R: Row>() {
    with_an_agent(|directory| {
        let mut agent = attach::<R>(directory);
        let path = text(directory, "file");
        // More than two chunks, of all bytes.
        let content: Vec<u8> = (0..2_500_000_u32).map(|byte| ((byte * 7) >> 4) as u8).collect();
        assert_eq!(agent.run(WriteGuestFile::new(&path, &*content)), Ok(()));
        assert!(fs::read(&path).expect("the file is readable") == content);
        let whole = agent.run(ReadGuestFile::new(&path)).expect("the file is readable");
        assert!(whole.bytes == content && whole.is_at_end);
        for (limit, is_at_end) in [(2_400_000, false), (2_500_000, true)] {
            let part = agent.run(ReadGuestFile::new(&path).limit(limit)).expect("the file is readable");
            assert!(part.bytes == content[..limit] && part.is_at_end == is_at_end, "{limit}");
        }
        assert_eq!(agent.run(WriteGuestFile::new(&path, "more").append()), Ok(()));
        let more = agent.run(ReadGuestFile::new(&path).offset(2_500_000)).expect("the file is readable");
        assert_eq!((&*more.bytes, more.is_at_end), (&b"more"[..], true));
        assert_eq!(agent.run(WriteGuestFile::new(&path, "")), Ok(()));
        assert_eq!(fs::read(&path).expect("the file is readable"), b"");
        assert_closed(&mut agent, &path);
    });
}

/// Asserts that the agent has not this file open. A program in the guest is a child of the agent.
fn assert_closed(agent: &mut impl Agent, path: &str) {
    let open = ends(agent, sh("ls -l /proc/$PPID/fd"));
    let open = UntrustedText::from_utf8_lossy(&open.stdout);
    assert!(open.contains("socket:") && !open.contains(path), "{open}");
}

fn g40_a_file_in_the_guest_is_closed_after_a_failure<R: Row>() {
    with_an_agent(|directory| {
        let mut agent = attach::<R>(directory);
        let nowhere = agent.run(ReadGuestFile::new("/nowhere/at/all")).expect_err("there is no such file").to_string();
        assert!(nowhere.ends_with("No such file or directory"), "{nowhere}");
        let full = agent.run(WriteGuestFile::new("/dev/full", vec![0; 9_999])).expect_err("it is full").to_string();
        assert!(full.contains("No space left on device"), "{full}");
        assert_closed(&mut agent, "/dev/full");
        let endless = agent.run(ReadGuestFile::new("/dev/zero").limit(1)).expect("it is readable");
        assert_eq!((&*endless.bytes, endless.is_at_end), (&[0][..], false));
        assert_closed(&mut agent, "/dev/zero");
    });
}
