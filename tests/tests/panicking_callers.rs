//! Tests of code of the caller that panics: observers of the wire, wakers and procedures. The panic reaches the call in
//! which it happens, if there is one. No byte is lost or sent twice, and the other callers go on.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Wake, Waker};
use std::thread::spawn;
use std::time::Duration;

use qemu_machine_core::procedure::{self, Procedure, Undo};
use qemu_machine_core::{Config, FOREVER, Limits, Mark, Peer, Shutdown, Value, Wait, json, wire::Encoded};
use qemu_machine_host::descriptor;
use qemu_machine_host::tasks::{Driver, Reactor, Vm};
use qemu_machine_mio::EventLoop;
use qemu_machine_smol::Smol;
use qemu_machine_tests::null::{GREETING, Wealth, serve};
use qemu_machine_tests::{PATIENCE, bounded};
use qemu_machine_tokio::Tokio;

/// Deadline of what must happen: longer than it ever takes.
const LONG: Duration = Duration::from_secs(PATIENCE.as_secs() / 2);

/// End of a monitor on the side of QEMU, which keeps what it reads.
struct LoggedSocket(UnixStream, Arc<Mutex<Vec<u8>>>);

impl Read for LoggedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.lock().unwrap().extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Write for LoggedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Returns the configuration of a monitor that answers each command, and what that monitor has read. Three commands may be
/// unanswered or unclaimed.
fn answered() -> (Config, Arc<Mutex<Vec<u8>>>) {
    let (qemu, ours) = UnixStream::pair().unwrap();
    let requests = Arc::default();
    let kept = LoggedSocket(qemu, Arc::clone(&requests));
    // It fails when the client closes the connection with bytes unread.
    spawn(move || drop(serve(kept, &Wealth::default())));
    (attached(ours), requests)
}

fn attached(ours: UnixStream) -> Config {
    let mut limits = Limits::default();
    limits.commands = 3;
    Config::attach(Peer::Connected(descriptor(ours))).launch_within(LONG).limits(limits)
}

/// Returns a monitor that has greeted, and its configuration.
fn silent() -> (UnixStream, Config) {
    let (mut monitor, ours) = UnixStream::pair().unwrap();
    monitor.write_all(&[GREETING, b"{\"return\": {}, \"id\": 0}\r\n"].concat()).unwrap();
    (monitor, attached(ours))
}

/// Reads from a monitor until it has read this text.
fn read_until(monitor: &mut UnixStream, text: &str) {
    let mut read = Vec::new();
    while !read.windows(text.len()).any(|window| window == text.as_bytes()) {
        let mut piece = [0; 4 << 10];
        let count = monitor.read(&mut piece).unwrap();
        assert!(count > 0, "{:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..count]);
    }
}

/// Returns an observer that panics at these calls, the first of which has the number 1.
fn panics_at(calls: &'static [u32]) -> impl FnMut(&[u8]) + Send + 'static {
    let mut number = 0;
    move |_| {
        number += 1;
        assert!(!calls.contains(&number), "the observer panics");
    }
}

fn has_panicked<T>(call: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

/// A runtime, as these tests call it.
trait Row {
    fn attach(config: Config) -> Self;
    fn observe(&mut self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static);
    fn execute(&mut self, name: &str) -> Value;
}

struct OnThreads(qemu_machine_blocking::Vm);

impl Row for OnThreads {
    fn attach(config: Config) -> Self {
        Self(qemu_machine_blocking::Vm::launch(config).unwrap())
    }

    fn observe(&mut self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static) {
        self.0.observe_wire(sent, received);
    }

    fn execute(&mut self, name: &str) -> Value {
        self.0.execute(name).unwrap()
    }
}

struct OnMio(EventLoop, [qemu_machine_mio::Vm; 1]);

impl Row for OnMio {
    fn attach(config: Config) -> Self {
        let mut event_loop = EventLoop::new().unwrap();
        let (registry, tokens) = event_loop.parts();
        let mut vms = [qemu_machine_mio::Vm::launch(config, registry, tokens).unwrap()];
        event_loop.run(&mut vms, |vms| vms[0].launched()).unwrap().unwrap();
        Self(event_loop, vms)
    }

    fn observe(&mut self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static) {
        self.1[0].observe_wire(sent, received);
    }

    fn execute(&mut self, name: &str) -> Value {
        let Self(event_loop, vms) = self;
        let ticket = vms[0].execute(name).unwrap();
        let run = || event_loop.run(vms, |vms| vms[0].claim(&ticket)).unwrap().unwrap();
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            vms[0].disown(ticket.id());
            std::panic::resume_unwind(panic)
        })
    }
}

/// A reactor with an executor.
trait Executor: Reactor {
    fn spawn(driver: Driver<Self>);
    fn block_on<T>(future: impl Future<Output = T>) -> T;
}

impl Executor for Smol {
    fn spawn(driver: Driver<Self>) {
        smol::spawn(driver).detach();
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        smol::block_on(future)
    }
}

impl Executor for Tokio {
    fn spawn(driver: Driver<Self>) {
        drop(tokio::spawn(driver));
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().expect("a runtime can be made")).block_on(future)
    }
}

struct InTasks<R: Executor>(Vm<R>);

impl<R: Executor> Row for InTasks<R> {
    fn attach(config: Config) -> Self {
        Self(R::block_on(Vm::launch_with(config, R::spawn)).unwrap())
    }

    fn observe(&mut self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static) {
        self.0.observe_wire(sent, received);
    }

    fn execute(&mut self, name: &str) -> Value {
        R::block_on(self.0.execute(name)).unwrap()
    }
}

/// The request that the observer saw was sent once, and is disowned: its reply leaves room for the next command.
fn an_observer_of_what_is_sent_panics<R: Row>() {
    let (config, requests) = answered();
    let mut row = R::attach(config);
    row.observe(panics_at(&[1, 2, 4]), |_| ());
    for panics in [true, true, false, true, false] {
        let answer = catch_unwind(AssertUnwindSafe(|| row.execute("query-name")));
        assert_eq!(answer.ok(), (!panics).then(|| json!({})), "the panic reaches the caller");
    }
    let requests = String::from_utf8(requests.lock().unwrap().clone()).unwrap();
    assert_eq!(requests.matches("query-name").count(), 5, "{requests}");
}

/// The bytes that the observer saw reach the machine.
fn an_observer_of_what_is_received_panics<R: Row>(reaches_caller: bool) {
    let (config, requests) = answered();
    let mut row = R::attach(config);
    row.observe(|_| (), panics_at(&[1]));
    assert_eq!(has_panicked(|| row.execute("query-status")), reaches_caller);
    assert_eq!(row.execute("query-name"), json!({}));
    let requests = String::from_utf8(requests.lock().unwrap().clone()).unwrap();
    assert_eq!(requests.matches("query-").count(), 2, "{requests}");
}

#[test]
fn g24_a_panic_of_an_observer_loses_and_repeats_no_byte() {
    bounded(|| {
        an_observer_of_what_is_sent_panics::<OnThreads>();
        an_observer_of_what_is_sent_panics::<OnMio>();
        an_observer_of_what_is_sent_panics::<InTasks<Smol>>();
        an_observer_of_what_is_sent_panics::<InTasks<Tokio>>();
        an_observer_of_what_is_received_panics::<OnThreads>(true);
        an_observer_of_what_is_received_panics::<OnMio>(true);
        // The driver receives, in no call of a task.
        an_observer_of_what_is_received_panics::<InTasks<Smol>>(false);
        an_observer_of_what_is_received_panics::<InTasks<Tokio>>(false);
    });
}

/// The thread that leads waits for as long as it likes, unless the caller that panics wakes it.
#[test]
fn g24_a_request_that_panics_wakes_the_caller_that_leads() {
    bounded(|| {
        let (mut monitor, config) = silent();
        let vm = qemu_machine_blocking::Vm::launch(config).unwrap();
        let leading = vm.clone();
        read_until(&mut monitor, "qmp_capabilities");
        let leads = spawn(move || (leading.execute_by("query-name", FOREVER), leading.wait(FOREVER)).1);
        // A request is sent under the lock, which the caller then releases to lead.
        read_until(&mut monitor, "query-name");
        vm.observe_wire(panics_at(&[1]), |_| ());
        assert!(has_panicked(|| vm.begin_shutdown(Shutdown::within(Duration::from_millis(50)))));
        read_until(&mut monitor, "quit");
        assert!(leads.join().unwrap().is_ok());
    });
}

/// No caller is there to receive, so the supervisor's thread does.
#[test]
fn g24_an_idle_machine_whose_observer_panics_still_has_a_driver() {
    bounded(|| {
        let (mut monitor, config) = silent();
        let vm = qemu_machine_blocking::Vm::launch(config).unwrap();
        let (log, pieces) = channel();
        let mut is_first = true;
        let received = move |bytes: &[u8]| {
            log.send(bytes.to_vec()).unwrap();
            assert!(!std::mem::take(&mut is_first), "the observer panics once");
        };
        vm.observe_wire(|_| (), received);
        for _ in 0..2 {
            monitor.write_all(b"\r\n").unwrap();
            assert_eq!(pieces.recv_timeout(LONG).as_deref(), Ok(&b"\r\n"[..]));
        }
    });
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("the waker panics");
    }
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Two tasks wait for the same event, and the waker of one panics, in the driver.
fn a_waker_panics<R: Executor>() {
    let (mut monitor, config) = silent();
    let vm = R::block_on(Vm::<R>::launch_with(config, R::spawn)).unwrap();
    let count = Arc::new(CountingWaker::default());
    let (panicking, counting) = (Waker::from(Arc::new(PanickingWaker)), Waker::from(Arc::clone(&count)));
    let (start, stop) = (vm.mark(), [Wait::event("STOP")]);
    let mut before = pin!(vm.wait_any(&start, stop.clone(), LONG));
    let mut between = pin!(vm.wait_any(&start, stop.clone(), LONG));
    let mut behind = pin!(vm.wait_any(&start, stop.clone(), LONG));
    assert!(before.as_mut().poll(&mut Context::from_waker(&counting)).is_pending());
    assert!(between.as_mut().poll(&mut Context::from_waker(&panicking)).is_pending());
    assert!(behind.as_mut().poll(&mut Context::from_waker(&counting)).is_pending());
    let event = b"{\"event\": \"STOP\", \"timestamp\": {\"seconds\": 1, \"microseconds\": 0}}\r\n";
    monitor.write_all(event).unwrap();
    // The driver lives: it serves a task that begins to wait now, and calls the wakers in one pass before.
    R::block_on(vm.wait_any(&start, stop, LONG)).unwrap();
    let answers = spawn(move || {
        read_until(&mut monitor, "query-name");
        monitor.write_all(b"{\"return\": {}, \"id\": 1}\r\n").unwrap();
        monitor
    });
    assert_eq!(R::block_on(vm.execute("query-name")).unwrap(), json!({}));
    drop(answers.join().unwrap());
    assert_eq!(count.0.load(Ordering::SeqCst), 2);
}

#[test]
fn g24_a_panic_of_a_waker_leaves_the_others_awake() {
    bounded(|| {
        a_waker_panics::<Smol>();
        a_waker_panics::<Tokio>();
    });
}

/// A procedure that executes one command, and uses the machine to choose its undo.
struct Asks<F: Fn() -> Mark> {
    look: F,
    /// Whether it panics once it has the reply.
    panics: bool,
}

impl<F: Fn() -> Mark> Procedure for Asks<F> {
    type Return = ();

    fn step(&mut self, input: procedure::Input) -> procedure::Output<()> {
        match input {
            procedure::Input::Begun(_) => procedure::Output::Execute(Encoded::command(&"blockdev-add")),
            procedure::Input::Reply(_) if self.panics => panic!("the procedure panics"),
            _ => procedure::Output::wait(&Mark::default(), [Wait::event("NEVER")]),
        }
    }

    fn undo(&self) -> Vec<Undo> {
        let _ = (self.look)();
        Undo::new(&"blockdev-del").into_iter().collect()
    }
}

fn an_undo_uses_the_machine<R: Executor>() {
    let (mut monitor, config) = silent();
    let vm = R::block_on(Vm::<R>::launch_with(config, R::spawn)).unwrap();
    let mut running = Box::pin(vm.run(Asks { look: || vm.mark(), panics: false }, LONG));
    assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    read_until(&mut monitor, "blockdev-add");
    drop(running);
    monitor.write_all(b"{\"return\": {}, \"id\": 1}\r\n").unwrap();
    read_until(&mut monitor, "blockdev-del");
}

#[test]
fn g40_an_undo_may_use_the_machine() {
    bounded(|| {
        an_undo_uses_the_machine::<Smol>();
        an_undo_uses_the_machine::<Tokio>();
    });
}

#[test]
fn g40_a_procedure_that_panics_is_undone() {
    bounded(|| {
        let (mut monitor, config) = silent();
        let vm = qemu_machine_blocking::Vm::launch(config).unwrap();
        let answers = spawn(move || {
            read_until(&mut monitor, "blockdev-add");
            monitor.write_all(b"{\"return\": {}, \"id\": 1}\r\n").unwrap();
            read_until(&mut monitor, "blockdev-del");
        });
        assert!(has_panicked(|| vm.run(Asks { look: || vm.mark(), panics: true }, LONG)));
        answers.join().unwrap();
    });
}

/// A procedure that creates something, whose name is in the reply.
struct Creates;

impl Procedure for Creates {
    type Return = ();

    fn step(&mut self, input: procedure::Input) -> procedure::Output<()> {
        match input {
            procedure::Input::Begun(_) => procedure::Output::Execute(Encoded::command(&"add-fd")),
            _ => procedure::Output::Done(()),
        }
    }

    fn undo(&self) -> Vec<Undo> {
        Undo::of_reply("remove-fd", "fdset-id").into_iter().collect()
    }
}

/// The undo needs the reply, at which the observer panics. On a busy host the supervisor may receive the reply before the
/// caller waits for it: then the panic is that of the supervisor, and the run succeeds.
#[test]
fn g40_what_was_created_at_a_panic_of_an_observer_is_undone() {
    /// Returns whether the observer has panicked in the call of the caller.
    fn is_undone() -> bool {
        let (mut monitor, config) = silent();
        let vm = qemu_machine_blocking::Vm::launch(config).unwrap();
        vm.observe_wire(|_| (), panics_at(&[1]));
        let answers = spawn(move || {
            read_until(&mut monitor, "add-fd");
            monitor.write_all(b"{\"return\": {\"fdset-id\": 7}, \"id\": 1}\r\n").unwrap();
            read_until(&mut monitor, "\"fdset-id\":7");
        });
        let has_panicked = has_panicked(|| vm.run(Creates, LONG));
        drop(vm);
        assert_eq!(answers.join().is_ok(), has_panicked, "what a run has created is undone only if it fails");
        has_panicked
    }
    bounded(|| assert!((0..20).any(|_| is_undone())));
}
