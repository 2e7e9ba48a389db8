//! Stories of procedures that fail on a real QEMU: what they remove, and what they report.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use qemu_machine_core::procedure::{
    self, CloseNode, Created, FollowJob, JobEnd, JobError, Migrate, MigrateError, MigrationEnd, OpenNode, Procedure,
    ProcedureError,
};
use qemu_machine_core::wire::Encoded;
use qemu_machine_core::{CommandError, Config, Deadline, Limits, Mark, Shutdown, Value, Wait, json};
use qemu_machine_host::descriptor;
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::qemu;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

/// A machine with nothing in it.
fn empty() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-accel", "tcg"])
}

/// A machine with a processor, memory of this many MB, and a disk that can hold snapshots.
fn with_memory(size: &str, disk: &Path) -> Config {
    let disk = format!("driver=qcow2,node-name=disk,file.driver=file,file.filename={}", disk.display());
    Config::new(qemu()).args(["-machine", "pc", "-nodefaults", "-accel", "tcg", "-m", size, "-blockdev", &disk])
}

/// Adds two nodes of 64 MB without content.
fn add_nodes<H: Hosted>(machine: &mut H) {
    for name in ["disk", "copy"] {
        let node = json!({"driver": "null-co", "node-name": name, "size": 64 << 20});
        machine.execute_with("blockdev-add", node).expect("the node is added");
    }
}

/// The command of a mirror that copies a byte in a second after the first 16 MB (measured with QEMU 7.2.22).
fn mirror() -> (&'static str, Value) {
    ("blockdev-mirror", json!({"job-id": "j", "device": "disk", "target": "copy", "sync": "full", "speed": 1}))
}

/// Asserts that no job is left, and that the nodes are free for the next one.
fn assert_free<H: Hosted>(machine: &mut H) {
    assert_eq!(machine.execute("query-jobs", LONG), Ok(json!([])));
    let (command, arguments) = mirror();
    machine.execute_with(command, arguments).expect("no node is busy, and the id is free");
}

fn g40_a_job_that_runs_out_of_time_leaves_its_nodes_free<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    add_nodes(&mut machine);
    let late = machine.run(FollowJob::of(&mirror(), "j"), Duration::from_millis(200).into());
    let Err(JobError::Procedure(error)) = late else { panic!("{late:?}") };
    assert_eq!(error.remains(), []);
    assert_free(&mut machine);
}

fn g40_a_dropped_run_leaves_its_nodes_free<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    add_nodes(&mut machine);
    machine.drop_run(FollowJob::of(&mirror(), "j"));
    machine.wait_for(Wait::event("JOB_STATUS_CHANGE").with(json!({"id": "j", "status": "null"})));
    assert_free(&mut machine);
    machine.drop_run(FollowJob::of(&mirror(), "j"));
    let status = machine.execute("query-jobs", LONG).expect("the monitor answers")[0]["status"].clone();
    assert_eq!(status, "running", "QEMU refused the command, and the job that has this id is another one's");
}

/// A procedure that executes other commands between the first reply and the rest, and waits for an event before them.
struct Meanwhile<P> {
    inner: P,
    event: Option<Wait>,
    commands: Vec<Encoded>,
    begin: Mark,
    reply: Option<procedure::Input>,
}

impl<P> Meanwhile<P> {
    fn new(inner: P, event: Option<Wait>, commands: &[&str]) -> Self {
        let commands = commands.iter().rev().map(|name| Encoded::command(name).expect("a name")).collect();
        Self { inner, event, commands, begin: Mark::default(), reply: None }
    }
}

impl<P: Procedure> Procedure for Meanwhile<P> {
    type Return = P::Return;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        let input = match (input, &self.reply) {
            (procedure::Input::Begun(mark), _) => {
                self.begin = mark.clone();
                return self.inner.step(procedure::Input::Begun(mark));
            }
            (reply, None) if !self.commands.is_empty() => {
                assert!(matches!(reply, procedure::Input::Reply(Ok(_))), "{reply:?}");
                self.reply = Some(reply);
                match self.event.take() {
                    Some(event) => return procedure::Output::wait(&self.begin, [event]),
                    None => procedure::Input::Later,
                }
            }
            (input, _) => input,
        };
        match (self.commands.pop(), self.reply.take()) {
            (Some(command), reply) => {
                self.reply = reply;
                procedure::Output::Execute(Ok(command))
            }
            (None, Some(reply)) => self.inner.step(reply),
            (None, None) => self.inner.step(input),
        }
    }
}

/// The event of the end is evicted from a history of 2 KB before the job's procedure waits for it.
fn g40_a_job_completes_in_a_storm_of_events<H: Hosted>() {
    let mut limits = Limits::default();
    limits.events = 2 << 10;
    for dismisses_itself in [false, true] {
        let mut machine = H::launch(empty().limits(limits)).expect("QEMU starts");
        add_nodes(&mut machine);
        let backup = json!({
            "job-id": "j", "device": "disk", "target": "copy", "sync": "none", "auto-dismiss": dismisses_itself,
        });
        machine.execute_with("blockdev-backup", backup.clone()).expect("the job starts");
        machine.execute_with("job-cancel", json!({"id": "j"})).expect("the job exists");
        machine.wait_for(Wait::event("JOB_STATUS_CHANGE").with(json!({"id": "j", "status": "concluded"})));
        if !dismisses_itself {
            machine.execute_with("job-dismiss", json!({"id": "j"})).expect("the job is concluded");
        }
        let mut full = backup;
        full["sync"] = "full".into();
        let concluded = Wait::event("JOB_STATUS_CHANGE").with(json!({"id": "j", "status": "concluded"}));
        let storm: Vec<&str> = ["stop", "cont"].into_iter().cycle().take(100).collect();
        let follow = FollowJob::of(&("blockdev-backup", full), "j");
        let end = machine.run(Meanwhile::new(follow, Some(concluded), &storm), LONG);
        let known = if dismisses_itself { Err(JobError::Unobserved) } else { Ok(JobEnd::Completed) };
        assert_eq!(end, known, "QEMU no longer lists a job that dismisses itself");
    }
}

fn g40_a_job_that_qemu_cancels_when_it_quits_is_reported_as_cancelled<H: Hosted>() {
    let mut machine = H::launch(empty()).expect("QEMU starts");
    add_nodes(&mut machine);
    let end = machine.run(Meanwhile::new(FollowJob::of(&mirror(), "j"), None, &["quit"]), LONG);
    assert_eq!(end, Ok(JobEnd::Cancelled));
}

/// Writes what a source sends, up to this number of bytes.
fn stream<H: Hosted>(scratch: &Scratch, length: usize) -> PathBuf {
    let (address, path) = (scratch.path().join("socket"), scratch.path().join("stream"));
    let listener = UnixListener::bind(&address).expect("the path is short");
    let receiver = thread::spawn(move || {
        let mut whole = Vec::new();
        let (mut source, _) = listener.accept().expect("QEMU connects");
        source.read_to_end(&mut whole).map(|_| whole)
    });
    let mut here = H::launch(empty()).expect("QEMU starts");
    assert_eq!(here.run(Migrate::to(format!("unix:{}", address.display())), LONG), Ok(MigrationEnd::Completed));
    here.shutdown(Shutdown::default()).expect("the machine was launched");
    let whole = receiver.join().expect("no panic").expect("the stream is readable");
    assert!(whole.len() > length);
    fs::write(&path, &whole[..length]).expect("there is room");
    path
}

fn g40_a_stream_that_cannot_be_loaded_is_reported_in_the_words_of_qemu<H: Hosted>() {
    let scratch = Scratch::create();
    let truncated = stream::<H>(&scratch, 100);
    let foreign = scratch.path().join("foreign");
    fs::write(&foreign, "no migration at all").expect("there is room");
    for (stream, words) in [(truncated, "load of migration failed"), (foreign, "Not a migration stream")] {
        let mut there = H::launch(empty().args(["-incoming", "defer"])).expect("QEMU starts");
        let listen = Migrate::listen(format!("exec:cat {}", stream.display()));
        assert_eq!(there.run(listen, LONG), Ok(MigrationEnd::Listening));
        let failed = there.run(Migrate::arrival(), LONG);
        assert!(matches!(&failed, Err(MigrateError::Failed(why)) if why.contains(words)), "{failed:?}");
    }
}

/// The destination reads nothing, so that the source waits for room in the socket: its memory, without content, is 500 KB on
/// the wire (measured with QEMU 7.2.22).
fn g40_a_migration_that_runs_out_of_time_is_cancelled_and_can_be_repeated<H: Hosted>() {
    let scratch = Scratch::create();
    let address = scratch.path().join("socket");
    let listener = UnixListener::bind(&address).expect("the path is short");
    let reader = thread::spawn(move || {
        let _unread = listener.accept().expect("QEMU connects");
        let (mut source, _) = listener.accept().expect("QEMU connects again");
        drop(std::io::copy(&mut source, &mut std::io::sink()));
    });
    let mut here = H::launch(empty().args(["-machine", "pc", "-m", "256"])).expect("QEMU starts");
    let address = format!("unix:{}", address.display());
    let late = here.run(Migrate::to(&*address), Duration::from_millis(500).into());
    let Err(MigrateError::Procedure(error)) = late else { panic!("{late:?}") };
    assert_eq!(error.remains(), []);
    assert_eq!(here.execute("query-migrate", LONG).expect("the monitor answers")["status"], "cancelled");
    assert_eq!(here.execute("query-status", LONG).expect("the monitor answers")["status"], "running");
    assert_eq!(here.run(Migrate::to(&*address), LONG), Ok(MigrationEnd::Completed));
    reader.join().expect("no panic");
}

fn g40_a_snapshot_that_is_not_loaded_names_the_run_state_and_the_reason_in_the_log<H: Hosted>() {
    let scratch = Scratch::create();
    let disk = scratch.path().join("disk.qcow2");
    let created = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("16M").status();
    assert!(created.expect("qemu-img is installed").success());
    let snapshot = |command: &'static str| {
        (command, json!({"job-id": "j", "tag": "small", "vmstate": "disk", "devices": ["disk"]}))
    };
    {
        let mut machine = H::launch(with_memory("16", &disk)).expect("QEMU starts");
        assert_eq!(machine.run(FollowJob::of(&snapshot("snapshot-save"), "j"), LONG), Ok(JobEnd::Completed));
        assert_eq!(machine.run(FollowJob::of(&snapshot("snapshot-load"), "j"), LONG), Ok(JobEnd::Completed));
    }
    let mut machine = H::launch(with_memory("32", &disk)).expect("QEMU starts");
    let log = machine.log_reader();
    let load = FollowJob::of(&snapshot("snapshot-load"), "j").log(move || log.read(4096).expect("the log is readable"));
    let failed = machine.run(load, LONG);
    let Err(JobError::Failed(failure)) = &failed else { panic!("{failed:?}") };
    assert_eq!(failure.run_state.as_deref(), Some("restore-vm"));
    assert!(!failure.reason.contains("pc.ram") && failure.log.contains("pc.ram"), "{failure}");
    assert_eq!(machine.execute("query-jobs", LONG), Ok(json!([])), "the job is dismissed");
    for command in ["system_reset", "cont"] {
        machine.execute(command, LONG).expect("QEMU accepts it");
    }
    assert_eq!(machine.execute("query-status", LONG).expect("the monitor answers")["status"], "running");
}

/// Opens a node of this format on a file.
fn open(format: &'static str, path: &Path) -> OpenNode {
    let file = fs::File::options().read(true).write(true).open(path).expect("the file exists");
    OpenNode::new(
        "disk",
        descriptor(file),
        move |path| json!({"driver": format, "file": {"driver": "file", "filename": path}}),
    )
}

/// Returns how many descriptors of QEMU are this file.
pub(crate) fn opened<H: Hosted>(machine: &mut H, path: &Path) -> usize {
    let pid = machine.pid().expect("the process runs");
    let all = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs");
    let is_meant = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|to| to == path);
    all.filter(|entry| entry.as_ref().is_ok_and(is_meant)).count()
}

fn g40_a_node_that_fails_or_is_closed_leaves_no_descriptor<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("disk");
    fs::write(&path, vec![0; 1 << 20]).expect("there is room");
    let mut machine = H::launch(empty()).expect("QEMU starts");
    let failed = machine.run(open("qcow2", &path), LONG);
    let Err(error @ ProcedureError::Command(CommandError::Refused(_))) = failed else { panic!("{failed:?}") };
    assert!(error.to_string().contains("qcow2"), "{error}");
    assert_eq!((machine.execute("query-fdsets", LONG), opened(&mut machine, &path)), (Ok(json!([])), 0));

    let node = machine.run(open("raw", &path), LONG).expect("the node is opened");
    assert_eq!(opened(&mut machine, &path), 2, "that of the fd set, and its copy in the node");
    let above = json!({"driver": "raw", "node-name": "above", "file": "disk"});
    machine.execute_with("blockdev-add", above).expect("the node is added");
    let busy = machine.run(CloseNode::new(&node), LONG);
    assert!(matches!(busy, Err(ProcedureError::Command(CommandError::Refused(_)))), "{busy:?}");
    machine.execute_with("blockdev-del", json!({"node-name": "above"})).expect("no node uses it");
    assert_eq!(machine.run(CloseNode::new(&node), LONG), Ok(()), "it can be repeated");
    assert_eq!((machine.execute("query-fdsets", LONG), opened(&mut machine, &path)), (Ok(json!([])), 0));
}

/// QEMU 7.2 closes a removed descriptor only while the guest runs.
fn g40_a_descriptor_that_qemu_keeps_is_named<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("disk");
    fs::write(&path, vec![0; 1 << 20]).expect("there is room");
    let mut machine = H::launch(empty()).expect("QEMU starts");
    machine.execute("stop", LONG).expect("the guest runs");
    let node = machine.run(open("raw", &path), LONG).expect("the node is opened");
    let closed = machine.run(CloseNode::new(&node), LONG);
    let is_open = opened(&mut machine, &path) > 0;
    let remains = closed.as_ref().err().map(ProcedureError::remains).unwrap_or_default();
    let named: Vec<_> = remains.iter().map(|remnant| remnant.created.clone()).collect();
    assert_eq!(named, if is_open { vec![Created::FdSet(node.fd_set)] } else { vec![] }, "{closed:?}");
    if is_open {
        machine.execute("cont", LONG).expect("the guest is paused");
        machine.execute_with("remove-fd", json!({"fdset-id": node.fd_set})).expect("the fd set is there");
        assert_eq!((machine.execute("query-fdsets", LONG), opened(&mut machine, &path)), (Ok(json!([])), 0));
    }
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g40_a_job_that_runs_out_of_time_leaves_its_nodes_free
            g40_a_dropped_run_leaves_its_nodes_free
            g40_a_job_completes_in_a_storm_of_events
            g40_a_job_that_qemu_cancels_when_it_quits_is_reported_as_cancelled
            g40_a_stream_that_cannot_be_loaded_is_reported_in_the_words_of_qemu
            g40_a_migration_that_runs_out_of_time_is_cancelled_and_can_be_repeated
            g40_a_node_that_fails_or_is_closed_leaves_no_descriptor
            g40_a_descriptor_that_qemu_keeps_is_named
            g40_a_snapshot_that_is_not_loaded_names_the_run_state_and_the_reason_in_the_log
        }
    };
}

rows!(stories, strict);
