//! Tests of what a machine logs through the crate `tracing`, and of the `Debug` output of its handles.
//!
//! The log is read from the output of the example `traced`, the only one that is built with the feature.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use qemu_machine_core::{Config, Shutdown};
use qemu_machine_mio::EventLoop;
use qemu_machine_tests::cargo::example;
use qemu_machine_tests::{bounded, bounded_by, qemu};

/// Deadline of the example, whose first run compiles it.
const PATIENCE: Duration = Duration::from_secs(300);

/// The secret that the example sends.
const SECRET: &str = "correct horse battery staple";

const ROWS: [&str; 5] = ["blocking", "mio", "smol_on_smol", "tokio_current", "tokio_multi"];
const LIFECYCLE: &str = "qemu_machine::lifecycle";
const WIRE: &str = "qemu_machine::wire";

/// An event as the example prints it.
#[derive(Debug)]
struct Logged {
    level: String,
    target: String,
    /// The name of the machine and the process id, as the span of the event has them.
    machine: String,
    pid: String,
    message: String,
    fields: BTreeMap<String, String>,
}

impl Logged {
    fn read(line: &str) -> Option<Self> {
        let mut parts = line.split('\t').map(String::from);
        let mut next = || parts.next();
        let [level, target, machine, pid, message] = [next()?, next()?, next()?, next()?, next()?];
        let fields = parts.filter_map(|field| field.split_once('=').map(|(name, value)| (name.into(), value.into())));
        Some(Self { fields: fields.collect(), level, target, machine, pid, message })
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Returns the output of the example, which runs once.
fn printed() -> &'static str {
    static PRINTED: OnceLock<String> = OnceLock::new();
    PRINTED.get_or_init(|| {
        assert!(qemu().starts_with("qemu"));
        bounded_by(PATIENCE, || {
            let program = example("traced", &["--features", "tracing"]);
            let output = Command::new(program).arg(env!("CARGO_BIN_EXE_scripted-qemu")).output().expect("it was built");
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
            printed
        })
    })
}

fn told() -> impl Iterator<Item = Logged> {
    printed().lines().filter_map(Logged::read)
}

/// Returns the log of one run, without what differs between runs: process ids, paths, and the version of QEMU.
fn run(row: &str, run: &str) -> Vec<String> {
    let name = format!("{row}:{run}");
    let lines = told().filter(|told| told.target == LIFECYCLE && told.machine == name);
    let line = |told: Logged| {
        let what = ["companion", "rung", "status", "cause", "why", "fault"].map(|field| told.field(field));
        let words = [&*told.level, &told.message].into_iter().chain(what);
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    lines.map(line).collect()
}

/// Returns the whole text that went over a channel in one direction, however it was cut.
fn carried(machine: &str, channel: &str, direction: &str) -> String {
    let on = |told: &Logged| told.machine == machine && told.field("channel") == channel && told.message == direction;
    told().filter(on).map(|told| told.field("text").to_owned()).collect()
}

#[test]
fn row_36_a_run_is_logged_in_order() {
    let expected = [
        "DEBUG prepared",
        "INFO spawned",
        "INFO ready",
        "DEBUG ending quit",
        "DEBUG exited exit status 0",
        "INFO ended ended by the caller (quit)",
    ];
    assert_eq!(run("blocking", "asked"), expected);
    let expected = [
        "DEBUG prepared",
        "INFO spawned",
        "INFO ready",
        "DEBUG ending SIGKILL",
        "DEBUG exited signal 9 (SIGKILL)",
        "INFO ended ended by the caller (SIGKILL)",
    ];
    assert_eq!(run("blocking", "dropped"), expected);
}

#[test]
fn row_36_the_start_and_the_end_of_a_companion_are_logged() {
    let expected = [
        "DEBUG prepared",
        "INFO companion started sleeper",
        "INFO spawned",
        "INFO ready",
        "DEBUG ending quit",
        "DEBUG exited exit status 0",
        "INFO companion exited sleeper signal 15 (SIGTERM)",
        "INFO ended ended by the caller (quit)",
    ];
    assert_eq!(run("blocking", "accompanied"), expected);
    for row in ROWS {
        let machine = format!("{row}:accompanied");
        let is_start = |told: &Logged| told.machine == machine && told.message == "companion started";
        let started = told().find(is_start).expect("it is logged");
        assert!(started.field("pid").parse::<u32>().is_ok_and(|pid| pid > 1), "{started:?}");
    }
}

#[test]
fn row_36_a_launch_that_fails_is_logged_with_its_reason() {
    let reason = "cannot execute `/nonexistent/qemu`: No such file or directory (os error 2)";
    let expected = [
        "DEBUG prepared".into(),
        format!("WARN fault {reason}"),
        format!("INFO failed {reason}"),
        "INFO ended was not started".into(),
    ];
    assert_eq!(run("blocking", "missing"), expected);
    let expected = [
        "DEBUG prepared",
        "INFO spawned",
        "DEBUG exited exit status 1",
        "INFO failed QEMU ended before its monitor answered the capabilities negotiation",
        "INFO ended QEMU exited (status 1)",
    ];
    assert_eq!(run("blocking", "refused"), expected);
}

/// An error quotes the peer. The log does so only at trace level, where secrets may appear.
#[test]
fn row_36_the_logged_reason_does_not_quote_the_peer() {
    for (name, reason) in
        [("broken", "the monitor broke the protocol"), ("declined", "capabilities negotiation failed")]
    {
        let expected = [
            "DEBUG prepared",
            "INFO spawned",
            &format!("INFO failed {reason}"),
            "DEBUG ending SIGKILL",
            "DEBUG exited signal 9 (SIGKILL)",
            "INFO ended killed because its launch had failed",
        ];
        assert_eq!(run("blocking", name), expected);
    }
}

#[test]
fn row_36_every_runtime_logs_the_same_run() {
    for name in ["asked", "dropped", "accompanied", "missing", "refused", "broken", "declined"] {
        let [blocking, others @ ..] = ROWS.map(|row| (row, run(row, name)));
        assert!(blocking.1.len() > 3, "{blocking:?}");
        for (row, run) in others {
            assert_eq!(run, blocking.1, "{name} on {row}");
        }
    }
}

#[test]
fn row_36_the_command_line_and_the_version_are_logged() {
    for row in ROWS {
        let machine = format!("{row}:asked");
        let of = |message: &str| told().find(|told| told.machine == machine && told.message == message).expect(message);
        let prepared = of("prepared");
        assert!(prepared.field("command").starts_with("qemu-system-x86_64 -display none"), "{prepared:?}");
        assert_eq!([prepared.field("log"), prepared.field("directory")], ["", ""], "neither has a path by default");
        let ready = of("ready");
        assert!(ready.field("version").starts_with(|first: char| first.is_ascii_digit()), "{ready:?}");
    }
}

/// Without the span, the log could not be assigned to machines that run at the same time.
#[test]
fn row_36_everything_is_logged_in_the_span_of_its_machine() {
    let mut runs: BTreeMap<String, Vec<Logged>> = BTreeMap::new();
    for told in told() {
        runs.entry(told.machine.clone()).or_default().push(told);
    }
    assert_eq!(runs.len(), 5 * 9 + 3, "{:?}", runs.keys());
    for (machine, run) in runs {
        assert!(machine.contains(':'), "the example has no machine {machine:?}: {run:?}");
        let spawned = run.iter().position(|told| told.message == "spawned");
        let (before, after) = run.split_at(spawned.unwrap_or(run.len()));
        assert!(before.iter().all(|told| told.pid == "-"), "{before:?}");
        assert!(after.iter().all(|told| told.pid == after[0].field("pid")), "{after:?}");
    }
}

/// The log of a machine is in the span of its launch, on whatever thread its driver and its callers run.
#[test]
fn row_36_a_machine_of_a_task_is_in_the_span_of_its_launch() {
    let run: Vec<_> = told().filter(|told| told.machine == "tokio:in a span").collect();
    assert!(run.iter().any(|told| told.message == "received") && run.iter().any(|told| told.message == "ended"));
    assert!(run.iter().all(|told| told.field("around") == "request 7"), "{run:?}");
    assert!(told().all(|told| told.machine == "tokio:in a span" || told.field("around").is_empty()));
}

/// Texts of a peer and of a file name stay in their line, and cannot control the terminal that shows the log.
#[test]
fn g32_all_that_is_logged_is_printable() {
    // The example itself writes tabs and line feeds.
    let harmful =
        |one: &char| one.is_control() && !['\t', '\n'].contains(one) || ('\u{202a}'..='\u{202e}').contains(one);
    let found = printed().lines().find(|line| line.chars().any(|one| harmful(&one)));
    assert_eq!(found, None);
    assert!(printed().lines().all(|line| !line.starts_with("INFO\tforged")), "{}", printed());
    let text = r"\u{1b}]52;c;cm0=\u{7}\u{9b}2J\u{202e}\u{7f}\r\nINFO\tforged";
    for row in ROWS {
        let name = r"hostile\u{1b}[2J\u{202e}";
        let expected = [
            "DEBUG prepared",
            "INFO spawned",
            "INFO ready",
            "DEBUG ending quit",
            "DEBUG exited exit status 0",
            &format!("INFO ended QEMU shut down ({text})"),
        ];
        assert_eq!(run(row, name), expected);
        let ready = told().find(|told| told.machine == format!("{row}:{name}") && told.message == "ready");
        assert_eq!(ready.expect("it was ready").field("version"), format!("7.2.0 ({text})"));
        let program = r"/nonexistent/\u{1b}[2J\u{9b}\u{202e}\nINFO\tforged";
        let reason = format!("cannot execute `{program}`: No such file or directory (os error 2)");
        assert_eq!(run(row, "forged")[1..3], [format!("WARN fault {reason}"), format!("INFO failed {reason}")]);
    }
}

#[test]
fn g23_the_wire_is_logged_at_trace_only() {
    for told in told() {
        assert!([LIFECYCLE, WIRE].contains(&told.target.as_str()), "{told:?}");
        assert_eq!(told.target == WIRE, told.level == "TRACE", "{told:?}");
    }
    for row in ROWS {
        let machine = format!("{row}:asked");
        let sent = carried(&machine, "monitor", "sent");
        let negotiation = r#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]},"id":0}"#;
        assert!(sent.starts_with(negotiation) && sent.ends_with(r#"{"execute":"quit","id":4}"#), "{sent}");
        let received = carried(&machine, "monitor", "received");
        assert!(received.starts_with("{\"QMP\": ") && received.contains(r#""event": "SHUTDOWN""#), "{received}");
        // Control characters are escaped, so a terminal does not execute them.
        assert_eq!(carried(&machine, "tty", "sent"), r"WELL MET\u{1b}\r\n");
        assert_eq!(carried(&machine, "tty", "received"), r"guest: ready\r\nWELL MET\u{1b}\r\n");
    }
}

#[test]
fn g23_a_secret_is_logged_at_trace_only() {
    let with_secret: Vec<Logged> =
        told().filter(|told| told.fields.values().any(|value| value.contains(SECRET))).collect();
    assert_eq!(with_secret.len(), ROWS.len(), "each runtime sends it once: {with_secret:?}");
    assert!(with_secret.iter().all(|told| told.level == "TRACE"), "{with_secret:?}");
}

/// A subscriber is called while the machine is locked. Printing the handle there must not block on the lock.
#[test]
fn row_36_a_handle_is_printed_without_waiting_for_the_lock() {
    let shown: Vec<_> = printed().lines().filter_map(|line| line.strip_prefix("shown\t")).collect();
    // One line for the command and one for the reply, on each of the two runtimes whose handles are shared.
    assert_eq!(shown, ["Vm(in use)"; 4]);
}

fn idle() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-S"])
}

fn running(pid: Option<u32>) -> String {
    let pid = pid.expect("the process runs");
    format!("Vm(Machine {{ state: Running, pid: {pid}, in_flight: 0, queued: 0, waits: 0 }})")
}

const ENDED: &str = "Vm(Machine { state: Ended, in_flight: 0, queued: 0, waits: 0, cause: Asked(Quit) })";

#[test]
fn row_36_a_blocking_handle_shows_the_state_of_its_machine() {
    bounded(|| {
        let vm = qemu_machine_blocking::Vm::launch(idle()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format!("{vm:?}"), running(vm.pid()));
        assert!(format!("{vm:#?}").starts_with("Vm(\n    Machine {\n        state: Running,\n"), "{vm:#?}");
        vm.shutdown(Shutdown::default()).expect("the machine was launched");
        assert_eq!(format!("{vm:?}"), ENDED);
    });
}

#[test]
fn row_36_a_handle_of_smol_shows_the_state_of_its_machine() {
    bounded(|| {
        smol::block_on(async {
            let vm = qemu_machine_smol::Vm::launch(idle()).await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(format!("{vm:?}"), running(vm.pid()));
            vm.shutdown(Shutdown::default()).await.expect("the machine was launched");
            assert_eq!(format!("{vm:?}"), ENDED);
        });
    });
}

#[test]
fn row_36_a_machine_of_mio_shows_its_state() {
    bounded(|| {
        let mut event_loop = EventLoop::new().expect("a poll can be created");
        let (registry, tokens) = event_loop.parts();
        let mut vm = qemu_machine_mio::Vm::launch(idle(), registry, tokens).expect("a valid configuration");
        let vms = std::slice::from_mut(&mut vm);
        event_loop.run(vms, |vms| vms[0].launched()).expect("the poll works").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format!("{vm:?}"), running(vm.machine().pid()));
        vm.shutdown(Shutdown::default()).expect("the machine was launched");
        event_loop.run(std::slice::from_mut(&mut vm), |vms| vms[0].outcome().map(drop)).expect("the poll works");
        assert_eq!(format!("{vm:?}"), ENDED);
    });
}
