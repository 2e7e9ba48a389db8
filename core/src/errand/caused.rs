//! Decides how a command and the event that it causes are one step.

use alloc::vec::Vec;

use super::{Errand, ErrandError, News, Next};
use crate::command::Command;
use crate::fault::Misuse;
use crate::wait::{Hit, Mark, Wait};
use crate::wire::Encoded;

/// Executes a command, and waits for the first of several things from before the command on: whether what it causes
/// comes before its reply, with it or long after it, nothing is missed.
///
/// ```
/// use qemu_machine_core::errand::Caused;
/// use qemu_machine_core::{Wait, json};
///
/// let dump = ("dump-guest-memory", json!({"paging": false, "protocol": "file:/tmp/dump", "detach": true}));
/// let dumped = Caused::new(&dump, [Wait::event("DUMP_COMPLETED")]);
/// // let (_, hit) = vm.run(dumped, Duration::from_secs(60))?;
/// ```
#[derive(Debug)]
#[must_use = "an errand does nothing until it is run"]
pub struct Caused<C: Command> {
    command: Option<Result<Encoded, Misuse>>,
    things: Vec<Wait>,
    mark: Mark,
    reply: Option<C::Reply>,
}

impl<C: Command> Caused<C> {
    /// This command, and what it causes.
    pub fn new(command: &C, things: impl IntoIterator<Item = Wait>) -> Self {
        let (command, things) = (Some(Encoded::command(command)), things.into_iter().collect());
        Self { command, things, mark: Mark::default(), reply: None }
    }
}

impl<C: Command> Errand for Caused<C> {
    /// The reply, and what was found.
    type Output = Result<(C::Reply, Hit), ErrandError>;

    fn step(&mut self, news: News) -> Next<Self::Output> {
        match news {
            News::Begun(mark) => {
                self.mark = mark;
                Next::Execute(self.command.take().unwrap_or(Err(Misuse::NotLaunched)))
            }
            News::Reply(reply) => match reply.and_then(|reply| reply.reply::<C::Reply>()) {
                Ok(reply) => {
                    self.reply = Some(reply);
                    Next::wait(&self.mark, self.things.clone())
                }
                Err(error) => Next::Done(Err(error.into())),
            },
            News::Found(Err(error)) => Next::Done(Err(error.into())),
            News::Found(Ok(hit)) => match self.reply.take() {
                Some(reply) => Next::Done(Ok((reply, hit))),
                // It waits behind the reply only.
                None => Next::wait(&self.mark, self.things.clone()),
            },
            News::Later => Next::wait(&self.mark, self.things.clone()),
        }
    }
}
