//! Stories of row 32, and of failure 6: machines that another program launched.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use qemu_machine_blocking::commands::QuerySchema;
use qemu_machine_blocking::{FaultKind, Vm, descriptor};
use qemu_machine_core::{
    Address, Cause, CommandError, Config, Deadline, LaunchError, LaunchFailure, Misuse, Peer, Phase, Progress, Rung,
    Shutdown, State, Value, json,
};
use qemu_machine_tests::leak_check::{Scratch, send, stop};
use rustix::net::listen;
use rustix::process::Signal;

use super::{LONG, bytes, empty};
use crate::hosted::Hosted;
use crate::left_out::possible;
use crate::rows;

const SHORT: Deadline = Deadline::after(Duration::from_millis(200));

/// A QEMU with a second monitor on a path, launched on the blocking runtime and ended with this value.
struct Others {
    vm: Vm,
    scratch: Scratch,
}

impl Others {
    fn launch() -> Self {
        let scratch = Scratch::create();
        let option = format!("unix:{}/qmp,server=on,wait=off", scratch.path().display());
        let vm = Vm::launch(empty().args(["-qmp", &option])).expect("QEMU starts");
        Self { vm, scratch }
    }

    fn peer(&self) -> Peer {
        Peer::Dial(Address::unix(bytes(&self.scratch.path().join("qmp"))))
    }
}

fn attach<H: Hosted>(peer: Peer, within: Deadline) -> Result<H, LaunchError> {
    H::launch(Config::attach(peer).launch_within(within))
}

fn failure<H: Hosted>(peer: Peer, within: Deadline) -> LaunchFailure {
    match attach::<H>(peer, within) {
        Err(LaunchError::Failed { failure, .. }) => failure,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the attach succeeded"),
    }
}

fn row_32_attach_command_and_disconnect<H: Hosted>() {
    let others = Others::launch();
    for _ in 0..3 {
        let mut machine = attach::<H>(others.peer(), LONG).expect("the socket is open");
        assert_eq!(
            (machine.state(), machine.pid(), machine.command_line().to_string()),
            (State::Running, None, String::new())
        );
        machine.execute("query-status", LONG).expect("the monitor answers");
        assert_eq!(machine.kill(), Err(Misuse::NotOurs));
        let outcome = machine.disconnect().expect("the machine is not ours");
        assert_eq!((outcome.cause, outcome.exit), (Cause::Disconnected, None));
        assert_eq!(machine.execute("query-status", LONG), Err(CommandError::Disconnected(Progress::Unsent)));
    }
    // Dropping the handle disconnects as well.
    drop(attach::<H>(others.peer(), LONG).expect("the socket is open"));
    let mut machine = attach::<H>(others.peer(), LONG).expect("the socket is open");
    machine.disconnect().expect("the machine is not ours");
    machine.relaunch().expect("the second run attaches");
    machine.execute("query-status", LONG).expect("the monitor answers");
    assert_eq!(others.vm.disconnect(), Err(Misuse::Ours));
}

/// Each end that another client caused is distinguished from the same end by the caller; the real matrix is in `causes.rs`.
fn g28_an_end_by_another_client_is_not_the_callers<H: Hosted>() {
    let launch = || {
        let scratch = Scratch::create();
        let option = format!("unix:{}/qmp,server=on,wait=off", scratch.path().display());
        let machine = H::launch(empty().args(["-qmp", &option])).expect("QEMU starts");
        let peer = Peer::Dial(Address::unix(bytes(&scratch.path().join("qmp"))));
        let other = Vm::attach(peer, LONG).expect("the second monitor serves a client");
        (machine, other, scratch)
    };
    let (mut machine, other, _scratch) = launch();
    other.execute("quit").expect("QEMU quits");
    assert_eq!(machine.wait(LONG).expect("QEMU quits").cause, Cause::QuitByOther);
    assert_eq!(other.wait(LONG).expect("QEMU quits").cause, Cause::Asked(Rung::Quit));

    let (mut machine, other, _scratch) = launch();
    machine.execute("quit", LONG).expect("QEMU quits");
    assert_eq!(machine.wait(LONG).expect("QEMU quits").cause, Cause::Asked(Rung::Quit));
    assert_eq!(other.wait(LONG).expect("QEMU quits").cause, Cause::QuitByOther);
}

fn row_32_attach_and_end<H: Hosted>() {
    let others = Others::launch();
    let mut machine = attach::<H>(others.peer(), LONG).expect("the socket is open");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    assert_eq!((outcome.cause, outcome.exit), (Cause::Asked(Rung::Quit), None));
    assert_eq!(others.vm.wait(LONG).expect("QEMU quits").cause, Cause::QuitByOther);

    let others = Others::launch();
    let mut machine = attach::<H>(others.peer(), LONG).expect("the socket is open");
    send(others.vm.pid().expect("the process runs"), Signal::KILL);
    assert_eq!(machine.wait(LONG).expect("its monitor is gone").cause, Cause::HungUp);

    let others = Others::launch();
    let mut machine = attach::<H>(others.peer(), LONG).expect("the socket is open");
    stop(others.vm.pid().expect("the process runs"));
    // A machine of another program gets no signals.
    let outcome = machine.shutdown(Shutdown::within(Duration::from_millis(100))).expect("the machine was launched");
    assert_eq!((outcome.cause, outcome.rungs), (Cause::Disconnected, vec![Rung::Quit]));
}

fn g06_an_absent_a_busy_and_a_dead_monitor_are_different_errors<H: Hosted>() {
    let others = Others::launch();
    let nowhere = Peer::Dial(Address::unix(bytes(&others.scratch.path().join("nowhere"))));
    assert!(
        matches!(failure::<H>(nowhere, LONG), LaunchFailure::NotListening(fault) if fault.kind == FaultKind::NotFound)
    );

    let mut first = attach::<H>(others.peer(), LONG).expect("the socket is open");
    assert_eq!(failure::<H>(others.peer(), SHORT), LaunchFailure::Busy);
    // The connection of the client that timed out is still in the backlog (measured with QEMU 7.2.22): QEMU accepts it
    // first, finds it closed, and serves the next client.
    first.disconnect().expect("the machine is not ours");
    attach::<H>(others.peer(), LONG).expect("the socket is open").disconnect().expect("the machine is not ours");

    let stopped = Others::launch();
    stop(stopped.vm.pid().expect("the process runs"));
    assert_eq!(
        failure::<H>(stopped.peer(), SHORT),
        LaunchFailure::TimedOut(Phase::Greeting),
        "a stopped QEMU is not busy"
    );

    others.vm.kill().expect("the machine was launched");
    assert!(matches!(failure::<H>(others.peer(), LONG), LaunchFailure::Dead(_)), "after SIGKILL the path stays");

    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("there is a free one");
    assert!(matches!(failure::<H>(Peer::Dial(port.into()), LONG), LaunchFailure::NotListening(_)));
}

fn g06_a_waiting_client_is_served_in_turn<H: Hosted>() {
    let others = Others::launch();
    let first = Vm::attach(others.peer(), LONG).expect("the socket is open");
    let peer = others.peer();
    std::thread::scope(|threads| {
        let second = threads.spawn(|| {
            let mut machine = attach::<H>(peer, LONG).expect("the first client disconnects");
            machine.execute("query-status", LONG).expect("the monitor answers");
        });
        // The waiting client does not disturb the first.
        first.execute("query-status").expect("the monitor answers");
        first.disconnect().expect("the machine is not ours");
        second.join().expect("the thread does not panic");
    });
}

/// Returns a socket that listens, with a backlog that is full, and the connections in it.
fn full_backlog(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    let listener = UnixListener::bind(path).expect("the path is free");
    // A listening socket takes a new backlog (`listen(2)`). The kernel admits one connection more than its length.
    listen(&listener, 0).expect("it listens");
    let waiting = vec![UnixStream::connect(path).expect("there is room")];
    (listener, waiting)
}

/// Answers the handshake of one client, and one more command.
fn serve_one(listener: &UnixListener) {
    let mut client = BufReader::new(listener.accept().expect("a client connects").0);
    let greeting = r#"{"QMP": {"version": {"qemu": {"major": 9, "minor": 0, "micro": 0}}, "capabilities": []}}"#;
    writeln!(client.get_mut(), "{greeting}").expect("it reads");
    for _ in 0..2 {
        let mut request = vec![0; 4096];
        let length = client.read(&mut request).expect("a command comes");
        let request: Value = serde_json::from_slice(&request[..length]).expect("it is JSON");
        writeln!(client.get_mut(), "{{\"return\": {{}}, \"id\": {}}}", request["id"]).expect("it reads");
    }
}

fn g06_a_full_backlog_is_waited_for<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let (listener, waiting) = full_backlog(&path);
    let peer = || Peer::Dial(Address::unix(bytes(&path)));
    let began = Instant::now();
    assert_eq!(failure::<H>(peer(), SHORT), LaunchFailure::Busy);
    assert!(began.elapsed() >= Duration::from_millis(200), "it waits until its deadline");
    std::thread::scope(|threads| {
        let machine = threads.spawn(|| {
            let mut machine = attach::<H>(peer(), LONG).expect("there is room at last");
            machine.execute("query-status", LONG).expect("the peer answers");
        });
        for _ in &waiting {
            listener.accept().expect("a client waits");
        }
        serve_one(&listener);
        machine.join().expect("no panic");
    });
}

/// Returns QEMU options for a monitor that listens at this address.
fn listening_at(address: &Address) -> [String; 4] {
    let address = match address {
        Address::Unix(path) => format!("path={}", String::from_utf8_lossy(path)),
        Address::Abstract(name) => format!("path={},abstract=on", String::from_utf8_lossy(name)),
        Address::Tcp(address) => format!("host={},port={}", address.ip(), address.port()),
    };
    ["-chardev".into(), format!("socket,id=other,{address},server=on,wait=off"), "-qmp".into(), "chardev:other".into()]
}

fn row_32_an_attach_waits_for_a_listener<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let stale = scratch.path().join("stale");
    drop(UnixListener::bind(&stale).expect("the path is free"));
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free");
    let name = Address::abstract_unix([bytes(scratch.path()), b"-name"].concat());
    for address in possible([Address::unix(bytes(&path)), Address::unix(bytes(&stale)), name, port.into()]) {
        let config = |within| Config::attach(Peer::Dial(address.clone())).wait_for_listener().launch_within(within);
        let began = Instant::now();
        let Err(LaunchError::Failed { failure, .. }) = H::launch(config(SHORT)) else { panic!("no process listens") };
        assert!(matches!(failure, LaunchFailure::NotListening(_) | LaunchFailure::Dead(_)), "{failure}");
        assert!(began.elapsed() >= Duration::from_millis(200), "it waits until its deadline");
        std::thread::scope(|threads| {
            let attach = threads.spawn(|| {
                let mut machine = H::launch(config(LONG)).expect("a process listens at last");
                machine.execute("query-status", LONG).expect("the monitor answers");
            });
            let vm = Vm::launch(empty().args(listening_at(&address))).expect("QEMU starts");
            attach.join().expect("no panic");
            vm.kill().expect("the machine was launched");
        });
    }
}

fn row_32_by_tcp_and_by_a_connected_socket<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let unix = format!("unix:{},server=on,wait=off", path.display());
    let vm =
        Vm::launch(empty().args(["-qmp", "tcp:127.0.0.1:0,server=on,wait=off", "-qmp", &unix])).expect("QEMU starts");
    let chardevs = vm.execute("query-chardev").expect("the monitor answers").to_string();
    let (_, port) = chardevs.split_once("tcp:127.0.0.1:").expect("the socket is open");
    let port: u16 = port.split(',').next().and_then(|port| port.parse().ok()).expect("there is a port");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut machine = attach::<H>(Peer::Dial(address.into()), LONG).expect("the socket is open");
    machine.execute("query-status", LONG).expect("the monitor answers");
    let nothing = std::fs::File::open("/dev/null").expect("it is there").into();
    let refused = machine.execute_with_fd("getfd", json!({"fdname": "x"}), nothing);
    assert_eq!(refused, Err(Misuse::NoDescriptors.into()), "TCP carries no descriptor");
    machine.disconnect().expect("the machine is not ours");
    for socket in [
        OwnedFd::from(TcpStream::connect(address).expect("the socket is open")),
        OwnedFd::from(UnixStream::connect(&path).expect("the socket is open")),
    ] {
        let mut machine = attach::<H>(Peer::Connected(descriptor(socket)), LONG).expect("it is connected");
        machine.execute("query-status", LONG).expect("the monitor answers");
    }
}

/// The option with which this QEMU connects again every second. Its name depends on the version.
fn dialling_again() -> &'static str {
    let vm = Vm::launch(empty()).expect("QEMU starts");
    let schema = vm.execute(QuerySchema).expect("QEMU returns its schema");
    vm.kill().expect("the machine was launched");
    let newer = schema.has("chardev-add/arg/backend/type=socket/data/reconnect-ms");
    if newer { "reconnect-ms=1000" } else { "reconnect=1" }
}

fn row_32_as_listener<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("we,listen");
    let peer = Peer::Listen(Address::unix(bytes(&path)));
    assert_eq!(failure::<H>(peer.clone(), SHORT), LaunchFailure::TimedOut(Phase::Connecting));
    assert_eq!(scratch.entries(), [""; 0], "the socket is removed");
    let chardev = format!("socket,id=other,{},path={}/we,,listen", dialling_again(), scratch.path().display());
    let vm = Vm::launch(empty().args(["-chardev", &chardev, "-qmp", "chardev:other"])).expect("QEMU starts");
    let mut machine = attach::<H>(peer, LONG).expect("the peer connects");
    machine.execute("query-status", LONG).expect("the monitor answers");
    // The socket is removed after the first connection.
    scratch.wait_until_empty();
    assert_eq!(
        machine.shutdown(Shutdown::default()).expect("the machine was launched").cause,
        Cause::Asked(Rung::Quit)
    );
    vm.wait(LONG).expect("QEMU quits");
}

/// A stranger that is silent and hangs up, and one that sends something else, do not end the attach.
fn g37_a_stranger_that_dials_a_listening_machine_does_not_end_the_attach<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qmp");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free");
    let name = Address::abstract_unix(bytes(&path));
    for address in possible([Address::unix(bytes(&path)), name, port.into()]) {
        let options = match &address {
            Address::Unix(_) => format!("path={}", path.display()),
            Address::Abstract(_) => format!("path={},abstract=on", path.display()),
            Address::Tcp(address) => format!("host={},port={}", address.ip(), address.port()),
        };
        // Until its own monitor is ready, a `quit` would end the launch of QEMU.
        let launched = Barrier::new(2);
        std::thread::scope(|threads| {
            let attach = threads.spawn(|| {
                let mut machine = attach::<H>(Peer::Listen(address.clone()), LONG).expect("QEMU connects at last");
                machine.execute("query-status", LONG).expect("the monitor answers");
                // The socket is removed.
                scratch.wait_until_empty();
                launched.wait();
                machine.shutdown(Shutdown::default()).expect("the machine was launched").cause
            });
            // This client waits for the listener, and for a greeting, and hangs up.
            let dial = Config::attach(Peer::Dial(address.clone())).wait_for_listener().launch_within(SHORT);
            while Vm::launch(dial.clone()).err().is_none_or(|error| !error.to_string().contains("greeted")) {}
            if let Address::Tcp(address) = address {
                let mut stranger = TcpStream::connect(address).expect("it listens");
                stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is connected");
                // The end is a reset if the host closes the connection with bytes unread.
                let _ = stranger.read_to_end(&mut Vec::new());
            }
            let chardev = format!("socket,id=other,{options}");
            let vm = Vm::launch(empty().args(["-chardev", &chardev, "-qmp", "chardev:other"])).expect("QEMU starts");
            launched.wait();
            assert_eq!(attach.join().expect("no panic"), Cause::Asked(Rung::Quit));
            vm.wait(LONG).expect("QEMU quits");
        });
    }
}

/// A storage daemon: it speaks QMP and has no guest.
struct Storage(Child);

impl Drop for Storage {
    fn drop(&mut self) {
        // The kill fails if the daemon has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn row_32_the_storage_daemon<H: Hosted>() {
    let scratch = Scratch::create();
    let path = scratch.path().join("qsd");
    let listener = UnixListener::bind(&path).expect("the path is free");
    // The daemon connects to this socket, so the test need not wait for a socket of the daemon.
    let mut daemon = Command::new("qemu-storage-daemon");
    daemon.arg("--chardev").arg(format!("socket,id=mon,path={}", path.display())).args(["--monitor", "chardev=mon"]);
    let mut daemon = Storage(daemon.stdin(Stdio::null()).spawn().expect("qemu-storage-daemon is installed"));
    let socket = listener.accept().expect("the peer connects").0;
    let mut machine = attach::<H>(Peer::Connected(descriptor(socket)), LONG).expect("the peer greets");
    let node = json!({"driver": "null-co", "node-name": "disk", "size": 1024});
    machine.execute_with("blockdev-add", node).expect("the daemon supports it");
    let nodes = machine.execute("query-named-block-nodes", LONG).expect("the monitor answers");
    assert_eq!(nodes[0]["node-name"], "disk");
    machine
        .execute_with("nbd-server-start", json!({"addr": {"type": "unix", "data": {"path": "/nowhere/at/all"}}}))
        .expect_err("there is no such directory");
    let outcome = machine.shutdown(Shutdown::default()).expect("the machine was launched");
    // The storage daemon sends no SHUTDOWN (measured with QEMU 7.2.22).
    assert_eq!((outcome.cause, outcome.last_events.len()), (Cause::Asked(Rung::Quit), 0));
    assert!(daemon.0.wait().expect("it is our child").success());
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            row_32_attach_command_and_disconnect
            g28_an_end_by_another_client_is_not_the_callers
            row_32_attach_and_end
            g06_an_absent_a_busy_and_a_dead_monitor_are_different_errors
            g06_a_waiting_client_is_served_in_turn
            g06_a_full_backlog_is_waited_for
            row_32_by_tcp_and_by_a_connected_socket
            row_32_as_listener
            row_32_an_attach_waits_for_a_listener
            g37_a_stranger_that_dials_a_listening_machine_does_not_end_the_attach
            row_32_the_storage_daemon
        }
    };
}

rows!(stories);
