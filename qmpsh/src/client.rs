//! Client of the monitor and the agent: executes instructions, and maps replies and failures to output and exit codes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use qemu_machine_blocking::commands::{HumanMonitorCommand, QuerySchema};
use qemu_machine_blocking::{Cause, Deadline, Rung, Schema, State, Value, Vm, json};

use crate::connect::Connector;
use crate::failure::Failure;
use crate::guest::GuestInfo;
use crate::help::help;
use crate::human::Commands;
use crate::json_text;
use crate::line::{Instruction, Trouble};
use crate::mode::Mode;
use crate::queries::Queries;
use crate::show::{Escapes, Layout, printable, show};
use crate::transaction;
use crate::wire_log::WireLog;

/// A machine, with the schema of its commands, or an agent.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) vm: Vm,
    pub(crate) mode: Mode,
    /// `None` means that lines are not for QMP, or that the peer has no schema, as another QMP server may.
    pub(crate) schema: Option<Schema>,
    timeout: Deadline,
    /// The commands of the human monitor, from their first completion on.
    human: OnceLock<Commands>,
    /// The CPU that commands of the human monitor are about, from the line `cpu N` on. Negative means QEMU's default.
    cpu: AtomicI64,
    /// The way to the agent of the machine. `None` means that none is given.
    agent: Option<Connector>,
    /// The connection to the agent, once it is needed.
    guest: Mutex<Option<Vm>>,
    /// The commands of the agent, from their first use on.
    guest_info: OnceLock<GuestInfo>,
    /// The queries of completion to the machine.
    pub(crate) queries: Queries,
    /// The queries of completion to the agent.
    guest_queries: Queries,
    /// The log of the wire, if it is wanted.
    log: OnceLock<WireLog>,
}

/// The result of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nothing,
    Value(Value),
    /// A whole message, as the peer sent it, with the id of the user.
    Message(String),
    /// Text of several lines.
    Text(String),
}

/// The time that QEMU may take to end after it accepted `quit`.
const END_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

impl Client {
    /// A client of a machine, or with [`Mode::Agent`] of an agent. Fetches the schema, if lines are for QMP.
    pub(crate) fn new(vm: Vm, timeout: Deadline, mode: Mode, agent: Option<Connector>) -> Self {
        let schema = if mode == Mode::Qmp { vm.execute_by(QuerySchema, timeout).ok() } else { None };
        let guest = Mutex::new((mode == Mode::Agent).then(|| vm.clone()));
        Self {
            vm,
            mode,
            schema,
            timeout,
            human: OnceLock::new(),
            cpu: AtomicI64::new(-1),
            agent,
            guest,
            guest_info: OnceLock::new(),
            queries: Queries::default(),
            guest_queries: Queries::default(),
            log: OnceLock::new(),
        }
    }

    /// Passes a line for each message from now on to `print`, on a thread.
    pub(crate) fn log_wire(&self, print: impl FnMut(&str) + Send + 'static) {
        self.log.get_or_init(|| WireLog::begin(&self.vm, print));
    }

    /// Waits until the messages so far are printed.
    pub(crate) fn flush_log(&self) {
        self.log.get().into_iter().for_each(WireLog::flush);
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// As [`Instruction::read`].
    pub(crate) fn read(&self, line: &str) -> Result<Instruction, Trouble> {
        match self.mode {
            Mode::Qmp => Instruction::read(line, self.schema.as_ref()),
            Mode::Human => Instruction::read_human(line),
            Mode::Agent => Instruction::read_guest(line),
        }
    }

    /// Reports whether lines are in a transaction that is not closed.
    pub(crate) fn is_in_transaction(&self, lines: &str) -> bool {
        self.mode == Mode::Qmp && transaction::is_open(lines)
    }

    /// Reads words that a shell has split.
    ///
    /// # Errors
    ///
    /// As [`Instruction::read_words`].
    pub(crate) fn read_words(&self, words: &[String]) -> Result<Instruction, Trouble> {
        match self.mode {
            Mode::Qmp => Instruction::read_words(words, self.schema.as_ref()),
            Mode::Human => Instruction::read_human(&words.join(" ")),
            Mode::Agent => Instruction::read_guest_words(words),
        }
    }

    /// Executes an instruction, and waits for the reply. After a `quit` it also waits for the end of QEMU.
    ///
    /// # Errors
    ///
    /// Each [`Failure`].
    pub(crate) fn ask(&self, instruction: &Instruction) -> Result<Reply, Failure> {
        let answer = self.answer(instruction);
        let answer = if instruction.ends_qemu() { self.last(answer) } else { answer };
        // Its messages are printed before the reply.
        self.flush_log();
        answer
    }

    fn answer(&self, instruction: &Instruction) -> Result<Reply, Failure> {
        match instruction {
            Instruction::Guest(instruction) => self.ask_guest(instruction),
            instruction if self.mode == Mode::Agent => self.ask_guest(instruction),
            Instruction::Nothing | Instruction::Exit(_) => Ok(Reply::Nothing),
            Instruction::Help(about) => help(about, self.schema.as_ref()).map(Reply::Text).map_err(Failure::Refused),
            Instruction::Command(name, arguments) => value(&self.vm, name, arguments, self.timeout),
            Instruction::Raw { object, id } => raw(&self.vm, object, id.as_deref(), self.timeout),
            Instruction::Human(line) => self.human(line),
            Instruction::Quit(_) if self.mode == Mode::Human => self.human("quit"),
            Instruction::Quit(_) => value(&self.vm, "quit", &json!({}), self.timeout),
        }
    }

    /// Executes an instruction for the agent.
    fn ask_guest(&self, instruction: &Instruction) -> Result<Reply, Failure> {
        match instruction {
            Instruction::Command(name, arguments) => value(&self.guest()?, name, arguments, self.timeout),
            Instruction::Raw { object, id } => raw(&self.guest()?, object, id.as_deref(), self.timeout),
            Instruction::Help(about) => {
                let info = self.known_guest_info()?;
                info.help(about).map(Reply::Text).map_err(Failure::Refused)
            }
            _ => Ok(Reply::Nothing),
        }
    }

    /// Returns the connection to the agent, which is made again after it was closed.
    fn guest(&self) -> Result<Vm, Failure> {
        let mut guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = guest.as_ref().filter(|vm| self.agent.is_none() || vm.state() == State::Running) {
            return Ok(open.clone());
        }
        let no_agent = || Failure::Unclear("no agent is given: `--agent-at ADDRESS` names its socket".into());
        let connected = self.agent.as_ref().ok_or_else(no_agent)?.connect()?;
        Ok(guest.insert(connected).clone())
    }

    fn known_guest_info(&self) -> Result<&GuestInfo, Failure> {
        if let Some(known) = self.guest_info.get() {
            return Ok(known);
        }
        let reply = self.guest()?.execute_by("guest-info", self.timeout)?;
        Ok(self.guest_info.get_or_init(|| GuestInfo::of(&reply)))
    }

    /// Returns the commands of the agent. `None` means that it is not connected, or does not answer in time. It does not
    /// connect: that takes up to five seconds for each address, and the user waits.
    pub(crate) fn guest_info(&self, within: Instant) -> Option<&GuestInfo> {
        if let Some(known) = self.guest_info.get() {
            return Some(known);
        }
        let guest = self.guest.try_lock().ok()?.clone().filter(|vm| vm.state() == State::Running)?;
        let reply = self.guest_queries.ask(&guest, "guest-info", within)?;
        Some(self.guest_info.get_or_init(|| GuestInfo::of(&reply)))
    }

    /// Returns the commands of the human monitor. `None` means that QEMU does not answer in time.
    pub(crate) fn human_commands(&self, within: Instant) -> Option<&Commands> {
        if let Some(known) = self.human.get() {
            return Some(known);
        }
        let ask = |line: &str| {
            let reply = self.queries.ask(&self.vm, ("human-monitor-command", json!({"command-line": line})), within);
            reply?.as_str().map(str::to_owned)
        };
        let (help, info) = (ask("help")?, ask("help info")?);
        Some(self.human.get_or_init(|| Commands::read(&help, &info)))
    }

    /// Executes a line of the human monitor. QEMU has a new monitor for each command, so that it does not keep the CPU of
    /// the line `cpu N` (QEMU, `monitor/qmp-cmds.c`, `qmp_human_monitor_command`): the shell does.
    fn human(&self, line: &str) -> Result<Reply, Failure> {
        let mut words = line.split_whitespace();
        let selected = match (words.next(), words.next().and_then(cpu_index), words.next()) {
            (Some("cpu"), Some(cpu), None) => Some(cpu),
            _ => None,
        };
        let cpu = selected.unwrap_or_else(|| self.cpu.load(Ordering::Relaxed));
        let command = HumanMonitorCommand::new(line);
        let command = if cpu >= 0 { command.cpu(cpu) } else { command };
        let printed = self.vm.execute_by(command, self.timeout)?.check().map_err(Failure::reported)?;
        if let Some(cpu) = selected {
            self.cpu.store(cpu, Ordering::Relaxed);
        }
        let printed = printed.replace("\r\n", "\n");
        let printed = printed.trim_end();
        Ok(if printed.is_empty() { Reply::Nothing } else { Reply::Text(printed.into()) })
    }

    /// Corrects the result of a command that ends QEMU: QEMU may close the monitor before it replies.
    fn last(&self, answer: Result<Reply, Failure>) -> Result<Reply, Failure> {
        if let Err(Failure::Refused(_) | Failure::Unclear(_)) = answer {
            return answer;
        }
        // A QEMU that takes longer still runs, and that is no failure of the command.
        let ended = self.vm.wait(END_WITHIN);
        match (answer, ended) {
            (Err(_), Ok(outcome)) if outcome.cause == Cause::Asked(Rung::Quit) => Ok(Reply::Nothing),
            (answer, _) => answer,
        }
    }

    /// Reports whether the machine has ended, or is ending.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.vm.state(), State::Ending | State::Ended)
    }

    /// Returns the name and version of the peer.
    pub(crate) fn peer(&self) -> String {
        if self.mode == Mode::Agent {
            let version = self.known_guest_info().map(|info| info.version.to_string());
            return format!("qemu-ga {}", version.unwrap_or_default());
        }
        let version = self.vm.greeting().map(|greeting| greeting.version.to_string());
        format!("QEMU {}", version.unwrap_or_default())
    }
}

/// Reads the index of a CPU, which may be hexadecimal (QEMU, `monitor/hmp.c`, `expr_unary`). `None` means that it is none
/// that the shell can pass on: QEMU refuses a negative one, and the shell leaves expressions to QEMU.
fn cpu_index(text: &str) -> Option<i64> {
    let index = match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    index.ok().filter(|index| *index >= 0)
}

fn value(vm: &Vm, name: &str, arguments: &Value, timeout: Deadline) -> Result<Reply, Failure> {
    Ok(Reply::Value(vm.execute_by((name, arguments), timeout)?))
}

/// Executes a command in JSON. The reply to one with an id is the message of the peer with that id, as QEMU sends it.
fn raw(vm: &Vm, object: &str, id: Option<&str>, timeout: Deadline) -> Result<Reply, Failure> {
    let reply = vm.execute_raw_by(object, timeout)?;
    let id = id.map(json_text::compact);
    if let Some(error) = reply.get("error") {
        let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
        let failure = Failure::refused(&text("class"), &text("desc"));
        return Err(match (failure, id) {
            (Failure::Refused(text), Some(id)) => Failure::Refused(format!("{text} (id {})", printable(id))),
            (failure, _) => failure,
        });
    }
    Ok(match id {
        Some(id) => Reply::Message(json_text::with(reply.as_str(), "id", &id)),
        None => Reply::Value(reply.into_value()["return"].take()),
    })
}

/// Returns the text of a message: in one line its tokens are those of the peer.
fn show_message(message: &str, layout: Layout) -> String {
    match (layout, message.parse::<Value>()) {
        (Layout::Fitting(width), _) if message.chars().count() < width && !message.contains('\n') => message.to_owned(),
        (Layout::Fitting(_) | Layout::Pretty, Ok(value)) => show(&value, layout),
        _ => json_text::compact(message),
    }
}

impl Reply {
    /// Returns the text to print. `None` means that nothing is printed.
    pub(crate) fn shown(&self, layout: Layout, escapes: Escapes) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(escapes.json(show(value, layout))),
            Self::Message(text) => Some(escapes.json(show_message(text, layout))),
            Self::Text(text) => Some(escapes.text(text)),
        }
    }
}
