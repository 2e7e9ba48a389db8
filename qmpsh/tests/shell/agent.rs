//! Tests of the shell with a guest agent: a real qemu-ga on this host. No test executes a command that changes the host.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command};

use qemu_machine_tests::leak_check::{Scratch, leaving_nothing};
use qemu_machine_tests::linux::agent_program;

use super::Monitored;
use super::in_scripts::{bad, good, run};
use super::terminal::Terminal;

/// Commands that change the host, which the agent refuses.
const REFUSED: &str = "guest-shutdown,guest-suspend-disk,guest-suspend-ram,guest-suspend-hybrid,guest-fsfreeze-freeze,\
    guest-fsfreeze-freeze-list,guest-fstrim,guest-set-time,guest-set-user-password,guest-set-vcpus,\
    guest-set-memory-blocks,guest-ssh-add-authorized-keys,guest-ssh-remove-authorized-keys";

/// A running agent, killed when dropped.
pub(crate) struct Agent {
    process: Child,
    _scratch: Scratch,
    pub(crate) address: String,
}

impl Agent {
    /// Starts an agent on a socket that is open already, so that the test need not wait for it: as descriptor 3, by the
    /// protocol of systemd (`sd_listen_fds(3)`).
    pub(crate) fn start() -> Self {
        const GIVEN: &str = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 0</dev/null";
        let scratch = Scratch::create();
        let [socket, log] = ["socket", "log"].map(|name| scratch.path().join(name));
        let server = UnixListener::bind(&socket).unwrap();
        // The agent ends with the thread of the test, also when `drop` does not run.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", GIVEN, "sh"]);
        command.arg(agent_program(env!("CARGO_TARGET_TMPDIR"))).args(["--method", "unix-listen", "-b", REFUSED]);
        command.arg("--path").arg(&socket).arg("--statedir").arg(scratch.path()).arg("--logfile").arg(log);
        let process = command.stdin(OwnedFd::from(server)).spawn().expect("setpriv, of util-linux");
        let address = socket.to_str().unwrap().to_owned();
        Self { process, _scratch: scratch, address }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // This fails only if the agent has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn row_37_an_agent_answers_commands_and_scripts() {
    leaving_nothing(|_| {
        let agent = Agent::start();
        let ask = |words: &[&str], lines: &str| run(&[&["--agent", &agent.address], words].concat(), lines);
        assert_eq!(ask(&["guest-ping"], ""), good("{}\n"));
        assert_eq!(ask(&["guest-sync", "id=42"], ""), good("42\n"));
        assert_eq!(ask(&[r#"{"execute": "guest-ping", "id": 7}"#], ""), good("{\"return\":{},\"id\":7}\n"));
        let lines = "guest-ping\n\n# a remark\nguest-sync \\\n id=5\nguest-no-such a=1\nguest-ping\n";
        let (code, printed, complained) = ask(&[], lines);
        assert_eq!((code, &*printed), (Some(1), "{}\n5\n"));
        assert!(complained.starts_with("qmpsh: stdin:6: guest-no-such a=1: CommandNotFound: "), "{complained}");
        let (code, _, complained) = ask(&["guest-shutdown"], "");
        assert!(code == Some(1) && complained.contains("has been disabled"), "{complained}");
        assert_eq!(
            ask(&["help", "guest-shutdown"], ""),
            good(
                "guest-shutdown: command of the guest agent; the agent's configuration disables it; the agent does not reply when it succeeds\n"
            )
        );
        assert_eq!(ask(&["exit", "3"], "").0, Some(3));
    });
}

#[test]
fn row_37_an_agent_has_a_prompt_with_completion_and_a_history() {
    leaving_nothing(|temporary| {
        let agent = Agent::start();
        let state = Scratch::create();
        let mut terminal = Terminal::begin(&["-a", &agent.address], state.path(), temporary);
        assert!(terminal.above(1).starts_with("qemu-ga ") && terminal.above(1).contains("TAB completes"));
        terminal.press("guest-pi\t");
        terminal.line_is("qga> guest-ping");
        terminal.enter("", "\n{}\n");
        terminal.press("guest-shut\t");
        terminal.line_is("qga> guest-shut");
        terminal.press("\x15");
        terminal.enter("help", "\n  guest-ping\n");
        terminal.press("\x1b[A\x1b[A");
        terminal.line_is("qga> guest-ping");
        terminal.press("\x15exit 2\r");
        assert_eq!(terminal.end().0.code(), Some(2));
        let history = state.path().join("qmpsh/history-agent");
        assert!(fs::read_to_string(&history).unwrap().contains("guest-ping"));
        assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!state.path().join("qmpsh/history").exists());
    });
}

/// The agent of a machine is asked beside its monitor, and the connection is made when it is needed.
#[test]
fn row_37_the_agent_of_a_machine_is_asked_beside_its_monitor() {
    leaving_nothing(|temporary| {
        let agent = Agent::start();
        let state = Scratch::create();
        let monitored = Monitored::launch(state.path());
        let monitor = monitored.path.to_str().unwrap();
        let arguments = ["--agent-at", &agent.address, monitor];
        assert_eq!(run(&[&arguments[..], &["agent", "guest-sync", "id=3"]].concat(), ""), good("3\n"));
        assert_eq!(
            run(&arguments, "query-name\nagent guest-ping\nagent {\"execute\": \"guest-ping\"}\n"),
            good("{}\n{}\n{}\n")
        );
        assert_eq!(
            run(&[monitor, "agent", "guest-ping"], ""),
            bad(2, "no agent is given: `--agent-at ADDRESS` names its socket")
        );
        assert_eq!(run(&["--agent-at", "/nonexistent", monitor, "query-name"], ""), good("{}\n"));
        assert_eq!(run(&["--agent-at", "/nonexistent", monitor, "agent", "guest-ping"], "").0, Some(3));

        let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
        terminal.enter("agent guest-ping", "\n{}\n");
        terminal.press("agent guest-pi\t");
        terminal.line_is("qmp> agent guest-ping");
        terminal.press("\x15\x04");
        assert!(terminal.end().0.success());
    });
}

/// Completion does not connect: the user waits for it.
#[test]
fn row_37_completion_asks_only_an_agent_that_is_connected() {
    leaving_nothing(|temporary| {
        let agent = Agent::start();
        let state = Scratch::create();
        let monitored = Monitored::launch(state.path());
        let address = agent.address.clone();
        let arguments = ["--agent-at", &address, monitored.path.to_str().unwrap()];
        let mut terminal = Terminal::begin(&arguments, state.path(), temporary);
        terminal.enter("agent guest-ping", "\n{}\n");
        drop(agent);
        fs::create_dir_all(std::path::Path::new(&address).parent().unwrap()).unwrap();
        let silent = UnixListener::bind(&address).unwrap();
        silent.set_nonblocking(true).unwrap();
        for typed in ["x", "y"] {
            terminal.press(&format!("\x15agent guest-pi\t{typed}"));
            terminal.line_is(&format!("qmp> agent guest-pi{typed}"));
        }
        assert_eq!(silent.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        fs::remove_dir_all(std::path::Path::new(&address).parent().unwrap()).unwrap();
        terminal.press("\x15\x04");
        assert!(terminal.end().0.success());
    });
}

/// An agent that ends ends the prompt.
#[test]
fn row_37_the_prompt_ends_with_the_agent() {
    leaving_nothing(|temporary| {
        let agent = Agent::start();
        let state = Scratch::create();
        let mut terminal = Terminal::begin(&["-a", "--no-history", &agent.address], state.path(), temporary);
        terminal.enter("guest-ping", "\n{}\n");
        drop(agent);
        let (status, screen) = terminal.end();
        assert!(status.success() && screen.contains("agent: "), "{status}: {screen}");
    });
}
