//! Proves what may cross and be shared between threads: each line here compiles, or the build fails.

use qemu_machine_core::lifecycle::Lifecycle;
use qemu_machine_core::procedure::{self, ExecuteAndWait, FollowJob, Migrate, Run, Unplug};
use qemu_machine_core::session::Session;
use qemu_machine_core::{
    CommandError, CommandLine, Config, Descriptor, Effect, Event, Found, Hit, Identity, LaunchError, Limits, Machine,
    Mark, Misuse, Notice, Outcome, Payload, Raw, Schema, ServiceError, Shutdown, Ticket, Value, Wait, WaitError,
    WithRawReply,
};

/// Goes to another thread, is used by several at once, and holds nothing that is borrowed.
const fn is_free<T: Send + Sync + 'static>() {}

/// Goes to another thread.
const fn is_sent<T: Send + 'static>() {}

/// What is returned with `?` from anywhere.
const fn is_error<T: std::error::Error + Send + Sync + 'static>() {}

/// Awaited in a task that may move between threads.
fn is_task<T: Send>(_: impl Future<Output = T> + Send) {}

#[test]
fn what_the_core_gives_is_free() {
    is_free::<(Config, Limits, Shutdown, Descriptor, CommandLine, Identity)>();
    is_free::<(Machine, Session, Lifecycle, Effect, Notice)>();
    is_free::<(Event, Payload, Value, Outcome, Schema)>();
    is_free::<(Mark, Wait, Hit, Found)>();
    is_free::<(Unplug, Migrate, ExecuteAndWait<&str>, procedure::Input)>();
    // A ticket does not hold the command, so it is free whatever that is.
    is_free::<(Ticket<Raw>, Ticket<WithRawReply<std::rc::Rc<str>>>)>();
    // What it reports to is the caller's, and called by one thread at a time.
    is_sent::<(FollowJob, Run<FollowJob>, procedure::Output<FollowJob>)>();
    is_error::<CommandError>();
    is_error::<LaunchError>();
    is_error::<ServiceError>();
    is_error::<WaitError>();
    is_error::<Misuse>();
}

#[test]
fn handles_for_threads_are_free() {
    use qemu_machine_blocking::{Agent, Events, Qtest, Vm};
    is_free::<(Vm, Agent, Qtest, Events)>();
}

#[test]
fn handles_for_tasks_are_free_and_so_is_what_they_await() {
    use qemu_machine_smol::{Agent, Driver, Events, Qtest, Vm};
    is_free::<(Vm, Agent, Qtest, Events)>();
    is_sent::<Driver>();
    let verbs = |vm: &Vm, events: &mut Events| {
        is_task(Vm::launch(Config::new("")));
        is_task(vm.execute("query-status"));
        is_task(vm.wait_any(&Mark::default(), [Wait::end()], qemu_machine_smol::FOREVER));
        is_task(vm.run(Unplug::device("net1"), qemu_machine_smol::FOREVER));
        is_task(vm.shutdown(Shutdown::default()));
        is_task(events.next(qemu_machine_smol::FOREVER));
    };
    // It is compiled, which is all.
    let _: fn(&Vm, &mut Events) = verbs;
}

#[test]
fn a_machine_in_a_loop_moves_with_it() {
    use qemu_machine_mio::{EventLoop, Vm};
    is_sent::<(Vm, EventLoop)>();
}
