//! Stories of the guest agent in a Linux guest, through the service of the machine.

use std::time::Duration;

use qemu_machine_core::procedure::{AskGuest, Reboot, RebootEnd, Suspend, SuspendEnd, Unplug, Wake, WakeEnd};
use qemu_machine_core::{
    CommandError, Config, LaunchFailure, Liveness, Mark, Phase, Progress, ServiceError, Value, Wait, json,
};
use qemu_machine_tests::bounded_by;
use qemu_machine_tests::linux::{INIT, Linux, PROGRAM_ENDED};

use crate::on_each_row;
use crate::rows::{Agent, LONG, Row, SHORT};

on_each_row! {
    row_37_the_agent_reports_executes_reads_writes_and_powers_off,
    a_device_is_unplugged_when_the_guest_releases_it,
    a_guest_reboots_when_its_agent_is_asked,
    a_guest_is_suspended_and_woken_up,
    row_37_a_reply_after_the_deadline_reaches_no_other_command,
    row_37_a_guest_without_an_agent_is_not_waited_for_beyond_the_deadline,
}

fn linux() -> Linux {
    Linux::in_directory(env!("CARGO_TARGET_TMPDIR"))
}

fn launch<R: Row>(config: Config) -> R {
    R::launch(config).unwrap_or_else(|error| panic!("{error}"))
}

fn agent<R: Row>(machine: &mut R) -> R::Agent {
    machine.agent(LONG).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(reply: Result<Value, CommandError>) -> String {
    let Err(CommandError::Refused(refusal)) = reply else { panic!("{reply:?} is no refusal") };
    refusal.to_string()
}

fn row_37_the_agent_reports_executes_reads_writes_and_powers_off<R: Row>() {
    bounded_by(2 * LONG, || {
        let mut machine = launch::<R>(linux().config());
        machine.comes(&Mark::default(), Wait::agent_up());
        let mut agent = agent(&mut machine);
        tells(&mut machine, &mut agent);
        executes(&mut machine, &mut agent);
        reads_and_writes(&mut agent);
        powers_off(machine, agent);
    });
}

fn tells(machine: &mut impl Row, agent: &mut impl Agent) {
    assert_eq!(agent.ask("guest-ping", json!({})), Ok(json!({})));
    let info = agent.ask("guest-info", json!({})).unwrap();
    let commands = info["supported_commands"].as_array().unwrap();
    assert!(commands.iter().any(|command| command["name"] == "guest-exec" && command["enabled"] == true), "{info}");
    machine.types("PRETTY_NAME=typed\n");
    let system = agent.ask("guest-get-osinfo", json!({})).unwrap();
    assert!(system["pretty-name"] == "typed" && system["machine"] == "x86_64", "{system}");
    let refused = refusal(agent.ask("guest-no-such-command", json!({})));
    assert_eq!(
        refused,
        "`guest-no-such-command` was refused: CommandNotFound: The command guest-no-such-command has not been found"
    );
}

fn executes(machine: &mut impl Row, agent: &mut impl Agent) {
    let mark = machine.mark();
    let script = "cat; echo err >&2; exit 3";
    let program = json!({"path": "/bin/sh", "arg": ["-c", script], "input-data": "b3V0Cg==", "capture-output": true});
    let pid = agent.ask("guest-exec", program).unwrap();
    machine.sees(&mark, &format!("{PROGRAM_ENDED}, pid: {},", pid["pid"]));
    // The program has ended, but the agent may not have read its output yet. In each iteration of its main loop the
    // agent executes at most one command and reads each output once; it needs two to read the output and its end.
    for _ in 0..3 {
        assert_eq!(agent.ask("guest-ping", json!({})), Ok(json!({})));
    }
    let status = agent.ask("guest-exec-status", pid.clone()).unwrap();
    assert!(status["exited"] == true && status["exitcode"] == 3, "{status}");
    assert!(status["out-data"] == "b3V0Cg==" && status["err-data"] == "ZXJyCg==", "{status}");
    assert!(
        refusal(agent.ask("guest-exec-status", pid)).contains(" refused: GenericError: "),
        "the status is reported once"
    );
}

fn reads_and_writes(agent: &mut impl Agent) {
    let file = agent.ask("guest-file-open", json!({"path": "/tmp/note", "mode": "w+"})).unwrap();
    let with = |name: &str, value: Value| json!({"handle": file, name: value});
    let written = agent.ask("guest-file-write", with("buf-b64", json!("bm90ZQ=="))).unwrap();
    assert_eq!(written["count"], 4);
    let sought = agent.ask("guest-file-seek", json!({"handle": file, "offset": 1, "whence": "set"})).unwrap();
    assert_eq!(sought["position"], 1);
    let read = agent.ask("guest-file-read", with("count", json!(100))).unwrap();
    assert_eq!(read, json!({"count": 3, "eof": true, "buf-b64": "b3Rl"}));
    assert_eq!(agent.ask("guest-file-close", json!({"handle": file})), Ok(json!({})));
    let closed = refusal(agent.ask("guest-file-close", json!({"handle": file})));
    assert!(closed.ends_with("has not been found"), "{closed}");
    let nowhere = refusal(agent.ask("guest-file-open", json!({"path": "/nowhere"})));
    assert!(nowhere.ends_with("No such file or directory"), "{nowhere}");
}

/// The guest handles the unplug request only after it has booted, so the story waits for the agent first.
fn a_device_is_unplugged_when_the_guest_releases_it<R: Row>() {
    bounded_by(2 * LONG, || {
        let mut machine = launch::<R>(linux().config().args(["-device", "virtio-rng-pci,id=rng"]));
        let agent = agent(&mut machine);
        assert_eq!(machine.run(Unplug::device("rng")), Ok(()));
        let again = machine.run(Unplug::device("rng")).expect_err("it is gone");
        assert!(again.to_string().contains("DeviceNotFound"), "{again}");
        drop(agent);
    });
}

/// How long the agent may take to answer a request after which it may be gone.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// The guest is launched with `-no-reboot`, which `set-action` overrides. What that causes without it is a story of the
/// small guest.
fn a_guest_reboots_when_its_agent_is_asked<R: Row>() {
    bounded_by(2 * LONG, || {
        let mut machine = launch::<R>(linux().config());
        machine.executes("set-action", json!({"reboot": "reset"}));
        let mut agent = agent(&mut machine);
        let mark = machine.mark();
        agent.run_within(AskGuest::reboot(), ASKED_WITHIN).expect("the agent executes it");
        assert_eq!(machine.run(Reboot::asked(&mark).reset_after(LONG)), Ok(RebootEnd::ByGuest));
    });
}

fn a_guest_is_suspended_and_woken_up<R: Row>() {
    bounded_by(4 * LONG, || {
        let mut machine = launch::<R>(linux().config());
        let mut agent = agent(&mut machine);
        assert_eq!(machine.run(Wake::new()), Ok(WakeEnd::Awake));
        for _ in 0..2 {
            let mark = machine.mark();
            agent.run_within(AskGuest::suspend(), ASKED_WITHIN).expect("the agent executes it");
            assert_eq!(machine.run(Suspend::asked(&mark)), Ok(SuspendEnd::Suspended));
            assert_eq!(machine.run(Wake::new()), Ok(WakeEnd::Woken));
            assert_eq!(agent.ask("guest-ping", json!({})), Ok(json!({})), "the guest runs again");
        }
    });
}

/// `guest-shutdown` has no success reply (QEMU, `qga/qapi-schema.json`, `guest-shutdown`), and the agent may be gone
/// before it replies to the next command.
fn powers_off<R: Row>(mut machine: R, mut agent: R::Agent) {
    let refused = refusal(agent.ask("guest-shutdown", json!({"mode": "sideways"})));
    assert!(refused.contains("mode"), "{refused}");
    match agent.ask("guest-shutdown", json!({"mode": "powerdown"})) {
        Ok(reply) => assert_eq!(reply, json!({})),
        Err(error) => assert_eq!(error, CommandError::Disconnected(Progress::Sent)),
    }
    let outcome = machine.ends();
    assert_eq!(outcome.cause.to_string(), "powered off by the guest", "{outcome}");
    assert!(matches!(agent.ask("guest-ping", json!({})), Err(CommandError::Disconnected(_) | CommandError::Misuse(_))));
}

/// Lets a command time out: the agent blocks in it until a line is typed.
fn time_out(agent: &mut impl Agent) {
    let timed_out = agent.ask_within("guest-get-osinfo", json!({}), SHORT);
    assert_eq!(timed_out, Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown)));
}

fn row_37_a_reply_after_the_deadline_reaches_no_other_command<R: Row>() {
    bounded_by(2 * LONG, || {
        let mut machine = launch::<R>(linux().config());
        let mut first = agent(&mut machine);
        let before = first.stale();
        time_out(&mut first);
        machine.types("PRETTY_NAME=late\n");
        assert_eq!(first.ask("guest-sync", json!({"id": 7})), Ok(json!(7)));
        assert_eq!(first.stale(), before + 2, "the late reply, and the error that the delimiter causes");

        time_out(&mut first);
        drop(first);
        machine.types("PRETTY_NAME=later\n");
        let mut second = agent(&mut machine);
        assert!(second.stale() >= 4, "the late reply, the first number, and the errors of two delimiters");
        assert_eq!(second.ask("guest-sync", json!({"id": 8})), Ok(json!(8)));
        second.finish();
        assert_eq!(agent(&mut machine).ask("guest-ping", json!({})), Ok(json!({})));
    });
}

fn row_37_a_guest_without_an_agent_is_not_waited_for_beyond_the_deadline<R: Row>() {
    bounded_by(2 * LONG, || {
        let mut machine = launch::<R>(linux().config_without_agent());
        machine.sees(&Mark::default(), INIT);
        let Err(error) = machine.agent(SHORT) else { panic!("there is no agent") };
        let told = error.to_string();
        let words = "the guest agent service does not answer: the deadline passed before the guest agent answered";
        assert!(told.starts_with(words) && !told.contains("launch"), "{told}");
        let ServiceError::Silent { failure, .. } = error else { panic!("{told}") };
        assert_eq!(failure, LaunchFailure::TimedOut(Phase::Syncing));
    });
}
