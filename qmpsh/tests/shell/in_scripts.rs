//! Tests of the shell in scripts: its standard output, its standard error and its exit codes.

use std::fs::{self, Metadata, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use qemu_machine_blocking::record::Record;
use qemu_machine_blocking::{Cause, Config, Presence, State, Value, Vm, registered};
use qemu_machine_tests::leak_check::{Scratch, leaving_nothing, send};
use qemu_machine_tests::{PATIENCE, qemu};
use rustix::process::Signal;

use super::{Monitored, SHELL, not_private, shell};

/// The end of a shell: exit code, standard output, standard error.
pub(crate) type Ended = (Option<i32>, String, String);

fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs a shell to its end, with lines on its standard input.
pub(crate) fn run(arguments: &[&str], lines: &str) -> Ended {
    let scratch = Scratch::create();
    let mut command = shell(SHELL, scratch.path(), scratch.path());
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // This fails if the shell ended without reading its lines.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!(scratch.entries(), [""; 0], "{ended:?}");
    ended
}

/// Runs a shell that launches a QEMU.
pub(crate) fn launch(arguments: &[&str], lines: &str) -> Ended {
    run(&[arguments, &["--", qemu(), "-M", "none"]].concat(), lines)
}

pub(crate) fn good(printed: &str) -> Ended {
    (Some(0), printed.into(), String::new())
}

pub(crate) fn bad(code: i32, complained: &str) -> Ended {
    (Some(code), String::new(), format!("qmpsh: {complained}\n"))
}

#[test]
fn a_command_is_answered_with_json() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let monitored = Monitored::launch(scratch.path());
        let monitor = monitored.path.to_str().unwrap();
        let uuid = r#"{"UUID":"00000000-0000-0000-0000-000000000000"}"#;
        assert_eq!(run(&[monitor, "query-uuid"], ""), good(&format!("{uuid}\n")));
        let pretty = "{\n  \"UUID\": \"00000000-0000-0000-0000-000000000000\"\n}\n";
        assert_eq!(run(&["--pretty", monitor, "query-uuid"], ""), good(pretty));
        assert_eq!(run(&[monitor, r#"{"execute": "query-uuid"}"#], ""), good(&format!("{uuid}\n")));
        assert_eq!(run(&["--hmp", monitor, "info", "status"], ""), good("VM status: running\n"));
        assert_eq!(run(&[monitor, "human-monitor-command", "command-line=info status"], "").0, Some(0));
        let unknown = bad(1, "unknown command: 'no-such'");
        assert_eq!(run(&["--hmp", monitor, "no-such"], ""), unknown, "HMP reports errors as text");
        // The shell disconnects from a QEMU that it did not launch, and does not end it.
        assert!(monitored.vm.execute("query-status").is_ok());
    });
}

#[test]
fn a_monitor_is_reached_over_tcp() {
    leaving_nothing(|_| {
        let config = Config::new(qemu()).args(["-M", "none", "-qmp", "tcp:127.0.0.1:0,server=on,wait=off"]);
        let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
        let all = vm.execute("query-chardev").unwrap();
        let name = |chardev: &Value| chardev["filename"].as_str().map(str::to_owned);
        let names: Vec<_> = all.as_array().into_iter().flatten().filter_map(name).collect();
        let address = names.iter().find_map(|name| name.strip_prefix("disconnected:tcp:")?.split(',').next());
        let address = address.unwrap_or_else(|| panic!("{names:?}"));
        assert_eq!(run(&[address, "query-name"], ""), good("{}\n"));
    });
}

#[test]
fn g28_a_quit_in_the_shell_is_not_that_of_the_program() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let monitored = Monitored::launch(scratch.path());
        let monitor = monitored.path.to_str().unwrap();
        assert_eq!(run(&[monitor], "stop\nquery-status\nquit\n").0, Some(0));
        assert_eq!(monitored.vm.wait(PATIENCE).unwrap().cause, Cause::QuitByOther);
        assert_eq!(scratch.entries(), [""; 0]);
    });
}

#[test]
fn the_exit_code_shows_the_kind_of_failure() {
    leaving_nothing(|_| {
        assert_eq!(launch(&["device_del", "id=x"], ""), bad(1, "DeviceNotFound: Device 'x' not found"));
        let unknown = bad(1, "`qeury-uuid`: no such command; did you mean `query-uuid`?");
        assert_eq!(launch(&["qeury-uuid"], ""), unknown);
        assert_eq!(launch(&[r#"{"execute": "no-such"}"#], "").0, Some(1));
        assert_eq!(launch(&["device_del", "x"], ""), bad(2, "`x`: an argument is written as NAME=VALUE"));
        assert_eq!(launch(&["--no-such"], "").0, Some(2));
        assert_eq!(launch(&[r#"{"execute": }"#], "").0, Some(2));
        assert_eq!(run(&["/nonexistent/monitor", "query-status"], "").0, Some(3));
        assert_eq!(run(&["query-status", "--", qemu(), "-nonsense"], "").0, Some(3));
        let gone = launch(&[], "quit\nquery-uuid\n");
        let closed = "qmpsh: stdin:2: query-uuid: the monitor was closed before the command was sent\n";
        assert_eq!(gone, (Some(4), "{}\n".into(), closed.into()));
    });
}

#[test]
fn lines_are_executed_up_to_the_first_that_fails() {
    leaving_nothing(|_| {
        let lines = "# a remark\n\nquery-name\nhmp info status\n{\"execute\":\n  \"query-name\"}\nno-such\nstop\n";
        let (code, printed, complained) = launch(&[], lines);
        assert_eq!((code, &*printed), (Some(1), "{}\nVM status: running\n{}\n"));
        assert_eq!(complained, "qmpsh: stdin:7: no-such: `no-such`: no such command\n");
    });
}

#[test]
fn keep_going_executes_the_lines_after_a_failure() {
    leaving_nothing(|_| {
        let (code, printed, complained) = launch(&["--keep-going"], "no-such\nquery-name\nstop x\nquery-name");
        assert_eq!((code, &*printed), (Some(1), "{}\n{}\n"));
        assert_eq!(complained.lines().count(), 2, "{complained}");
    });
}

#[test]
fn the_end_of_input_exit_and_quit_end_the_shell() {
    leaving_nothing(|_| {
        assert_eq!(launch(&[], ""), good(""));
        assert_eq!(launch(&[], "exit\nno-such\n"), good(""));
        assert_eq!(launch(&[], "query-name\nquit\n"), good("{}\n{}\n"));
        assert_eq!(launch(&["-H"], "quit\n"), good(""), "QEMU may be gone before it replies");
        let open = "not complete: a quote, a bracket or a transaction is not closed, or `\\` is last";
        assert_eq!(launch(&[], "set-action panic='a"), bad(2, &format!("stdin:1: set-action panic='a: {open}")));
    });
}

#[test]
fn a_signal_ends_the_qemu_that_was_launched() {
    leaving_nothing(|temporary| {
        let mut command = shell(SHELL, temporary, temporary);
        command.args(["--", qemu(), "-M", "none"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Standard input stays open, so that its end does not end the shell.
        let mut lines = child.stdin.take().unwrap();
        lines.write_all(b"query-name\n").unwrap();
        let mut reply = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut reply).unwrap();
        assert_eq!(reply, "{}\n");
        send(child.id(), Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
        drop(lines);
    });
}

/// As `nohup` does: without it, the hang-up of a terminal would end the shell.
#[test]
fn a_signal_that_the_shell_was_started_to_ignore_does_not_end_it() {
    leaving_nothing(|temporary| {
        let mut command = shell("sh", temporary, temporary);
        command.args(["-c", "trap '' HUP; exec \"$@\"", "sh", SHELL, "--", qemu(), "-M", "none"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = child.stdin.take().unwrap();
        lines.write_all(b"query-name\n").unwrap();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
        send(child.id(), Signal::HUP);
        drop(lines);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn help_needs_no_qemu() {
    leaving_nothing(|_| {
        let (code, printed, _) = run(&["--help"], "");
        assert_eq!(code, Some(0));
        assert!(printed.contains("Exit codes:\n    0  all commands succeeded\n"), "{printed}");
        assert_eq!(run(&["--version"], ""), good(concat!("qmpsh ", env!("CARGO_PKG_VERSION"), "\n")));
        assert_eq!(run(&[], "").0, Some(2));
    });
}

/// The record replays and has no password in it. A failed launch is recorded, too.
#[test]
fn a_record_replays_and_has_no_secrets() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let file = scratch.path().join("record.jsonl");
        let (option, file_name) = ("--record", file.to_str().unwrap());
        let lines = "object-add qom-type=secret id=s data=hunter22\nquery-uuid\n";
        assert_eq!(launch(&[option, file_name], lines).0, Some(0));
        let text = fs::read_to_string(&file).unwrap();
        let record: Record = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert!(text.contains("object-add") && text.contains("query-uuid") && !text.contains("hunter22"), "{text}");
        assert_eq!(record.replay().map(|machine| machine.state()), Ok(State::Ended));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let failed = run(&[option, file_name, "--", qemu(), "-M", "no-such-machine"], "");
        assert_eq!(failed.0, Some(3));
        let record: Record = fs::read_to_string(&file).unwrap().parse().unwrap_or_else(|error| panic!("{error}"));
        assert!(record.timeline().to_string().contains("unsupported machine type"), "{}", record.timeline());

        let nowhere = launch(&[option, "/no/such/directory/file", "query-uuid"], "");
        assert_eq!((nowhere.0, nowhere.2.contains("/no/such/directory/file: No such file")), (Some(2), true));
    });
}

/// The page is of the same session as the record, without its secrets. A failed launch has a page, too.
#[test]
fn a_report_is_a_page_without_secrets() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let [page, record] = ["page.html", "record.jsonl"].map(|name| scratch.path().join(name));
        let [page_name, record_name] = [&page, &record].map(|path| path.to_str().unwrap());
        fs::write(&page, "before").unwrap();
        fs::set_permissions(&page, Permissions::from_mode(0o644)).unwrap();
        let lines = "object-add qom-type=secret id=s data=hunter22\nquery-uuid\n";
        assert_eq!(launch(&["--report", page_name, "--record", record_name], lines).0, Some(0));
        assert!(fs::read_to_string(&record).unwrap().parse::<Record>().is_ok());
        let text = fs::read_to_string(&page).unwrap();
        assert!(text.starts_with("<!DOCTYPE html>") && text.trim_end().ends_with("</html>"));
        assert!(text.contains("object-add") && text.contains("query-uuid") && !text.contains("hunter22"));
        assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
        // QEMU dies under the shell: the page has its end.
        let (code, _, complained) = launch(&["--report", page_name], "{\"execute\": \"quit\"}\nquery-uuid\n");
        assert_eq!(code, Some(4), "{complained}");
        assert!(fs::read_to_string(&page).unwrap().contains("quit"));

        let failed = run(&["--report", page_name, "--", qemu(), "-M", "no-such-machine"], "");
        assert_eq!(failed.0, Some(3));
        assert!(fs::read_to_string(&page).unwrap().contains("unsupported machine type"));

        let nowhere = launch(&["--report", "/no/such/directory/file", "query-uuid"], "");
        assert_eq!((nowhere.0, nowhere.2.contains("--report /no/such/directory/file: No such file")), (Some(2), true));
        let other = format!("{}/./page.html", scratch.path().display());
        let same = bad(2, &format!("--record and --report would write one file: {other}"));
        assert_eq!(launch(&["--record", page_name, "--report", &other, "query-uuid"], ""), same);
    });
}

/// A shell that waits for lines is ended by a signal: it writes its files before.
#[test]
fn the_record_and_the_report_of_an_interrupted_shell_are_written() {
    leaving_nothing(|temporary| {
        let scratch = Scratch::create();
        let monitored = Monitored::launch(scratch.path());
        let [page, record] = ["page.html", "record.jsonl"].map(|name| scratch.path().join(name));
        let attached = [monitored.path.to_str().unwrap()];
        for peer in [&["--", qemu(), "-M", "none"][..], &attached] {
            let mut command = shell(SHELL, temporary, temporary);
            command.arg("--record").arg(&record).arg("--report").arg(&page).args(peer);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // Standard input stays open, so that its end does not end the shell.
            let mut lines = child.stdin.take().unwrap();
            lines.write_all(b"query-uuid\n").unwrap();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
            send(child.id(), Signal::TERM);
            assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
            drop(lines);
            for file in [&page, &record] {
                assert!(fs::read_to_string(file).unwrap().contains("query-uuid"), "{peer:?}");
                fs::remove_file(file).unwrap();
            }
        }
        assert!(monitored.vm.execute("query-status").is_ok());
    });
}

/// A record takes the place of a file of this user. Other links to that file keep its content and mode.
#[test]
fn g38_a_record_replaces_a_file_of_its_owner() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let (file, link) = (scratch.path().join("record.jsonl"), scratch.path().join("link"));
        fs::write(&file, "before").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        fs::hard_link(&file, &link).unwrap();
        assert_eq!(launch(&["--record", file.to_str().unwrap()], "query-name\n").0, Some(0));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&link)), (0o600, 0o644));
        assert!(fs::read_to_string(&file).unwrap().contains("query-name"));
        assert_eq!(fs::read_to_string(&link).unwrap(), "before");
        assert_eq!(scratch.entries().len(), 2);
    });
}

/// Nothing is launched when the record would have to be written to something else, and that stays as it is.
#[test]
fn g38_a_record_replaces_nothing_else() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let each =
            not_private(&scratch).into_iter().flat_map(|each| ["--record", "--report"].map(|to| (each.clone(), to)));
        for ((path, words), option) in each {
            let before = fs::symlink_metadata(&path).unwrap();
            let (code, _, errors) = launch(&[option, path.to_str().unwrap()], "query-name\n");
            assert_eq!(code, Some(2), "{errors}");
            assert!(errors.contains(words), "{errors}");
            let after = fs::symlink_metadata(&path).unwrap();
            let of = |metadata: &Metadata| (metadata.ino(), metadata.mode(), metadata.len());
            assert_eq!(of(&after), of(&before), "{}", path.display());
        }
        assert_eq!(fs::read_to_string(scratch.path().join("target")).unwrap(), "of a link");
    });
}

/// Returns the line of the list for a process, with single spaces.
fn listed(pid: u32) -> Option<String> {
    let output = Command::new(SHELL).arg("--list").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|words| words.contains(&&*pid.to_string())).map(|words| words.join(" ")).next()
}

#[test]
fn machines_that_outlive_their_programs_are_listed() {
    leaving_nothing(|_| {
        let config = Config::new(qemu()).args(["-M", "none"]).name("left\n");
        let vm = Vm::launch(config.outlive_parent()).unwrap_or_else(|error| panic!("{error}"));
        let identity = vm.identity().unwrap();
        // The library lists what it is registering only when that is done, and the shell is another program.
        assert!(registered().unwrap().iter().any(|machine| machine.identity == identity));
        let line =
            |state: &str| Some(format!("left\\n {} {state} {}", identity.pid, identity.monitor.replace('\n', "\\n")));
        assert_eq!(listed(identity.pid), line("in use"));
        vm.detach().unwrap();
        drop(vm);
        assert!(registered().unwrap().iter().any(|machine| machine.presence == Presence::Left));
        assert_eq!(listed(identity.pid), line("left"));
        let compact = Command::new(SHELL).args(["--list", "--compact"]).output().unwrap();
        let objects = String::from_utf8(compact.stdout).unwrap();
        let objects: Vec<Value> = objects.lines().map(|line| line.parse().unwrap()).collect();
        let of_it = objects.iter().find(|object| object["identity"]["pid"] == identity.pid).unwrap();
        assert_eq!((&of_it["state"], &of_it["fault"]), (&Value::from("left"), &Value::Null));
        let (vm, _gap) = Vm::resume(identity.clone(), PATIENCE).unwrap_or_else(|error| panic!("{error}"));
        vm.kill().unwrap();
        assert_eq!(listed(identity.pid), None);
    });
}

/// What another user may have written is not read.
#[test]
fn a_registry_that_is_not_private_is_refused() {
    leaving_nothing(|_| {
        let scratch = Scratch::create();
        let list = || ended(Command::new(SHELL).arg("-l").env("XDG_RUNTIME_DIR", scratch.path()).output().unwrap());
        assert_eq!(list(), good("no machines\n"));
        let registry = scratch.path().join("qemu-machine");
        fs::create_dir(&registry).unwrap();
        fs::set_permissions(&registry, Permissions::from_mode(0o750)).unwrap();
        let (code, printed, complained) = list();
        assert_eq!((code, &*printed), (Some(4), ""));
        assert!(complained.contains("it is not a private directory of this user (mode 0700)"), "{complained}");
        fs::set_permissions(&registry, Permissions::from_mode(0o700)).unwrap();
        // A file that is no identity is not listed.
        fs::write(registry.join("1-1.json"), "{").unwrap();
        assert_eq!(list(), good("no machines\n"));
    });
}
