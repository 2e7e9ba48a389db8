//! Peers that exit early, close their monitor, or do not end when they should.

use super::{DONE, HAPPENED, LAST, LOST, SECOND, Step, TERMINATED, Torture};
use crate::scripted::{Action, Script};

pub(super) fn all() -> Vec<Torture> {
    [deaths(), losses(), refusals(), reasons(), prints()].concat()
}

/// A peer that exits during its first command, with the transcript of that.
fn dies(name: &'static str, plays: &'static str, script: Script, end: &[&str]) -> Torture {
    let script = Script::launched().hear().and(script);
    let told = [&["launched", LOST, "the machine ended first"], end, &["end: 1 without a reply"]].concat();
    Torture::new(name, plays, script).tells(&told)
}

fn deaths() -> Vec<Torture> {
    let half = "{\"return\": {\"half\": ";
    let by_itself = |code| [format!("end: QEMU exited (status {code})"), format!("end: exit status {code}")];
    let aborted = ["end: ended by signal 6, which the caller did not send", "end: signal 6 (SIGABRT)"];
    let [zero, status_zero] = by_itself(0);
    let [three, status_three] = by_itself(3);
    let nobody = "not launched: QEMU ended before its monitor greeted";
    vec![
        Torture::new(
            "g04_death_at_once",
            "Prints an error and exits before its greeting.",
            Script::new().print("no room").exit(1),
        )
        .tells(&[nobody, "end: QEMU exited (status 1)", "end: exit status 1"]),
        Torture::new("g04_exit_0_without_output", "Exits with status 0 before its greeting.", Script::new().exit(0))
            .tells(&[nobody, &zero, &status_zero]),
        dies(
            "exit_0_under_a_command",
            "Exits with status 0 before its reply.",
            Script::new().exit(0),
            &[&zero, &status_zero],
        ),
        dies(
            "killed_in_a_message",
            "Dies of a signal in the middle of a reply.",
            Script::new().say(half).abort(),
            &aborted,
        ),
        dies(
            "exit_in_a_message",
            "Exits in the middle of a reply.",
            Script::new().say(half).exit(3),
            &[&three, &status_three],
        ),
        dies(
            "a_child_holds_the_monitor",
            "Exits, and leaves its monitor open in a child process.",
            Script::new().then(Action::Bequeath).exit(3),
            &[&three, &status_three],
        ),
        dies(
            "g16_prints_many_lines_and_exits",
            "Prints 20,000 lines, and exits.",
            Script::new().then(Action::Rant(10_000)).exit(3),
            &[&three, &status_three],
        ),
    ]
}

/// A peer that closes its monitor, while the process keeps running.
fn loses(name: &'static str, plays: &'static str, script: Script) -> Torture {
    Torture::new(name, plays, Script::launched().and(script).stall()).impatient(&[Step::Event]).tells(&[
        "launched",
        LOST,
        "nothing came",
        TERMINATED[0],
        TERMINATED[1],
        "end: 1 without a reply",
    ])
}

fn losses() -> Vec<Torture> {
    vec![
        loses("hangs_up", "Closes its monitor, and keeps running.", Script::new().hear().hang_up()),
        loses(
            "hangs_up_in_a_message",
            "Closes its monitor in the middle of a reply, and keeps running.",
            Script::new().hear().say("{\"ret").hang_up(),
        ),
        loses("resets", "Resets the connection, and keeps running.", Script::new().then(Action::Reset)),
        loses(
            "resets_in_a_message",
            "Resets the connection in the middle of a message.",
            Script::new().say("{\"ev").then(Action::Reset),
        ),
    ]
}

fn two_replies() -> Script {
    Script::launched().hear().reply("1").hear().reply("2")
}

/// The script up to the shutdown: replies to all commands, and the event.
fn begin() -> Script {
    two_replies().event(DONE).hear().reply("{}")
}

fn ends(name: &'static str, plays: &'static str, script: Script, end: &[&str]) -> Torture {
    Torture::new(name, plays, script).tells(&[&["launched", "reply: 1", SECOND, HAPPENED, LAST], end].concat())
}

fn refusals() -> Vec<Torture> {
    let stays = |name, plays, script: Script, end| ends(name, plays, script.stall(), end).impatient(&[Step::Shutdown]);
    let by_itself = ["end: QEMU exited (status 0)", "end: exit status 0"];
    let agrees = || begin().hear().reply("{}");
    let immune = Script::new().then(Action::Immune).and(agrees());
    let killed = ["end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)"];
    vec![
        ends("g12_quit_refused", "Refuses `quit`.", begin().hear().refuse("never").stall(), &TERMINATED),
        stays("g12_quit_and_stay", "Replies to `quit`, and keeps running.", agrees(), &TERMINATED),
        stays(
            "g12_quit_and_hang_up",
            "Replies to `quit`, closes its monitor, and keeps running.",
            agrees().hang_up(),
            &TERMINATED,
        ),
        stays("g12_immune_to_sigterm", "Replies to `quit`, keeps running, and ignores SIGTERM.", immune, &killed),
        ends("g12_quit_without_an_answer", "Exits on `quit` without a reply.", begin().hear().exit(0), &by_itself),
        ends(
            "g12_quit_with_garbage",
            "Exits on `quit` after a malformed reply.",
            begin().hear().line("%&$!").exit(0),
            &by_itself,
        ),
    ]
}

/// Peers that send SHUTDOWN with a reason before they end (QEMU, `qapi/run-state.json`, `ShutdownCause`).
fn reasons() -> Vec<Torture> {
    let data = |reason| format!("{{\"guest\": true, \"reason\": \"{reason}\"}}");
    let time = "\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}";
    let shutdown = |reason| format!("{{{time}, \"event\": \"SHUTDOWN\", \"data\": {}}}", data(reason));
    let told = |reason| format!("end: SHUTDOWN {}", data(reason));
    let says = two_replies().line(&shutdown("guest-shutdown")).event(DONE).hear().reply("{}").hear().stall();
    let [gone, tomorrow] = [told("guest-shutdown"), told("levitation")];
    vec![
        ends(
            "a_shutdown_event_without_a_shutdown",
            "Sends SHUTDOWN, and keeps running.",
            says,
            &["events: SHUTDOWN, RESUME", TERMINATED[0], TERMINATED[1], &gone],
        )
        .impatient(&[Step::Shutdown]),
        ends(
            "g11_an_unknown_shutdown_reason",
            "Sends SHUTDOWN with an unknown reason, and exits.",
            begin().hear().line(&shutdown("levitation")).exit(0),
            &["end: QEMU shut down (levitation)", "end: exit status 0", &tomorrow],
        ),
    ]
}

fn prints() -> Vec<Torture> {
    let prints = |name, plays, action| Torture::once(name, plays, Script::new().then(action).reply("1"), &["reply: 1"]);
    vec![
        prints("g16_prints_many_lines", "Prints 20,000 lines.", Action::Rant(10_000)),
        prints(
            "g16_prints_no_line_ends",
            "Prints four megabytes that are not UTF-8 and have no line feed.",
            Action::Rave(2000),
        ),
    ]
}
