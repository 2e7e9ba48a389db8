//! Client of the monitor and the agent: executes instructions, and maps replies and failures to output and exit codes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use qemu_machine_blocking::commands::{HumanMonitorCommand, QuerySchema};
use qemu_machine_blocking::{Cause, Deadline, Rung, Schema, State, Value, Vm, json, until};

use crate::connect::Connector;
use crate::failure::Failure;
use crate::guest::GuestInfo;
use crate::help::help;
use crate::human::Commands;
use crate::line::{Instruction, Trouble};
use crate::mode::Mode;
use crate::show::{Escapes, Layout, printable, show};
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
    /// The log of the wire, if it is wanted.
    log: OnceLock<WireLog>,
}

/// The result of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nothing,
    Value(Value),
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
            Instruction::Raw { object, id } => raw(&self.vm, object, id.as_ref(), self.timeout),
            Instruction::Human(line) => self.human(line),
            Instruction::Quit(_) if self.mode == Mode::Human => self.human("quit"),
            Instruction::Quit(_) => value(&self.vm, "quit", &json!({}), self.timeout),
        }
    }

    /// Executes an instruction for the agent.
    fn ask_guest(&self, instruction: &Instruction) -> Result<Reply, Failure> {
        match instruction {
            Instruction::Command(name, arguments) => value(&self.guest()?, name, arguments, self.timeout),
            Instruction::Raw { object, id } => raw(&self.guest()?, object, id.as_ref(), self.timeout),
            Instruction::Help(about) => {
                let info = self.known_guest_info(self.timeout)?;
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

    fn known_guest_info(&self, deadline: impl Into<Deadline>) -> Result<&GuestInfo, Failure> {
        if let Some(known) = self.guest_info.get() {
            return Ok(known);
        }
        let reply = self.guest()?.execute_by("guest-info", deadline)?;
        Ok(self.guest_info.get_or_init(|| GuestInfo::of(&reply)))
    }

    /// Returns the commands of the agent. `None` means that it is not connected, or does not answer in time.
    pub(crate) fn guest_info(&self, within: Instant) -> Option<&GuestInfo> {
        let is_connected = self.guest.try_lock().is_ok_and(|guest| guest.is_some());
        if is_connected { self.known_guest_info(until(within)).ok() } else { self.guest_info.get() }
    }

    /// Returns the commands of the human monitor. `None` means that QEMU does not answer in time.
    pub(crate) fn human_commands(&self, within: Instant) -> Option<&Commands> {
        if let Some(known) = self.human.get() {
            return Some(known);
        }
        let ask = |line: &str| {
            let reply = self.vm.execute_by(("human-monitor-command", json!({"command-line": line})), until(within));
            reply.ok()?.as_str().map(str::to_owned)
        };
        let (help, info) = (ask("help")?, ask("help info")?);
        Some(self.human.get_or_init(|| Commands::read(&help, &info)))
    }

    /// Executes a line of the human monitor. QEMU has a new monitor for each command, so that it does not keep the CPU of
    /// the line `cpu N` (QEMU, `monitor/qmp-cmds.c`, `qmp_human_monitor_command`): the shell does.
    fn human(&self, line: &str) -> Result<Reply, Failure> {
        let mut words = line.split_whitespace();
        let selected = match (words.next(), words.next().map(str::parse), words.next()) {
            (Some("cpu"), Some(Ok(cpu)), None) => Some(cpu),
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
            let version = self.known_guest_info(self.timeout).map(|info| info.version.to_string());
            return format!("qemu-ga {}", version.unwrap_or_default());
        }
        let version = self.vm.greeting().map(|greeting| greeting.version.to_string());
        format!("QEMU {}", version.unwrap_or_default())
    }
}

fn value(vm: &Vm, name: &str, arguments: &Value, timeout: Deadline) -> Result<Reply, Failure> {
    Ok(Reply::Value(vm.execute_by((name, arguments), timeout)?))
}

/// Executes a command in JSON. The reply to one with an id is shown with that id, as QEMU sends it.
fn raw(vm: &Vm, object: &str, id: Option<&Value>, timeout: Deadline) -> Result<Reply, Failure> {
    let answer = vm.execute_raw_by(object, timeout).map_err(Failure::from).and_then(|reply| unwrap(reply.into_value()));
    let Some(id) = id else { return answer.map(Reply::Value) };
    match answer {
        Ok(value) => Ok(Reply::Value(json!({"return": value, "id": id}))),
        Err(Failure::Refused(text)) => Err(Failure::Refused(format!("{text} (id {})", printable(id.to_string())))),
        Err(failure) => Err(failure),
    }
}

/// Returns the result or the error in the reply to a raw command.
fn unwrap(mut message: Value) -> Result<Value, Failure> {
    if let Some(error) = message.get("error") {
        let text = |member: &str| error[member].as_str().unwrap_or_default().to_owned();
        return Err(Failure::refused(&text("class"), &text("desc")));
    }
    Ok(message["return"].take())
}

impl Reply {
    /// Returns the text to print. `None` means that nothing is printed.
    pub(crate) fn shown(&self, layout: Layout, escapes: Escapes) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(escapes.json(show(value, layout))),
            Self::Text(text) => Some(escapes.text(text)),
        }
    }
}
