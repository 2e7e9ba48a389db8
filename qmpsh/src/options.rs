//! Decides how the program is called.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qemu_machine_blocking::core::COMMAND_WITHIN;
use qemu_machine_blocking::{Address, Deadline};

/// What `--help` says.
pub(crate) const HELP: &str = "\
A shell for QMP, the monitor of QEMU.

    qmpsh [OPTIONS] PATH|HOST:PORT [COMMAND...]
    qmpsh [OPTIONS] [COMMAND...] -- QEMU [ARGUMENTS...]

It attaches to a monitor (`-qmp unix:PATH,server=on,wait=off`), or launches the QEMU behind `--` and ends it with itself.
That QEMU has no window unless its arguments ask for one (`-display gtk -vga std`).

Without a COMMAND it reads lines: with a prompt on a terminal, and otherwise from standard input, up to the first that
fails. A COMMAND is a name with arguments NAME=VALUE, whose values become what QEMU's schema wants there:

    blockdev-add driver=null-co node-name=disk size=1G read-only=on
    blockdev-add driver=raw node-name=top file.driver=file file.filename='/images/my disk'
    set-action panic=pause
    transaction actions=[{\"type\": \"abort\", \"data\": {}}]

or it is an object as it goes over the wire, {\"execute\": ...}, or a line for the human monitor, behind `hmp`.

Options:
    -H, --hmp            lines are commands of the human monitor
    -p, --pretty         each member of a reply in a line of its own
    -c, --compact        a reply in one line, as it is for programs
    -t, --timeout SECS   how long a reply may take (60)
    -k, --keep-going     do not stop at the first line that fails
        --no-events      show no events at the prompt
        --history FILE   where the lines are remembered (qmpsh/history in $XDG_STATE_HOME or ~/.local/state)
        --no-history     remember none
        --record FILE    write all that was said to a file that replays, for a bug report. What stands behind `password`,
                         `proxy-password` or `data` is hidden; what `hmp` was told as words is not
    -h, --help
    -V, --version

Lines that begin with a blank, and lines with `password` or `secret` in them, are never remembered.

Replies go to standard output, errors to standard error. It exits with
    0  when all commands succeeded
    1  when QEMU refused one, or does not understand it: there is no such command, or not with such arguments
    2  when it was called in a wrong way, or a line is none
    3  when it could not connect, or could not launch QEMU
    4  when a reply did not come, or could not be printed
    128 and more when a signal ended it";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) whom: Whom,
    pub(crate) command: Vec<String>,
    pub(crate) hmp: bool,
    pub(crate) layout: Option<crate::show::Layout>,
    pub(crate) timeout: Deadline,
    pub(crate) keep_going: bool,
    pub(crate) events: bool,
    pub(crate) history: History,
    pub(crate) record: Option<PathBuf>,
}

/// Whom to speak with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Monitor(OsString),
    Launched(Vec<OsString>),
}

/// Where lines are remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum History {
    Default,
    In(PathBuf),
    Nowhere,
}

/// What the arguments are about.
#[derive(Debug)]
pub(crate) enum Call {
    Run(Box<Options>),
    Help,
    Version,
}

/// Reads the arguments. What is behind `--` is QEMU's; what is behind the first word that is no option is the command.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Call, lexopt::Error> {
    use lexopt::prelude::*;

    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let dashes = arguments.iter().position(|argument| argument == "--");
    let launched = dashes.map(|at| arguments.drain(at..).skip(1).collect::<Vec<_>>());
    let mut options = Options {
        whom: Whom::Launched(Vec::new()),
        command: Vec::new(),
        hmp: false,
        layout: None,
        timeout: COMMAND_WITHIN,
        keep_going: false,
        events: true,
        history: History::Default,
        record: None,
    };
    let mut words: Vec<OsString> = Vec::new();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Call::Help),
            Short('V') | Long("version") => return Ok(Call::Version),
            Short('H') | Long("hmp") => options.hmp = true,
            Short('p') | Long("pretty") => options.layout = Some(crate::show::Layout::Pretty),
            Short('c') | Long("compact") => options.layout = Some(crate::show::Layout::Compact),
            Short('t') | Long("timeout") => options.timeout = seconds(&parser.value()?)?,
            Short('k') | Long("keep-going") => options.keep_going = true,
            Long("no-events") => options.events = false,
            Long("history") => options.history = History::In(parser.value()?.into()),
            Long("no-history") => options.history = History::Nowhere,
            Long("record") => options.record = Some(parser.value()?.into()),
            Value(word) => {
                words.push(word);
                words.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected()),
        }
    }
    options.whom = whom(launched, &mut words)?;
    options.command = words.into_iter().map(ValueExt::string).collect::<Result<_, _>>()?;
    Ok(Call::Run(Box::new(options)))
}

fn whom(launched: Option<Vec<OsString>>, words: &mut Vec<OsString>) -> Result<Whom, lexopt::Error> {
    match launched {
        Some(launched) if launched.is_empty() => Err("the QEMU to launch is missing behind `--`".into()),
        Some(launched) => Ok(Whom::Launched(launched)),
        None if words.is_empty() => Err("a monitor is missing: PATH, HOST:PORT, or `--` and the QEMU to launch".into()),
        None => Ok(Whom::Monitor(words.remove(0))),
    }
}

fn seconds(text: &OsString) -> Result<Deadline, lexopt::Error> {
    let seconds = text.to_str().and_then(|text| text.parse::<f64>().ok());
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration = duration.ok_or_else(|| format!("`{}` is no number of seconds", text.to_string_lossy()))?;
    Ok(duration.into())
}

/// The addresses that a monitor may have: a file that is there is a socket, and what has a slash is to be one; a name
/// with a port may stand for several.
pub(crate) fn addresses(monitor: &OsString) -> Result<Vec<Address>, String> {
    let is_path = Path::new(monitor).exists() || monitor.as_encoded_bytes().contains(&b'/');
    let host = monitor.to_str().filter(|text| !is_path && text.contains(':'));
    let Some(host) = host else { return Ok(vec![Address::unix(monitor.clone().into_vec())]) };
    let found: Vec<SocketAddr> = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?.collect();
    Ok(found.into_iter().map(Address::from).collect())
}

/// The file of the history, where there is to be one. Without a home there is none.
pub(crate) fn history_file(history: &History) -> Option<PathBuf> {
    let from = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    match history {
        History::Nowhere => None,
        History::In(path) => Some(path.clone()),
        History::Default => {
            let state = from("XDG_STATE_HOME").or_else(|| Some(from("HOME")?.join(".local/state")))?;
            Some(state.join("qmpsh/history"))
        }
    }
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
    fn behind_the_monitor_is_the_command() {
        let options = options("-Hp /run/mon info registers -a").unwrap();
        assert_eq!(options.whom, Whom::Monitor("/run/mon".into()));
        assert_eq!(options.command, ["info", "registers", "-a"]);
        assert!(options.hmp && options.layout == Some(crate::show::Layout::Pretty));
    }

    #[test]
    fn behind_the_dashes_is_qemu() {
        let options = options("-t 1.5 query-status -- qemu -M none -- -x").unwrap();
        assert_eq!(options.whom, Whom::Launched(["qemu", "-M", "none", "--", "-x"].map(OsString::from).to_vec()));
        assert_eq!(options.command, ["query-status"]);
        assert_eq!(options.timeout, Duration::from_millis(1500).into());
    }

    #[test]
    fn a_wrong_call_is_told() {
        let wrong = [
            ("", "a monitor is missing"),
            ("-k --", "the QEMU to launch is missing"),
            ("-x mon", "invalid option '-x'"),
            ("-t soon mon", "`soon` is no number of seconds"),
            ("-t -1 mon", "`-1` is no number of seconds"),
            ("--history", "missing argument"),
        ];
        for (arguments, part) in wrong {
            let error = options(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments}: {error}");
        }
        assert!(options("--help").unwrap_err().contains("Help"));
    }

    #[test]
    fn a_name_with_a_port_is_tcp_and_everything_else_a_path() {
        assert_eq!(addresses(&"127.0.0.1:4444".into()), Ok(vec![SocketAddr::from(([127, 0, 0, 1], 4444)).into()]));
        assert_eq!(addresses(&"[::1]:4".into()).map(|found| found.len()), Ok(1));
        assert_eq!(addresses(&"./a:1".into()), Ok(vec![Address::unix("./a:1")]));
        assert_eq!(addresses(&"monitor".into()), Ok(vec![Address::unix("monitor")]));
        assert!(addresses(&"127.0.0.1:none".into()).is_err());
    }

    #[test]
    fn history_is_where_it_was_wanted() {
        assert_eq!(history_file(&History::Nowhere), None);
        assert_eq!(history_file(&History::In("here".into())), Some("here".into()));
    }
}
