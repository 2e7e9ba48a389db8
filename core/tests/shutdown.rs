//! Tests of a shutdown: the budget of each rung, the repetition of the power button, and the exact total.

use core::time::Duration;

use crate::rig::{Rig, SIGKILL, SIGTERM, at, config, secs};
use proptest::prelude::*;
use qemu_machine_core::{Cause, Channel, Effect, ExitStatus, Rung, Shutdown, Signal, State, Why};

/// A step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Press,
    Quit,
    Sent(Signal),
}

use Done::{Press, Quit, Sent};

impl Rig {
    /// Returns the steps since the last call, and replies to `system_powerdown` as QEMU does.
    fn done(&mut self) -> Vec<Done> {
        let sent = self.take_sent();
        let commands = [("system_powerdown", Press), ("quit", Quit)];
        let mut all: Vec<Done> =
            commands.into_iter().flat_map(|(name, done)| vec![done; sent.matches(name).count()]).collect();
        all.extend(self.take_effects().into_iter().filter_map(|effect| match effect {
            Effect::Signal(signal) => Some(Sent(signal)),
            _ => None,
        }));
        if sent.contains("system_powerdown") {
            crate::rig::ids(&sent).into_iter().for_each(|id| self.replies(id));
        }
        all
    }

    /// Returns the steps up to SIGKILL, each with its time since the begin.
    fn ladder(&mut self, how: Shutdown) -> Vec<(Duration, Done)> {
        let begin = self.now;
        self.shutdown(how);
        let mut all = Vec::new();
        loop {
            all.extend(self.done().into_iter().map(|done| (self.now.since(begin), done)));
            if matches!(all.last(), Some((_, Sent(Signal::Kill)))) {
                return all;
            }
            let (until, _) = self.vm.deadline().expect("a deadline exists until SIGKILL");
            self.pass_exactly(until.since(self.now));
        }
    }
}

const TERM: Done = Sent(Signal::Terminate);
const KILL: Done = Sent(Signal::Kill);

#[test]
fn row_25_each_rung_has_a_budget_of_its_own() {
    let how = Shutdown::default().power_down(secs(60)).quit(secs(7)).terminate(secs(2));
    assert_eq!(how.total(), secs(69));
    let all = Rig::ready(config()).ladder(how);
    assert_eq!(all, [(secs(0), Press), (secs(60), Quit), (secs(67), TERM), (secs(69), KILL)]);
}

#[test]
fn row_25_a_rung_without_a_budget_is_left_out() {
    let (none, one) = (secs(0), secs(1));
    let table: [(Shutdown, &[(Duration, Done)]); 6] = [
        (Shutdown::within(secs(3)).power_down(none), &[(none, Quit), (secs(2), TERM), (secs(3), KILL)]),
        (Shutdown::within(secs(3)).quit(none), &[(none, TERM), (one, KILL)]),
        (Shutdown::within(secs(3)).terminate(none), &[(none, Quit), (secs(2), KILL)]),
        (Shutdown::within(none).power_down(one), &[(none, Press), (one, KILL)]),
        (Shutdown::within(none).power_down(one).terminate(one), &[(none, Press), (one, TERM), (secs(2), KILL)]),
        (Shutdown::within(none).power_down_again(one), &[(none, KILL)]),
    ];
    for (how, expected) in table {
        let mut rig = Rig::ready(config());
        assert_eq!(rig.ladder(how), expected, "{how:?}");
        let outcome = rig.dies(SIGKILL);
        assert_eq!(outcome.rungs.len(), expected.len(), "{how:?}");
    }
}

/// There is no press at the end of the budget of the power button: `quit` is due then.
#[test]
fn row_25_the_button_is_pressed_again_while_its_patience_lasts() {
    let how = Shutdown::within(secs(3)).power_down(secs(60)).power_down_again(secs(20));
    assert_eq!(how.total(), secs(63));
    let mut rig = Rig::ready(config());
    let presses = [(secs(0), Press), (secs(20), Press), (secs(40), Press)];
    let rest = [(secs(60), Quit), (secs(62), TERM), (secs(63), KILL)];
    assert_eq!(rig.ladder(how), [&presses[..], &rest].concat());
    assert_eq!(rig.vm.rungs(), [Rung::PowerDown, Rung::Quit, Rung::Terminate, Rung::Kill], "each once");
    // The cause is the power button, whichever press the guest handled.
    let mut rig = Rig::ready(config());
    rig.shutdown(how);
    assert_eq!(rig.done(), [Press]);
    assert_eq!(rig.vm.deadline(), Some((at(secs(20)), Why::PressAgain)));
    rig.pass(secs(20));
    assert_eq!(rig.done(), [Press]);
    rig.shuts_down("guest-shutdown");
    let outcome = rig.dies(ExitStatus::Code(0));
    assert_eq!((outcome.cause, outcome.rungs), (Cause::Asked(Rung::PowerDown), vec![Rung::PowerDown]));
}

/// After a late wake-up there is one press, and not one for each that was missed.
#[test]
fn row_25_missed_presses_are_not_repeated() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(3)).power_down(secs(60)).power_down_again(secs(10)));
    assert_eq!(rig.done(), [Press]);
    rig.pass(secs(35));
    assert_eq!(rig.done(), [Press]);
    assert_eq!(rig.vm.deadline(), Some((at(secs(45)), Why::PressAgain)));
    rig.pass(secs(25));
    assert_eq!(rig.done(), [Quit], "the next rung comes before another press");
}

#[test]
fn row_25_a_press_that_has_no_answer_is_not_repeated() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(3)).power_down(secs(60)).power_down_again(secs(20)));
    assert_eq!(rig.take_ids(), [1]);
    rig.pass(secs(20));
    assert_eq!(rig.take_sent(), "", "the first press has no reply yet");
    assert_eq!(rig.vm.deadline(), Some((at(secs(40)), Why::PressAgain)));
    rig.replies(1);
    assert_eq!(rig.take_sent(), "", "the interval is kept");
    rig.pass(secs(20));
    assert_eq!(rig.done(), [Press]);
    assert_eq!(rig.vm.deadline(), Some((at(secs(60)), Why::Rung(Rung::PowerDown))));
}

#[test]
fn row_25_a_later_press_that_is_refused_brings_quit_at_once() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(3)).power_down(secs(60)).power_down_again(secs(20)));
    assert_eq!(rig.done(), [Press]);
    rig.pass(secs(20));
    assert_eq!(rig.take_ids(), [2]);
    rig.refuses(2);
    assert_eq!(rig.done(), [Quit]);
    assert_eq!(rig.vm.deadline(), Some((at(secs(22)), Why::Rung(Rung::Quit))));
}

/// Asserts that there is no second press, and that the budget of the power button still passes.
fn presses_no_more(happens: impl FnOnce(&mut Rig), next: Rung, next_until: Duration) {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(3)).power_down(secs(60)).power_down_again(secs(20)));
    assert_eq!(rig.done(), [Press]);
    happens(&mut rig);
    rig.pass(secs(20));
    assert_eq!((rig.done(), rig.vm.rungs()), (vec![], &[Rung::PowerDown][..]));
    assert_eq!(rig.vm.lifecycle().deadline(), Some((at(secs(60)), Why::Rung(Rung::PowerDown))));
    rig.pass(secs(40));
    assert_eq!(rig.vm.lifecycle().deadline(), Some((at(next_until), Why::Rung(next))));
}

#[test]
fn row_25_no_press_after_the_monitor_is_gone() {
    presses_no_more(|rig| rig.closes(Channel::Monitor), Rung::Terminate, secs(61));
}

#[test]
fn row_25_no_press_after_a_quit_was_accepted() {
    presses_no_more(accept_quit, Rung::Quit, secs(62));
}

fn accept_quit(rig: &mut Rig) {
    let quit = rig.issue("quit");
    let ids = rig.take_ids();
    ids.into_iter().for_each(|id| rig.replies(id));
    assert_eq!(rig.claim(&quit), Some(Ok(2)));
}

#[test]
fn row_25_without_a_monitor_there_is_only_sigterm() {
    let mut rig = Rig::launched(config().without_monitor());
    let how = Shutdown::within(secs(9)).power_down(secs(60)).power_down_again(secs(1)).terminate(secs(30));
    assert_eq!(rig.ladder(how), [(secs(0), TERM), (secs(30), KILL)]);
}

#[test]
fn row_26_a_kill_supersedes_the_power_button() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::default().power_down(secs(60)).power_down_again(secs(20)));
    assert_eq!(rig.done(), [Press]);
    rig.pass(secs(10));
    rig.kill();
    assert_eq!((rig.done(), rig.vm.lifecycle().is_killed()), (vec![KILL], true));
    assert_eq!(rig.vm.deadline(), Some((at(secs(20)), Why::Reap)));
    rig.pass(secs(5));
    assert_eq!(rig.done(), [], "no press after the kill");
    let outcome = rig.dies(SIGKILL);
    assert_eq!((outcome.cause, outcome.exit), (Cause::Asked(Rung::Kill), Some(SIGKILL)), "the signal was ours");
    assert_eq!(rig.vm.state(), State::Ended);
}

#[test]
fn row_26_a_shutdown_without_any_budget_is_a_kill() {
    let mut rig = Rig::ready(config());
    assert_eq!(rig.ladder(Shutdown::within(secs(0))), [(secs(0), KILL)]);
    assert_eq!(rig.vm.rungs(), [Rung::Kill]);
    assert_eq!(rig.dies(SIGKILL).cause, Cause::Asked(Rung::Kill));
    // Another signal than SIGKILL was not sent by the library.
    let mut rig = Rig::ready(config());
    rig.kill();
    assert_eq!(rig.dies(SIGTERM).cause, Cause::Signal { number: Some(15), sender: None });
}

proptest! {
    /// Whatever the budgets: SIGKILL comes exactly at their sum, each rung with a budget at the sum of those before it,
    /// and the power button is pressed as often as its interval fits in its budget.
    #[test]
    fn row_25_the_total_is_exact(patience in 0_u64..50, every in 0_u64..20, quit in 0_u64..40, term in 0_u64..40) {
        let millis = Duration::from_millis;
        let how = Shutdown::default().power_down(millis(patience)).power_down_again(millis(every));
        let how = how.quit(millis(quit)).terminate(millis(term));
        let presses = (0..patience).step_by(usize::try_from(if every == 0 { patience.max(1) } else { every }).unwrap());
        let mut expected: Vec<(u64, Done)> = presses.map(|when| (when, Press)).collect();
        expected.extend((quit > 0).then_some((patience, Quit)));
        expected.extend((term > 0).then_some((patience + quit, TERM)));
        expected.push((patience + quit + term, KILL));
        let expected: Vec<_> = expected.into_iter().map(|(when, done)| (millis(when), done)).collect();
        let mut rig = Rig::ready(config());
        prop_assert_eq!(rig.ladder(how), expected);
        prop_assert_eq!(at(how.total()), rig.now);
    }
}

/// A guest that is stopped cannot react to the button.
#[test]
fn row_25_the_button_of_a_stopped_guest_is_skipped() {
    let how = Shutdown::within(secs(3)).power_down(secs(60)).power_down_again(secs(20));
    let rest = [(secs(0), Quit), (secs(2), TERM), (secs(3), KILL)];
    let mut rig = Rig::ready(config());
    rig.happens("STOP");
    assert_eq!(rig.ladder(how), rest);
    assert_eq!(rig.vm.rungs(), [Rung::Quit, Rung::Terminate, Rung::Kill]);
    let outcome = rig.dies(SIGKILL);
    assert_eq!(outcome.skipped, [Rung::PowerDown]);
    assert!(outcome.to_string().contains("\n  skipped: power button (the guest was stopped)"), "{outcome}");

    // The next run knows nothing of it.
    rig.now = rig.now.after(secs(1));
    rig.launch();
    rig.negotiate(crate::rig::GREETING);
    rig.take_effects();
    rig.shutdown(how);
    assert_eq!(rig.done(), [Press]);

    // The guest runs again.
    let mut rig = Rig::ready(config());
    rig.happens("STOP");
    rig.happens("RESUME");
    rig.shutdown(how);
    assert_eq!(rig.done(), [Press]);

    // The button is not wanted, or not possible anyway: nothing is skipped.
    let mut rig = Rig::ready(config());
    rig.happens("STOP");
    rig.shutdown(Shutdown::within(secs(3)));
    assert_eq!((rig.done(), rig.dies(ExitStatus::Code(0)).skipped), (vec![Quit], vec![]));
    let mut rig = Rig::ready(config());
    rig.happens("STOP");
    rig.closes(Channel::Monitor);
    rig.shutdown(how);
    assert_eq!((rig.done(), rig.dies(SIGTERM).skipped), (vec![TERM], vec![]));
}

/// With `-no-shutdown`, QEMU stops a guest that has powered off.
#[test]
fn row_25_quit_follows_at_once_when_the_guest_stops() {
    let mut rig = Rig::ready(config());
    rig.shutdown(Shutdown::within(secs(3)).power_down(secs(60)));
    assert_eq!(rig.done(), [Press]);
    rig.pass(secs(1));
    rig.shuts_down("guest-shutdown");
    assert_eq!(rig.done(), [], "QEMU may be about to end");
    rig.happens("STOP");
    assert_eq!(rig.done(), [Quit]);
    // A later stop changes nothing.
    rig.happens("RESUME");
    rig.happens("STOP");
    assert_eq!(rig.done(), []);
    let outcome = rig.dies(ExitStatus::Code(0));
    assert_eq!((outcome.rungs, outcome.skipped), (vec![Rung::PowerDown, Rung::Quit], vec![]));
}

/// The caller's `-S` holds the guest until its `cont`.
#[test]
fn row_25_the_button_of_a_guest_that_was_not_started_is_skipped() {
    let how = Shutdown::within(secs(3)).power_down(secs(60));
    for (argument, is_held) in [("-S", true), ("--S", true), ("-s", false)] {
        let mut rig = Rig::ready(config().arg(argument));
        rig.shutdown(how);
        assert_eq!(rig.done(), [if is_held { Quit } else { Press }], "{argument}");
    }
    let mut rig = Rig::ready(config().arg("-S"));
    rig.happens("RESUME");
    rig.shutdown(how);
    assert_eq!(rig.done(), [Press]);
}
