//! Command line of the shell: its options, its `--help`, and the addresses and files that it names.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qemu_machine_blocking::core::COMMAND_WITHIN;
use qemu_machine_blocking::{Address, Deadline};

use crate::mode::Mode;
use crate::record::Files;
use crate::show::{Escapes, printable};

/// The text of `--help`.
pub(crate) const HELP: &str = "\
A shell for QMP, the monitor protocol of QEMU.

    qmpsh [OPTIONS] PATH|@NAME|HOST:PORT [COMMAND...]
    qmpsh [OPTIONS] [COMMAND...] -- QEMU [ARGUMENTS...]
    qmpsh --agent [OPTIONS] PATH|@NAME|HOST:PORT [COMMAND...]
    qmpsh --list

The first form attaches to a monitor (`-qmp unix:PATH,server=on,wait=off`), by default to the one in $QMP_SOCKET. The
second form launches the QEMU after `--` and ends it when the shell ends. That QEMU has no window unless its arguments
request one (`-display gtk -vga std`). The third form attaches to the socket of a guest agent (qemu-ga). The last form
lists the machines of this user that outlive the programs that launched them: their names, process ids, monitors to
attach to, and whether a program uses one (in use), has left it, or it has ended. With --compact it prints a JSON object
for each, with the identity that resumes it.

Without a COMMAND, qmpsh reads lines: at a prompt on a terminal, and otherwise from standard input, up to the first line
that fails. A COMMAND is a name with arguments NAME=VALUE. Each value is converted to the type that QEMU's schema has
for the argument:

    blockdev-add driver=null-co node-name=disk size=1G read-only=on
    blockdev-add driver=raw node-name=top file.driver=file file.filename='/images/my disk'
    set-action panic=pause
    transaction actions=[{\"type\": \"abort\", \"data\": {}}]

A COMMAND can also be a JSON object, {\"execute\": ...}, `hmp` and a line for the human monitor (HMP), or `agent` and a
command for the guest agent. A line continues after a backslash at its end, and so does `transaction(`: a line for each
action follows, and `)`. In a script, `exit N` ends the shell with exit code N, `quit N` ends QEMU before, and `exit`
alone ends it with the exit code of the last command.

Options:
    -H, --hmp            lines are commands of the human monitor (HMP)
    -a, --agent          the address is that of a guest agent, and lines are commands for it
        --agent-at ADDR  the address of the guest agent of the machine, for lines that begin with `agent`
    -f, --file FILE      read the lines from FILE
    -p, --pretty         print each member of a reply on its own line
    -c, --compact        print a reply on one line, for programs
    -t, --timeout SECS   the time that a reply may take [default: 60]
        --raw            print what QEMU and the guest wrote as it is, also to a terminal
    -k, --keep-going     do not stop at the first line that fails
    -v, --verbose        log each message to standard error, from the first command on: its time (UTC), `>` for sent or
                         `<` for received, and its text, with the characters escaped that could control a terminal.
                         Secrets are in it, too. The greeting, the negotiation and the query of the schema precede the
                         log, and messages of --agent-at are not in it; --record has the former
        --no-events      show no events at the prompt
        --history FILE   the file for the history of lines
                         [default: qmpsh/history, history-hmp or history-agent in $XDG_STATE_HOME or ~/.local/state]
        --no-history     do not save the history
        --record FILE    record the session to a file that replays, for a bug report. The values of `password`,
                         `proxy-password` and `data` are redacted; secrets in `hmp` lines are not
        --report FILE    write the record as a page of HTML, which a browser shows: the commands and events on a time
                         axis, and all lines. The same values are redacted
    -l, --list           list the machines that outlive their programs
    -h, --help           print this help
    -V, --version        print the version

Lines that begin with a blank, and lines that contain `password`, `passwd` or `secret`, are never added to the
history.

Replies go to standard output, errors to standard error. On a terminal, characters that could control it are escaped:
in JSON as \\u001b, and in other text as \\u{1b}. In an error they always are. Exit codes:
    0  all commands succeeded
    1  QEMU refused a command, or does not have the command or an argument of it
    2  the command line or a line is not valid
    3  the shell could not connect, or could not launch QEMU
    4  a reply did not come, or a reply, the record or the report could not be written
    128 + N  signal N ended the shell";

/// The options of one call.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) whom: Whom,
    /// The words of the command; empty if lines are read instead.
    pub(crate) command: Vec<String>,
    pub(crate) mode: Mode,
    /// The address of the agent of the machine. `None` means that lines cannot begin with `agent`.
    pub(crate) agent_at: Option<OsString>,
    /// The file with the lines of a script. `None` means standard input.
    pub(crate) file: Option<PathBuf>,
    /// `None` means: by width at the prompt, compact in scripts.
    pub(crate) layout: Option<crate::show::Layout>,
    pub(crate) timeout: Deadline,
    pub(crate) keep_going: bool,
    /// Whether each message is logged to standard error.
    pub(crate) verbose: bool,
    /// Whether replies, events and the output of QEMU are printed as they are, also to a terminal.
    pub(crate) raw: bool,
    pub(crate) events: bool,
    pub(crate) history: History,
    /// The files for the record. Without one, nothing is recorded.
    pub(crate) files: Files,
}

/// The QEMU to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// A monitor to attach to, as PATH, @NAME or HOST:PORT.
    Monitor(OsString),
    /// A guest agent to attach to, at an address of the same forms.
    Agent(OsString),
    /// A QEMU to launch: the program and its arguments.
    Launched(Vec<OsString>),
}

/// The place of the line history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// In a file of the mode in `qmpsh` below `$XDG_STATE_HOME` or `~/.local/state`.
    Default,
    /// In this file.
    In(PathBuf),
    /// In memory only.
    Nowhere,
}

/// The kind of a call.
#[derive(Debug)]
pub(crate) enum Call {
    Run(Box<Options>),
    /// The list of machines, in this layout.
    List(Option<crate::show::Layout>),
    Help,
    Version,
}

impl Options {
    /// Reports whether lines are read at a prompt.
    pub(crate) fn is_at_terminal(&self) -> bool {
        let is_script = !self.command.is_empty() || self.file.is_some();
        !is_script && io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Returns the file of the history; `None` means that it is not saved: by request, or because there is no home.
    pub(crate) fn history_file(&self) -> Option<PathBuf> {
        let from = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        match &self.history {
            History::Nowhere => None,
            History::In(path) => Some(path.clone()),
            History::Default => {
                let state = from("XDG_STATE_HOME").or_else(|| Some(from("HOME")?.join(".local/state")))?;
                Some(state.join("qmpsh").join(self.mode.history()))
            }
        }
    }

    /// Returns how texts of QEMU are printed at the prompt, which is on a terminal.
    pub(crate) fn escapes_at_prompt(&self) -> Escapes {
        if self.raw { Escapes::Never } else { Escapes::ForTerminal }
    }
}

/// Returns the options of a call that has none.
fn defaults() -> Options {
    Options {
        whom: Whom::Launched(Vec::new()),
        command: Vec::new(),
        mode: Mode::Qmp,
        agent_at: None,
        file: None,
        layout: None,
        timeout: COMMAND_WITHIN,
        keep_going: false,
        verbose: false,
        raw: false,
        events: true,
        history: History::Default,
        files: Files::default(),
    }
}

/// Reads the arguments. Everything after `--` belongs to QEMU. The first word that is not an option is the monitor, or
/// with `--` the command; all words after it belong to the command.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Call, lexopt::Error> {
    use lexopt::prelude::*;

    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let dashes = arguments.iter().position(|argument| argument == "--");
    let launched = dashes.map(|at| arguments.drain(at..).skip(1).collect::<Vec<_>>());
    let mut options = defaults();
    let (mut words, mut is_list): (Vec<OsString>, bool) = (Vec::new(), false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Call::Help),
            Short('V') | Long("version") => return Ok(Call::Version),
            Short('l') | Long("list") => is_list = true,
            Short('H') | Long("hmp") => options.mode = other_than(options.mode, Mode::Human)?,
            Short('a') | Long("agent") => options.mode = other_than(options.mode, Mode::Agent)?,
            Long("agent-at") => options.agent_at = Some(parser.value()?),
            Short('f') | Long("file") => options.file = Some(parser.value()?.into()),
            Short('p') | Long("pretty") => options.layout = Some(crate::show::Layout::Pretty),
            Short('c') | Long("compact") => options.layout = Some(crate::show::Layout::Compact),
            Short('t') | Long("timeout") => options.timeout = seconds(&parser.value()?)?,
            Short('k') | Long("keep-going") => options.keep_going = true,
            Short('v') | Long("verbose") => options.verbose = true,
            Long("raw") => options.raw = true,
            Long("no-events") => options.events = false,
            Long("history") => options.history = History::In(parser.value()?.into()),
            Long("no-history") => options.history = History::Nowhere,
            Long("record") => options.files.record = Some(parser.value()?.into()),
            Long("report") => options.files.report = Some(parser.value()?.into()),
            Value(word) => {
                words.push(word);
                words.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected()),
        }
    }
    if is_list {
        return match words.first() {
            Some(word) => Err(Value(word.clone()).unexpected()),
            None => Ok(Call::List(options.layout)),
        };
    }
    options.whom = whom(options.mode, launched, &mut words)?;
    options.command = words.into_iter().map(ValueExt::string).collect::<Result<_, _>>()?;
    check_pairs(&options)?;
    Ok(Call::Run(Box::new(options)))
}

/// Returns the mode that an option selects, unless another one selected another mode.
fn other_than(selected: Mode, mode: Mode) -> Result<Mode, lexopt::Error> {
    if selected == Mode::Qmp || selected == mode {
        Ok(mode)
    } else {
        Err("`--hmp` and `--agent` exclude each other".into())
    }
}

/// Refuses options of which one would be ignored. With `--agent` and `--agent-at` there would be two agents, and a command
/// for one could reach the other.
fn check_pairs(options: &Options) -> Result<(), lexopt::Error> {
    match options.mode {
        Mode::Agent if options.agent_at.is_some() => return Err("`--agent` and `--agent-at` exclude each other".into()),
        Mode::Human if options.agent_at.is_some() => {
            return Err("`--hmp` and `--agent-at` exclude each other: each line is for the human monitor".into());
        }
        _ => {}
    }
    if options.file.is_some() && !options.command.is_empty() {
        return Err("`--file` and a COMMAND exclude each other".into());
    }
    Ok(())
}

fn whom(mode: Mode, launched: Option<Vec<OsString>>, words: &mut Vec<OsString>) -> Result<Whom, lexopt::Error> {
    // The variable of QEMU's `qmp-shell`.
    let variable = || std::env::var_os("QMP_SOCKET").filter(|address| !address.is_empty() && mode != Mode::Agent);
    let given = |words: &mut Vec<OsString>| if words.is_empty() { variable() } else { Some(words.remove(0)) };
    match launched {
        Some(_) if mode == Mode::Agent => Err("`--agent` needs the address of an agent, and launches no QEMU".into()),
        Some(launched) if launched.is_empty() => Err("the QEMU to launch is missing after `--`".into()),
        Some(launched) => Ok(Whom::Launched(launched)),
        None => match given(words) {
            Some(address) if mode == Mode::Agent => Ok(Whom::Agent(address)),
            Some(address) => Ok(Whom::Monitor(address)),
            None if mode == Mode::Agent => Err("no agent is given: pass PATH, @NAME or HOST:PORT".into()),
            None => Err("no monitor is given: pass PATH, @NAME, HOST:PORT, or `--` and a QEMU".into()),
        },
    }
}

fn seconds(text: &OsString) -> Result<Deadline, lexopt::Error> {
    let seconds = text.to_str().and_then(|text| text.parse::<f64>().ok());
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration = duration.ok_or_else(|| format!("`{}` is not a number of seconds", printable(text)))?;
    Ok(duration.into())
}

/// Returns the addresses of a monitor. An existing file, or a text with a slash, is a path. A text that begins with `@`
/// is an abstract socket. A text with a colon is a host with a port, which may resolve to several addresses.
///
/// # Errors
///
/// A message, if the host and port cannot be resolved.
pub(crate) fn addresses(monitor: &OsString) -> Result<Vec<Address>, String> {
    let is_path = Path::new(monitor).exists() || monitor.as_encoded_bytes().contains(&b'/');
    if let Some(name) = monitor.as_encoded_bytes().strip_prefix(b"@").filter(|_| !is_path) {
        return Ok(vec![Address::abstract_unix(name)]);
    }
    let host = monitor.to_str().filter(|text| !is_path && text.contains(':'));
    let Some(host) = host else { return Ok(vec![Address::unix(monitor.clone().into_vec())]) };
    let found: Vec<SocketAddr> =
        host.to_socket_addrs().map_err(|error| format!("{}: {error}", printable(host)))?.collect();
    Ok(found.into_iter().map(Address::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &str) -> Result<Options, String> {
        match read(arguments.split_whitespace().map(OsString::from)) {
            Ok(Call::Run(options)) => Ok(*options),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn words_after_the_monitor_are_the_command() {
        let options = options("-Hpv /run/mon info registers -a").unwrap();
        assert_eq!(options.whom, Whom::Monitor("/run/mon".into()));
        assert_eq!(options.command, ["info", "registers", "-a"]);
        assert!(options.verbose && options.mode == Mode::Human && options.layout == Some(crate::show::Layout::Pretty));
    }

    #[test]
    fn the_address_may_be_that_of_an_agent() {
        let given = options("-a /run/qga guest-ping").unwrap();
        assert_eq!((given.mode, given.whom), (Mode::Agent, Whom::Agent("/run/qga".into())));
        assert_eq!(given.command, ["guest-ping"]);
        let given = options("--agent-at /run/qga /run/mon agent guest-ping").unwrap();
        assert_eq!((given.agent_at, given.whom), (Some("/run/qga".into()), Whom::Monitor("/run/mon".into())));
    }

    #[test]
    fn words_after_the_dashes_are_qemu_and_its_arguments() {
        let options = options("-t 1.5 query-status -- qemu -M none -- -x").unwrap();
        assert_eq!(options.whom, Whom::Launched(["qemu", "-M", "none", "--", "-x"].map(OsString::from).to_vec()));
        assert_eq!(options.command, ["query-status"]);
        assert_eq!(options.timeout, Duration::from_millis(1500).into());
    }

    #[test]
    fn a_call_that_is_not_valid_is_an_error() {
        let wrong = [
            ("", "no monitor is given"),
            ("-k --", "the QEMU to launch is missing"),
            ("-x mon", "invalid option '-x'"),
            ("-t soon mon", "`soon` is not a number of seconds"),
            ("-t -1 mon", "`-1` is not a number of seconds"),
            ("--history", "missing argument"),
            ("-H -a agent", "exclude each other"),
            ("-a", "no agent is given"),
            ("-a -- qemu", "launches no QEMU"),
            ("-a --agent-at b a", "`--agent` and `--agent-at` exclude each other"),
            ("-H --agent-at b a", "`--hmp` and `--agent-at` exclude each other"),
            ("-f script mon stop", "`--file` and a COMMAND exclude each other"),
        ];
        for (arguments, part) in wrong {
            let error = options(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments}: {error}");
        }
        assert!(options("--help").unwrap_err().contains("Help"));
    }

    #[test]
    fn a_name_with_a_port_is_tcp_one_with_an_at_sign_abstract_and_any_other_a_path() {
        assert_eq!(addresses(&"127.0.0.1:4444".into()), Ok(vec![SocketAddr::from(([127, 0, 0, 1], 4444)).into()]));
        assert_eq!(addresses(&"[::1]:4".into()).map(|found| found.len()), Ok(1));
        assert_eq!(addresses(&"./a:1".into()), Ok(vec![Address::unix("./a:1")]));
        assert_eq!(addresses(&"monitor".into()), Ok(vec![Address::unix("monitor")]));
        assert_eq!(addresses(&"@vm:1".into()), Ok(vec![Address::abstract_unix("vm:1")]));
        assert!(addresses(&"127.0.0.1:none".into()).is_err());
    }

    #[test]
    fn the_history_is_saved_where_requested() {
        assert_eq!(options("--no-history mon").unwrap().history_file(), None);
        assert_eq!(options("--history here mon").unwrap().history_file(), Some("here".into()));
    }
}
