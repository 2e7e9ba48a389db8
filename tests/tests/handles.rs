//! Compile-time tests of the types and futures that are `Send` and `Sync`.

use qemu_machine_core::lifecycle::Lifecycle;
use qemu_machine_core::procedure::{self, ExecuteAndWait, FollowJob, Migrate, Run, Unplug};
use qemu_machine_core::session::Session;
use qemu_machine_core::{
    Batch, CommandError, CommandLine, Config, Descriptor, Effect, Event, Found, Hit, Identity, LaunchError, Limits,
    Machine, Mark, Misuse, Notice, Outcome, Payload, Raw, Schema, ServiceError, Shutdown, Ticket, Value, Wait,
    WaitError, WithRawReply,
};

/// Requires a type that can move to another thread, be shared between threads, and borrows nothing.
const fn is_free<T: Send + Sync + 'static>() {}

/// Requires a type that can move to another thread.
const fn is_sent<T: Send + 'static>() {}

/// Requires an error that `?` converts to a boxed error.
const fn is_error<T: std::error::Error + Send + Sync + 'static>() {}

/// Requires a future for a task that may move between threads.
fn is_task<T: Send>(_: impl Future<Output = T> + Send) {}

#[test]
fn types_of_the_core_are_send_and_sync() {
    is_free::<(Config, Limits, Shutdown, Descriptor, CommandLine, Identity)>();
    is_free::<(Machine, Session, Lifecycle, Effect, Notice)>();
    is_free::<(Event, Payload, Value, Outcome, Schema)>();
    is_free::<(Mark, Wait, Hit, Found)>();
    is_free::<(Unplug, Migrate, ExecuteAndWait<&str>, procedure::Input)>();
    // A ticket or a batch does not hold the command, so it is `Send` and `Sync` for any command.
    is_free::<Batch<WithRawReply<std::rc::Rc<str>>>>();
    is_free::<(Ticket<Raw>, Ticket<WithRawReply<std::rc::Rc<str>>>)>();
    // The report function belongs to the caller, and need not be `Sync`.
    is_sent::<(FollowJob, Run<FollowJob>, procedure::Output<FollowJob>)>();
    is_error::<CommandError>();
    is_error::<LaunchError>();
    is_error::<ServiceError>();
    is_error::<WaitError>();
    is_error::<Misuse>();
}

#[test]
fn blocking_handles_are_send_and_sync() {
    use qemu_machine_blocking::{Agent, Events, Qtest, Vm, WeakVm};
    is_free::<(Vm, WeakVm, Agent, Qtest, Events)>();
}

#[test]
fn smol_handles_are_send_and_sync_and_their_futures_are_send() {
    use qemu_machine_smol::{Agent, Driver, Events, Qtest, Vm, WeakVm};
    is_free::<(Vm, WeakVm, Agent, Qtest, Events)>();
    is_sent::<Driver>();
    let verbs = |vm: &Vm, weak: &WeakVm, events: &mut Events| {
        is_task(Vm::launch(Config::new("")));
        is_task(vm.execute("query-status"));
        is_task(vm.execute_all(["query-status"]));
        is_task(vm.wait_any(&Mark::default(), [Wait::end()], qemu_machine_smol::FOREVER));
        is_task(weak.wait(qemu_machine_smol::FOREVER));
        is_task(vm.run(Unplug::device("net1"), qemu_machine_smol::FOREVER));
        is_task(vm.shutdown(Shutdown::default()));
        is_task(events.next(qemu_machine_smol::FOREVER));
    };
    // The function is only compiled.
    let _: fn(&Vm, &WeakVm, &mut Events) = verbs;
}

#[test]
fn tokio_handles_are_send_and_sync_and_their_futures_are_send() {
    use qemu_machine_tokio::{Agent, Console, Driver, Events, Qtest, Vm, WeakVm};
    is_free::<(Vm, WeakVm, Agent, Qtest, Events)>();
    is_sent::<(Driver, Console)>();
    let verbs = |vm: &Vm, weak: &WeakVm, events: &mut Events| {
        is_task(Vm::launch(Config::new("")));
        is_task(vm.execute("query-status"));
        is_task(vm.execute_all(["query-status"]));
        is_task(vm.wait_any(&Mark::default(), [Wait::end()], qemu_machine_tokio::FOREVER));
        is_task(weak.wait(qemu_machine_tokio::FOREVER));
        is_task(vm.run(Unplug::device("net1"), qemu_machine_tokio::FOREVER));
        is_task(vm.shutdown(Shutdown::default()));
        is_task(vm.execute_raw("{}"));
        is_task(vm.execute_with_fd("getfd", std::io::pipe().expect("a pipe").0));
        is_task(vm.wait(qemu_machine_tokio::FOREVER));
        is_task(vm.kill());
        is_task(vm.relaunch());
        is_task(vm.disconnect());
        is_task(vm.detach());
        is_task(vm.agent(qemu_machine_tokio::FOREVER));
        is_task(vm.qtest());
        is_task(events.next(qemu_machine_tokio::FOREVER));
    };
    // The function is only compiled.
    let _: fn(&Vm, &WeakVm, &mut Events) = verbs;
}

#[test]
fn a_machine_in_a_loop_moves_with_it() {
    use qemu_machine_mio::{EventLoop, Vm};
    is_sent::<(Vm, EventLoop)>();
}
