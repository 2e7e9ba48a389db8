//! Ledger of all commands: checks that each gets exactly one result, its own, and in time.

use std::collections::BTreeMap;

use qemu_machine_core::{
    Command, CommandError, CommandId, Liveness, Machine, Misuse, Moment, OutOfBand, Progress, Raw, RawReply, Refusal,
    Ticket, Value, WithRawReply,
};

use super::bounds::OUT_OF_BAND;
use super::speech::Reply;

/// A command with the number that its reply must repeat.
pub(super) type Marked = (&'static str, Value);

/// A ticket, for each kind of command.
#[derive(Debug)]
pub(super) enum Held {
    Plain(Ticket<Marked>),
    WithRawReply(Ticket<WithRawReply<Marked>>),
    OutOfBand(Ticket<OutOfBand<Marked>>),
    Raw(Ticket<Raw>),
}

/// All accepted commands, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Vec<Expectation>,
    by_id: BTreeMap<CommandId, u64>,
    /// The commands without a result that are not disowned.
    open: Vec<u64>,
    /// The replies of this run that arrived after the deadline, or whose command was disowned, including those to
    /// malformed requests; and the replies that were sent twice.
    pub(super) late: u64,
    pub(super) doubled: u64,
    /// The replies to commands of the shutdown ladder, which may be on a later rung by then.
    pub(super) ladder: u64,
    /// The time of the last heartbeat.
    pub(super) sign: Option<Moment>,
    /// The commands of this run that failed without a reply; and those whose result was not claimed.
    pub(super) unanswered: usize,
    pub(super) unseen: usize,
}

#[derive(Debug)]
struct Expectation {
    held: Held,
    name: &'static str,
    deadline: Option<Moment>,
    /// The time at which half of the command's time has passed.
    half: Option<Moment>,
    /// The time until which an out-of-band command must have its result.
    out_of_band_by: Option<Moment>,
    state: State,
    reply: Option<Reply>,
    /// Whether the result says that the command was not sent.
    unsent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Disowned,
    Answered(AnswerContext),
    Claimed,
}

/// The time at which the machine reported a result, and the state of the world at that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerContext {
    pub(super) at: Moment,
    pub(super) is_disconnected: bool,
    pub(super) is_in_band_only: bool,
    /// The time since which heartbeats are possible, whether QEMU would answer one now, and the time of the last.
    pub(super) asks_since: Option<Moment>,
    pub(super) responds: bool,
    pub(super) sign: Option<Moment>,
}

impl Held {
    fn id(&self) -> CommandId {
        match self {
            Self::Plain(ticket) => ticket.id(),
            Self::WithRawReply(ticket) => ticket.id(),
            Self::OutOfBand(ticket) => ticket.id(),
            Self::Raw(ticket) => ticket.id(),
        }
    }

    fn claim(&self, machine: &mut Machine) -> Option<Result<Value, CommandError>> {
        fn claim<C: Command<Reply = Value>>(
            machine: &mut Machine,
            ticket: &Ticket<C>,
        ) -> Option<Result<Value, CommandError>> {
            machine.claim(ticket)
        }
        match self {
            Self::Plain(ticket) => claim(machine, ticket),
            Self::Raw(ticket) => Some(machine.claim(ticket)?.map(RawReply::into_value).and_then(whole)),
            Self::OutOfBand(ticket) => claim(machine, ticket),
            Self::WithRawReply(ticket) => {
                let read = |reply: qemu_machine_core::Payload| reply.read().unwrap_or_default();
                Some(machine.claim(ticket)?.map(read))
            }
        }
    }
}

/// Converts the reply to a raw command, which is the whole message, to the result that other commands get.
fn whole(mut message: Value) -> Result<Value, CommandError> {
    let error = &message["error"];
    if let (Some(class), Some(description)) = (error["class"].as_str(), error["desc"].as_str()) {
        let (class, description) = (class.to_owned(), description.to_owned());
        return Err(CommandError::Refused(Refusal {
            command: "raw".into(),
            class: class.into(),
            description: description.into(),
        }));
    }
    Ok(message["return"].take())
}

impl Ledger {
    /// Returns the number of the next command.
    pub(super) fn next(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(super) fn accept(
        &mut self,
        now: Moment,
        held: Held,
        name: &'static str,
        deadline: Option<Moment>,
    ) -> Result<(), String> {
        let nonce = self.next();
        if self.by_id.insert(held.id(), nonce).is_some() {
            return Err(format!("#{nonce} has the id of an earlier command"));
        }
        let state = State::Open;
        let half = deadline.map(|deadline| now.after(deadline.since(now) / 2));
        self.entries.push(Expectation {
            held,
            name,
            deadline,
            half,
            out_of_band_by: None,
            state,
            reply: None,
            unsent: false,
        });
        self.open.push(nonce);
        Ok(())
    }

    /// Drops the unclaimed results of the previous run.
    pub(super) fn begin_run(&mut self) {
        (self.late, self.doubled, self.ladder) = (0, 0, 0);
        (self.unanswered, self.unseen, self.sign) = (0, 0, None);
        for nonce in self.answered() {
            self.entries[nonce as usize].state = State::Disowned;
        }
    }

    pub(super) fn open(&self) -> &[u64] {
        &self.open
    }

    /// Returns the commands with an unclaimed result.
    pub(super) fn answered(&self) -> Vec<u64> {
        let is_answered = |nonce: &u64| matches!(self.entries[*nonce as usize].state, State::Answered(_));
        (0..self.next()).filter(is_answered).collect()
    }

    /// Sets the limit of those open out-of-band commands that have none.
    pub(super) fn bound_out_of_band(&mut self, by: Moment) {
        for nonce in &self.open {
            let entry = &mut self.entries[*nonce as usize];
            if matches!(entry.held, Held::OutOfBand(_)) && entry.out_of_band_by.is_none() {
                entry.out_of_band_by = Some(by);
            }
        }
    }

    /// Records a reply that has arrived.
    pub(super) fn replied(&mut self, nonce: u64, how: Reply) {
        let Some(entry) = self.entries.get_mut(nonce as usize) else { return };
        match entry.state {
            State::Open => entry.reply = Some(how),
            _ => self.late += 1,
        }
    }

    /// Records that the machine has reported a result, and returns the number of the command.
    pub(super) fn noticed(&mut self, id: CommandId, answer: AnswerContext) -> Result<u64, String> {
        let nonce = *self.by_id.get(&id).ok_or_else(|| format!("{id:?} was never accepted"))?;
        let entry = &mut self.entries[nonce as usize];
        if entry.state != State::Open {
            return Err(format!("#{nonce} gets a result while it is {:?}", entry.state));
        }
        entry.state = State::Answered(answer);
        self.open.retain(|other| *other != nonce);
        self.unseen += 1;
        Ok(nonce)
    }

    pub(super) fn disown(&mut self, nonce: u64, machine: &mut Machine) {
        let entry = &mut self.entries[nonce as usize];
        machine.disown(entry.held.id());
        entry.state = State::Disowned;
        self.open.retain(|other| *other != nonce);
    }

    /// Claims the result of a command, and checks it. Returns its kind.
    pub(super) fn claim(&mut self, nonce: u64, machine: &mut Machine) -> Result<&'static str, String> {
        let entry = &mut self.entries[nonce as usize];
        let Some(result) = entry.held.claim(machine) else { return Err(format!("#{nonce} has no result to claim")) };
        if entry.held.claim(machine).is_some() {
            return Err(format!("#{nonce} has two results"));
        }
        entry.judge(nonce, &result)?;
        let is_lost = matches!(result, Err(CommandError::Disconnected(_) | CommandError::TimedOut(..)));
        let is_unsent = matches!(
            result,
            Err(CommandError::Disconnected(Progress::Unsent)
                | CommandError::TimedOut(Progress::Unsent, _)
                | CommandError::Misuse(_))
        );
        (entry.unsent, entry.state) = (is_unsent, State::Claimed);
        self.unseen -= 1;
        self.unanswered += usize::from(is_lost);
        Ok(match result {
            Ok(_) => "command returned",
            Err(CommandError::Refused(_)) => "command refused",
            Err(CommandError::TimedOut(_, Liveness::Busy)) => "command timed out, and QEMU is busy",
            Err(CommandError::TimedOut(_, Liveness::Stuck)) => "command timed out, and QEMU is stuck",
            Err(CommandError::TimedOut(Progress::Sent, _)) => "command timed out on the wire",
            Err(CommandError::TimedOut(Progress::Unsent, _)) => "command timed out before its turn",
            Err(CommandError::Disconnected(_)) => "command disconnected",
            Err(_) => "command not understood",
        })
    }

    /// Checks what must be true whenever the driver is about to wait.
    pub(super) fn check(&self, now: Moment, responds: bool, ended: bool) -> Result<(), String> {
        for nonce in &self.open {
            let entry = &self.entries[*nonce as usize];
            if entry.reply.is_some() {
                return Err(format!("#{nonce} has its reply, but no notice"));
            }
            if entry.deadline.is_some_and(|deadline| deadline < now) {
                return Err(format!("#{nonce} outlives its deadline"));
            }
            if responds && entry.out_of_band_by.is_some_and(|by| by < now) {
                return Err(format!("#{nonce} is out of band, and waits behind other commands"));
            }
            if ended {
                return Err(format!("#{nonce} outlives the machine"));
            }
        }
        Ok(())
    }

    /// Checks that no command that was reported as unsent has reached QEMU.
    pub(super) fn check_unsent(&self, has_reached: impl Fn(u64) -> bool) -> Result<(), String> {
        let is_wrong = |(nonce, entry): &(u64, &Expectation)| entry.unsent && has_reached(*nonce);
        match (0..).zip(&self.entries).find(is_wrong) {
            Some((nonce, _)) => Err(format!("#{nonce} was reported as unsent, but QEMU received it")),
            None => Ok(()),
        }
    }
}

impl Expectation {
    fn judge(&self, nonce: u64, result: &Result<Value, CommandError>) -> Result<(), String> {
        let State::Answered(answer) = self.state else { return Err(format!("#{nonce} was claimed without a notice")) };
        let names = |text: &str| text.contains(&format!("(#{nonce}#)"));
        let is_right = match (self.reply, result) {
            (Some(Reply::Returned), Ok(value)) => value["nonce"] == nonce && value["name"] == self.name,
            (Some(Reply::Refused), Err(CommandError::Refused(refusal))) => names(&refusal.description),
            (Some(Reply::Nameless), Err(CommandError::Refused(refusal))) => {
                refusal.class == "GenericError" && names(&refusal.description)
            }
            (None, Err(CommandError::TimedOut(_, liveness))) => {
                self.deadline == Some(answer.at) && self.is_true(*liveness, &answer)
            }
            (None, Err(CommandError::Disconnected(_))) => answer.is_disconnected,
            (None, Err(CommandError::Misuse(Misuse::NoOutOfBand(_)))) => {
                matches!(self.held, Held::OutOfBand(_)) && answer.is_in_band_only
            }
            _ => false,
        };
        if is_right { Ok(()) } else { Err(format!("#{nonce} {:?} of {}: {result:?}", self.reply, self.name)) }
    }

    /// Returns whether the liveness in the error of a command that timed out is right.
    fn is_true(&self, liveness: Liveness, answer: &AnswerContext) -> bool {
        let (Some(half), Some(deadline)) = (self.half, self.deadline) else { return false };
        let lived = answer.sign.is_some_and(|sign| sign >= half);
        match liveness {
            Liveness::Busy => lived,
            // A heartbeat that would be answered may need more time than was left.
            Liveness::Stuck => !lived && (!answer.responds || deadline.since(half) / 2 < OUT_OF_BAND),
            Liveness::Unknown => !lived && (half == deadline || answer.asks_since.is_none_or(|since| since > half)),
        }
    }
}
