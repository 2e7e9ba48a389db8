//! Tests of the troubleshooting guide: each symptom is produced here, and its message must be the one that is quoted.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use qemu_machine_blocking::commands::{QuerySchema, QueryStatus};
use qemu_machine_blocking::procedure::{FollowJob, Unplug};
use qemu_machine_blocking::{
    Address, Agent, Config, Limits, Peer, Shutdown, Template, TemplateConfig, TemplateFileError, Vm, Wait, json,
    template_clone, template_source,
};
use qemu_machine_tests::leak_check::{Scratch, bytes, send, stop};
use qemu_machine_tests::scripted::{Action, Script};
use qemu_machine_tests::{bounded_by, qemu};
use rustix::process::Signal;

const GUIDE: &str = include_str!("../../runtime-blocking/docs/troubleshooting.md");
const SCRIPTED: &str = env!("CARGO_BIN_EXE_scripted-qemu");

/// Deadline of what must time out: what it waits for never comes.
const SHORT: Duration = Duration::from_millis(500);

/// Deadline of a command. The heartbeat is sent after half of it, and the rest is enough for a reply on a busy host.
const BUDGET: Duration = Duration::from_secs(2);

/// Deadline of all symptoms together: each takes at most two seconds, and a job that stays the ten of its clean-up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A heading of the guide, and a function that produces the message below it.
type Symptom = (&'static str, fn() -> String);

const SYMPTOMS: [Symptom; 29] = [
    ("launch failed: cannot execute", || launch(Config::new("no-such-qemu"))),
    ("launch failed: QEMU ended", || launch(config().args(["-device", "nonexistent"]))),
    ("launch failed: the deadline passed", || launch(Script::new().stall().config(SCRIPTED).launch_within(SHORT))),
    ("launch failed: the monitor broke the protocol", || {
        launch(Script::new().say("SSH-2.0-OpenSSH_9.2\r\n").stall().config(SCRIPTED))
    }),
    ("launch: the configuration is not valid", || launch(config().args(["-daemonize"]))),
    ("attach failed: no process listens there", || attach(&Scratch::create())),
    ("attach failed: the process that listened there is gone", || {
        let scratch = Scratch::create();
        drop(UnixListener::bind(scratch.path().join("qmp")));
        attach(&scratch)
    }),
    ("attach failed: the monitor is busy", busy),
    ("attach failed: the guest agent cannot be synchronised", unsynchronised),
    ("GenericError", || refused(("device_add", json!({"driver": "nonexistent"})))),
    ("CommandNotFound", || refused("query-statsu")),
    ("did you mean", || {
        let vm = up(config());
        let schema = vm.execute(QuerySchema).expect("QEMU returns its schema");
        ended(&vm, schema.check(&"query-statsu"))
    }),
    ("no reply within the deadline: busy", || out_of_time(|_| {})),
    ("no reply within the deadline: stuck", || out_of_time(|vm| stop(vm.pid().expect("the process runs")))),
    ("the monitor was closed", || {
        let vm = up(Script::launched().hear().hang_up().stall().config(SCRIPTED));
        ended(&vm, vm.execute("query-status"))
    }),
    ("a message is longer than", || {
        let mut limits = Limits::default();
        limits.message = 4096;
        let vm = up(config().limits(limits));
        ended(&vm, vm.execute(QuerySchema))
    }),
    ("is not of the type that the command names", || {
        let script = Script::launched().hear().reply(r#"{"running":1,"status":"running"}"#).obey();
        let vm = up(script.config(SCRIPTED));
        ended(&vm, vm.execute(QueryStatus))
    }),
    ("no event comes", || {
        let vm = up(config());
        ended(&vm, vm.wait_any(&vm.mark(), [Wait::event("RESET")], SHORT))
    }),
    ("the machine ended first", || {
        let vm = up(config());
        send(vm.pid().expect("the process runs"), Signal::TERM);
        ended(&vm, vm.wait_any(&vm.mark(), [Wait::event("RESET")], PATIENCE))
    }),
    ("the machine has ended", || {
        let vm = up(config().serial("tty"));
        vm.kill().expect("the machine was launched");
        ended(&vm, vm.console_write("tty", "root\n"))
    }),
    ("SIGKILL was needed", || {
        let vm = up(Script::launched().then(Action::Immune).stall().config(SCRIPTED));
        vm.shutdown(Shutdown::within(SHORT)).expect("the machine was launched").to_string()
    }),
    ("a device does not go", || {
        let vm = up(Config::new(qemu()).args(["-S", "-nodefaults", "-device", "virtio-net-pci,id=net1"]));
        ended(&vm, vm.run(Unplug::device("net1"), SHORT))
    }),
    ("there is no job", || {
        let vm = up(config());
        ended(&vm, vm.run(FollowJob::named("mirror"), PATIENCE))
    }),
    ("something stays in QEMU", || {
        let vm = up(Script::launched().hear().reply("{}").hear().reply("{}").stall().config(SCRIPTED));
        ended(&vm, vm.run(FollowJob::of(&"blockdev-mirror", "copy"), SHORT))
    }),
    ("a snapshot was not loaded", unloaded),
    ("a template cannot have the device", || {
        let scratch = Scratch::create();
        let balloon = guest().args(["-device", "virtio-balloon-pci"]);
        refused_template(template_source(&TemplateConfig::new(balloon, scratch.path(), 32)))
    }),
    ("a file of a template is gone", || {
        let (scratch, template) = template();
        fs::remove_file(scratch.path().join("memory")).expect("it exists");
        refused_template(template_clone(&template))
    }),
    ("the clone has other devices than the template", || {
        let (_scratch, template) = template();
        let (config, load) = template_clone(&template).expect("the files exist");
        let vm = up(config.args(["-device", "virtio-net-pci,id=net1"]));
        ended(&vm, vm.run(load, PATIENCE))
    }),
    ("has saved the template, and the clone runs", || {
        let (_scratch, template) = template();
        let (_, load) = template_clone(&template).expect("the files exist");
        let other = r#"{"qemu": {"major": 99, "minor": 0, "micro": 1}, "package": ""}"#;
        let vm =
            up(Script::launched().hear().reply(other).hear().reply("[]").hear().reply("[]").obey().config(SCRIPTED));
        ended(&vm, vm.run(load, PATIENCE))
    }),
];

fn config() -> Config {
    Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-S"])
}

fn up(config: Config) -> Vm {
    Vm::launch(config).unwrap_or_else(|error| panic!("{error}"))
}

fn launch(config: Config) -> String {
    Vm::launch(config).expect_err("the launch fails").to_string()
}

/// Returns the text of an error, and ends the machine.
fn ended<T>(vm: &Vm, said: Result<T, impl ToString>) -> String {
    let said = said.err().expect("this fails").to_string();
    vm.kill().expect("the machine was launched");
    said
}

fn refused<C: qemu_machine_blocking::Command>(command: C) -> String {
    let vm = up(config());
    ended(&vm, vm.execute(command))
}

fn attach(to: &Scratch) -> String {
    let peer = Peer::Dial(Address::unix(bytes(&to.path().join("qmp"))));
    Vm::attach(peer, SHORT).expect_err("the attach fails").to_string()
}

/// Attaches to a monitor that has a client.
fn busy() -> String {
    let scratch = Scratch::create();
    let monitor = format!("unix:{},server=on,wait=off", scratch.path().join("qmp").display());
    let vm = up(config().args(["-qmp", &monitor]));
    let peer = || Peer::Dial(Address::unix(bytes(&scratch.path().join("qmp"))));
    let first = Vm::attach(peer(), PATIENCE).expect("the first one is served");
    let said = attach(&scratch);
    first.disconnect().expect("the machine is not ours");
    vm.kill().expect("the machine was launched");
    said
}

/// Attaches to a guest agent that refuses each command.
fn unsynchronised() -> String {
    const REFUSAL: &[u8] =
        br#"{"error": {"class": "CommandNotFound", "desc": "Command guest-sync has been disabled"}}"#;
    let scratch = Scratch::create();
    let path = scratch.path().join("agent");
    let listener = UnixListener::bind(&path).expect("the directory is new");
    let agent = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("the client connects");
        while client.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {
            // The client may have left.
            let _ = client.write_all(&[REFUSAL, b"\n"].concat());
        }
    });
    let said = Agent::attach(Peer::Dial(Address::unix(bytes(&path))), PATIENCE).expect_err("the agent refuses");
    agent.join().expect("the agent ends with its client");
    said.to_string()
}

/// A machine with devices, without its memory.
fn guest() -> Config {
    Config::new(qemu()).args(["-nodefaults", "-accel", "tcg"])
}

/// Saves a template in a directory of its own.
fn template() -> (Scratch, Template) {
    let scratch = Scratch::create();
    let (config, save) =
        template_source(&TemplateConfig::new(guest(), scratch.path(), 32)).expect("the directory is empty");
    let template = up(config).run(save, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    (scratch, template)
}

fn refused_template<T>(said: Result<T, TemplateFileError>) -> String {
    said.err().expect("this fails").to_string()
}

/// Loads a snapshot that does not exist.
fn unloaded() -> String {
    let scratch = Scratch::create();
    let disk = scratch.path().join("disk.qcow2");
    let created = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("1M").status();
    assert!(created.is_ok_and(|status| status.success()));
    let disk = format!("driver=qcow2,node-name=disk,file.driver=file,file.filename={}", disk.display());
    let vm = up(Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-blockdev", &disk]));
    let load = ("snapshot-load", json!({"job-id": "load", "tag": "boot", "vmstate": "disk", "devices": ["disk"]}));
    ended(&vm, vm.run(FollowJob::of(&load, "load"), PATIENCE))
}

/// Executes a command that blocks QEMU: it opens a FIFO that has no writer (`fifo(7)`).
fn out_of_time(also: impl FnOnce(&Vm)) -> String {
    let scratch = Scratch::create();
    let fifo = scratch.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.is_ok_and(|status| status.success()));
    let vm = up(config());
    also(&vm);
    let node = json!({"driver": "blkdebug", "image": {"driver": "null-co"}, "config": fifo.to_str(), "node-name": "x"});
    ended(&vm, vm.execute_by(("blockdev-add", node), BUDGET))
}

/// Returns the headings of the guide, each with the lines that are quoted below it.
fn quoted() -> Vec<(&'static str, Vec<&'static str>)> {
    let sections = GUIDE.split("\n## ").skip(1);
    let quoted = sections.filter_map(|section| {
        let (heading, rest) = section.split_once('\n')?;
        let (_, block) = rest.split_once("```text\n")?;
        Some((heading, block.split_once("\n```")?.0.lines().collect()))
    });
    quoted.collect()
}

/// Returns whether a line matches a quoted one, in which `…` stands for any text.
fn is_line(line: &str, quoted: &str) -> bool {
    let Some((begin, rest)) = quoted.split_once('…') else { return line == quoted };
    let Some(mut line) = line.strip_prefix(begin) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = line.find(part) else { return false };
        line = &line[at + part.len()..];
    }
    line.ends_with(end)
}

#[test]
fn the_guide_quotes_the_real_messages() {
    bounded_by(PATIENCE, || {
        let guide = quoted();
        let mut wrong = String::new();
        for (heading, symptom) in SYMPTOMS {
            let said = symptom();
            let lines: Vec<&str> = said.lines().collect();
            let quoted = guide.iter().find(|(other, _)| other.trim_matches('`') == heading).map(|(_, lines)| &**lines);
            let is_right = quoted.is_some_and(|quoted| {
                lines.len() == quoted.len() && lines.iter().zip(quoted).all(|(line, quoted)| is_line(line, quoted))
            });
            if !is_right {
                wrong += &format!("## {heading}\n{said}\nand the guide quotes {quoted:#?}\n\n");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    });
}

#[test]
fn each_quoted_message_has_a_symptom() {
    let quoted = quoted();
    let unknown: Vec<_> = quoted
        .iter()
        .map(|(heading, _)| heading.trim_matches('`'))
        .filter(|heading| SYMPTOMS.iter().all(|(known, _)| known != heading))
        .collect();
    assert!(unknown.is_empty(), "no symptom produces these: {unknown:?}");
}
