//! Stories of batches: commands that are executed at once within one deadline.

use std::time::Duration;

use qemu_machine_blocking::{Cancel, Vm};
use qemu_machine_core::{Batch, CommandError, Config, Deadline, Mark, Shutdown, Value, Wait, json};
use qemu_machine_host::tasks::Vm as Task;
use qemu_machine_tests::qemu;
use qemu_machine_tests::scripted::{GREETING, Script};

use crate::harness::{Harness, Transcript};
use crate::in_world::InWorld;
use crate::on_mio::Mio;
use crate::on_tasks::{Executor, Tasks};
use crate::rows;
use crate::scripted::{LONG, config, launched};

type Commands<'a> = &'a [(&'a str, Value)];
type Replies = Vec<Result<Value, CommandError>>;

/// A row that executes batches.
pub(crate) trait Batches: Harness {
    fn execute_batch(&mut self, commands: Commands<'_>, within: Deadline) -> Replies;

    /// Begins a batch, and cancels it when an event has arrived: on threads by a token, with its results, and elsewhere by
    /// dropping or disowning it.
    fn cancel_batch(&mut self, commands: Commands<'_>, event: Wait) -> Option<Replies>;
}

/// Waits for an event that comes.
fn expect<H: Harness>(machine: &mut H, event: Wait) {
    machine.wait_any(&Mark::default(), &[event], LONG).expect("the event comes");
}

impl Batches for Vm {
    fn execute_batch(&mut self, commands: Commands<'_>, within: Deadline) -> Replies {
        self.execute_all_by(commands.iter().map(|(name, arguments)| (*name, arguments)), within)
    }

    fn cancel_batch(&mut self, commands: Commands<'_>, event: Wait) -> Option<Replies> {
        let (cancel, mut machine) = (Cancel::new(), self.clone());
        std::thread::scope(|threads| {
            let executing = threads.spawn(|| cancel.run_until_cancelled(|| self.execute_batch(commands, LONG)));
            expect(&mut machine, event);
            cancel.cancel();
            Some(executing.join().expect("no panic"))
        })
    }
}

impl Batches for Mio {
    fn execute_batch(&mut self, commands: Commands<'_>, within: Deadline) -> Replies {
        let mut batch = self.vm.execute_all_by(commands.iter().map(|(name, arguments)| (*name, arguments)), within);
        self.until(|vm| vm.claim_all(&mut batch))
    }

    fn cancel_batch(&mut self, commands: Commands<'_>, event: Wait) -> Option<Replies> {
        let batch = self.vm.execute_all(commands.iter().map(|(name, arguments)| (*name, arguments)));
        expect(self, event);
        self.vm.disown_all(batch);
        None
    }
}

impl<E: Executor> Batches for Tasks<E> {
    fn execute_batch(&mut self, commands: Commands<'_>, within: Deadline) -> Replies {
        E::block_on(self.vm.execute_all_by(commands.iter().map(|(name, arguments)| (*name, arguments)), within))
    }

    fn cancel_batch(&mut self, commands: Commands<'_>, event: Wait) -> Option<Replies> {
        let vm: &Task<E::Reactor> = &self.vm;
        let batch = async { Some(vm.execute_all(commands.iter().map(|(name, arguments)| (*name, arguments))).await) };
        let event = async {
            vm.wait_any(&Mark::default(), [event], LONG).await.expect("the event comes");
            None
        };
        E::block_on(smol::future::or(batch, event))
    }
}

impl Batches for InWorld {
    fn execute_batch(&mut self, commands: Commands<'_>, within: Deadline) -> Replies {
        let mut batch = Batch::new(commands.iter().map(|(name, arguments)| (*name, arguments)));
        batch.send(&mut self.machine, self.now, within);
        self.until(|machine| batch.take_answers(machine).then_some(()));
        batch.into_replies()
    }

    fn cancel_batch(&mut self, commands: Commands<'_>, event: Wait) -> Option<Replies> {
        let mut batch = Batch::new(commands.iter().map(|(name, arguments)| (*name, arguments)));
        batch.send(&mut self.machine, self.now, LONG);
        expect(self, event);
        batch.disown(&mut self.machine);
        Some(batch.into_replies())
    }
}

/// Commands without arguments.
fn named<const N: usize>(names: [&str; N]) -> [(&str, Value); N] {
    names.map(|name| (name, json!({})))
}

fn note(told: &mut Transcript, replies: &Replies) {
    replies.iter().for_each(|reply| told.reply(reply));
}

fn row_20_a_batch_returns_each_result_in_order<H: Batches>() -> Transcript {
    let script = Script::launched().hear().hear().hear().reply("1").refuse("not today").reply("3").obey();
    let (mut told, mut machine) = launched::<H>(script);
    note(&mut told, &machine.execute_batch(&named(["first", "second", "third"]), LONG));
    note(&mut told, &machine.execute_batch(&[], LONG));
    // Arguments that are no object are refused before anything is sent.
    let commands = [("broken", json!([1])), ("whole", json!({"a": 1})), ("broken", json!("text"))];
    note(&mut told, &machine.execute_batch(&commands, LONG));
    note(&mut told, &machine.execute_batch(&commands[..1], LONG));
    told.outcome(machine.shutdown(Shutdown::default()));
    note(&mut told, &machine.execute_batch(&named(["late", "later"]), LONG));
    told
}

/// The deadline is long enough for the first reply on a busy machine.
fn g01_one_deadline_bounds_a_batch<H: Batches>() -> Transcript {
    let nine = named(["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let (mut told, mut machine) = launched::<H>(Script::launched().hear().reply("\"in time\"").stall());
    note(&mut told, &machine.execute_batch(&nine, Duration::from_secs(2).into()));
    told.outcome(machine.kill());
    told
}

fn g33_the_end_of_the_monitor_ends_a_batch<H: Batches>() -> Transcript {
    let nine = named(["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    let (mut told, mut machine) = launched::<H>(Script::launched().hear().reply("1").exit(3));
    note(&mut told, &machine.execute_batch(&nine, LONG));
    told.outcome(machine.wait(LONG));
    told
}

/// Of three commands, the first has its reply when the batch is cancelled. The late replies reach no other command.
fn g02_a_batch_that_is_cancelled_disowns_what_remains<H: Batches>() {
    let script = Script::launched().hear().hear().hear().reply("1").event("HEARD").hear();
    let script = script.reply("\"late\"").reply("\"late\"").reply("\"mine\"").obey();
    let mut machine = H::launch(config(script)).expect("the script greets and negotiates");
    let replies = machine.cancel_batch(&named(["first", "second", "third"]), Wait::event("HEARD"));
    if let Some(replies) = replies {
        assert_eq!(replies, [Ok(json!(1)), Err(CommandError::Cancelled), Err(CommandError::Cancelled)]);
    }
    assert_eq!(machine.execute("next", LONG), Ok(json!("mine")));
    assert_eq!(machine.counters().late, 2);
    machine.kill().expect("the machine was launched");
}

/// With out-of-band execution seven commands are on the wire at once, without it all of them.
fn g21_a_thousand_commands_in_a_batch<H: Batches>() {
    for greeting in [GREETING, &GREETING.replace("\"oob\"", "")] {
        let script = Script::new().say(greeting).hear().reply("{}").obey();
        let mut machine = H::launch(config(script)).expect("the script greets and negotiates");
        let replies = machine.execute_batch(&vec![("command", json!({})); 1_000], LONG);
        assert_eq!(replies.iter().filter(|reply| reply.is_ok()).count(), 1_000);
        machine.kill().expect("the machine was launched");
    }
}

macro_rules! stories {
    ($harness:ty) => {
        crate::each! { $harness:
            row_20_a_batch_returns_each_result_in_order [
                "launched", "reply: 1", "no reply: `second` was refused: GenericError: not today", "reply: 3",
                "no reply: the arguments of `broken` are not valid: not an object", "reply: {}",
                "no reply: the arguments of `broken` are not valid: not an object",
                "no reply: the arguments of `broken` are not valid: not an object",
                "end: ended by the caller (quit)", "end: exit status 0",
                "no reply: the monitor was closed before the command was sent",
                "no reply: the monitor was closed before the command was sent",
            ]
            g01_one_deadline_bounds_a_batch [
                "launched", "reply: \"in time\"",
                "no reply: no reply within the deadline, after the command was sent",
                "no reply: no reply within the deadline, after the command was sent",
                "no reply: no reply within the deadline, after the command was sent",
                "no reply: no reply within the deadline, after the command was sent",
                "no reply: no reply within the deadline, after the command was sent",
                "no reply: no reply within the deadline, after the command was sent",
                "no reply: no reply within the deadline, after the command was sent",
                "no reply: no reply within the deadline, before the command was sent",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)", "end: 8 without a reply",
            ]
            g33_the_end_of_the_monitor_ends_a_batch [
                "launched", "reply: 1",
                "no reply: the monitor was closed after the command was sent",
                "no reply: the monitor was closed after the command was sent",
                "no reply: the monitor was closed after the command was sent",
                "no reply: the monitor was closed after the command was sent",
                "no reply: the monitor was closed after the command was sent",
                "no reply: the monitor was closed after the command was sent",
                "no reply: the monitor was closed after the command was sent",
                "no reply: the monitor was closed before the command was sent",
                "end: QEMU exited (status 3)", "end: exit status 3", "end: 8 without a reply",
            ]
        }
        crate::prove! { $harness:
            g02_a_batch_that_is_cancelled_disowns_what_remains
            g21_a_thousand_commands_in_a_batch
        }
    };
}

rows!(stories, in_world);

/// Stories with the real QEMU.
mod real {
    use super::*;

    /// QEMU answers each command in turn, also those that wait until it has room in its queue.
    pub(super) fn g21_a_thousand_commands_of_a_real_qemu<H: Batches>() {
        let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-name", "a guest", "-uuid", UUID]);
        let mut machine = H::launch(config).expect("QEMU starts");
        let commands: Vec<_> = named(["query-name", "query-uuid"]).into_iter().cycle().take(1_000).collect();
        let replies = machine.execute_batch(&commands, LONG);
        assert_eq!(replies.len(), 1_000);
        for pair in replies.chunks(2) {
            assert_eq!(pair, [Ok(json!({"name": "a guest"})), Ok(json!({"UUID": UUID}))]);
        }
        machine.kill().expect("the machine was launched");
    }

    const UUID: &str = "11111111-2222-3333-4444-555555555555";

    macro_rules! stories {
        ($harness:ty) => {
            crate::prove! { $harness: g21_a_thousand_commands_of_a_real_qemu }
        };
    }

    rows!(stories);
}
