//! Tests of requests that would exceed a limit or could never succeed, which are refused at once, and of those just
//! within the limit, which are not.

use crate::rig::{GREETING, Rig, SIGKILL, config};
use qemu_machine_core::{
    Channel, CommandError, Config, Descriptor, FOREVER, Limits, Misuse, Peer, Progress, State, Wait,
};

fn ready(change: impl FnOnce(&mut Limits)) -> Rig {
    let mut limits = Limits::default();
    change(&mut limits);
    Rig::ready(config().limits(limits))
}

#[test]
fn too_many_waits_are_refused_but_for_the_end() {
    let mut rig = ready(|limits| limits.waits = 2);
    let (now, mark) = (rig.now, rig.vm.mark());
    let first = rig.wait(&mark, [Wait::event("STOP")]);
    let _second = rig.wait(&mark, [Wait::event("RESUME")]);
    let refused = rig.vm.wait(now, &mark, [Wait::event("STOP")], FOREVER);
    assert_eq!(refused, Err(Misuse::TooManyWaits(2)));
    let refused = rig.vm.wait(now, &mark, [Wait::end(), Wait::event("STOP")], FOREVER);
    assert_eq!(refused, Err(Misuse::TooManyWaits(2)), "the exception is a wait for only the end");
    let end = rig.vm.wait_for_end(now, FOREVER).expect("the end may always be waited for");
    rig.vm.disown_wait(first);
    rig.vm.disown_wait(end);
    assert!(rig.vm.wait(now, &mark, [Wait::event("STOP")], FOREVER).is_ok(), "a disowned wait makes room");
    rig.dies(SIGKILL);
}

#[test]
fn a_text_longer_than_the_console_history_is_refused() {
    let mut rig = ready(|limits| limits.console = 4);
    let (now, mark) = (rig.now, rig.vm.mark());
    assert_eq!(rig.vm.wait(now, &mark, [Wait::text("tty", "login")], FOREVER), Err(Misuse::TextTooLong(4)));
    let wait = rig.wait(&mark, [Wait::text("tty", "ogin")]);
    rig.prints("login");
    assert!(rig.vm.claim_wait(wait).expect("it was printed").is_ok());
}

#[test]
fn console_input_up_to_the_limit_is_accepted() {
    let mut rig = ready(|limits| limits.console_input = 4);
    let now = rig.now;
    assert_eq!(rig.vm.console_write(now, "tty", b"12345"), Err(Misuse::ConsoleInputFull(4)));
    assert_eq!(rig.vm.console_write(now, "tty", b"12"), Ok(()));
    assert_eq!(rig.vm.console_write(now, "tty", b"345"), Err(Misuse::ConsoleInputFull(4)));
    assert_eq!(rig.vm.console_write(now, "tty", b"34"), Ok(()));
}

/// A caller that sends a command while QEMU dies need not know whether the run was over by then.
#[test]
fn g04_a_command_after_the_end_fails_as_one_before_it() {
    let mut rig = Rig::ready(config());
    let before = rig.issue("query-name");
    rig.dies(SIGKILL);
    assert_eq!(rig.vm.claim(&before), Some(Err(CommandError::Disconnected(Progress::Sent))));
    let after = rig.vm.execute(rig.now, &"query-name", FOREVER).expect_err("the run is over");
    assert_eq!(CommandError::from(after), CommandError::Disconnected(Progress::Unsent));
    assert_eq!(CommandError::from(Misuse::NotLaunched), CommandError::Misuse(Misuse::NotLaunched));
}

#[test]
fn a_connected_descriptor_serves_one_run() {
    let mut rig = Rig::launched(Config::attach(Peer::Connected(Descriptor::new(3_u8))));
    rig.negotiate(GREETING);
    rig.closes(Channel::Monitor);
    assert_eq!((rig.vm.state(), rig.vm.launch(rig.now)), (State::Ended, Err(Misuse::UsedUp)));
}
