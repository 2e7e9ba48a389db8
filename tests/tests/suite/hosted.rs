//! Operations of stories that need a host, beyond those of every row: processes, descriptors and files.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use qemu_machine_blocking::{Cancel, Vm};
use qemu_machine_core::procedure::{Lines, Procedure, Run};
use qemu_machine_core::{
    Accelerators, Address, COMMAND_WITHIN, Command, CommandError, CommandLine, Config, Deadline, Hit, Identity,
    LaunchError, Mark, Misuse, Outcome, Service, Value, Wait,
};
use qemu_machine_host::{IdentityError, LogReader};

use qemu_machine_tests::PATIENCE;
use smol::stream::StreamExt as _;

use crate::harness::Harness;
use crate::on_mio::Mio;
use crate::on_tasks::{Executor, Tasks};

/// The methods beyond those of every [`Harness`].
pub(crate) trait Hosted: Harness {
    fn relaunch(&mut self) -> Result<(), LaunchError>;
    fn execute_with(&mut self, command: &str, arguments: Value) -> Result<Value, CommandError>;
    /// Executes a command whose reply has a type.
    fn query<C: Command>(&mut self, command: C) -> Result<C::Reply, CommandError>;
    fn execute_with_fd(&mut self, command: &str, arguments: Value, what: OwnedFd) -> Result<Value, CommandError> {
        self.execute_with_fd_by(command, arguments, what, COMMAND_WITHIN)
    }
    fn execute_with_fd_by(
        &mut self,
        command: &str,
        arguments: Value,
        what: OwnedFd,
        within: Deadline,
    ) -> Result<Value, CommandError>;
    /// Executes all commands at once, each with its own descriptor: none waits for the reply of another.
    fn execute_all_with_fds(&mut self, commands: Vec<(&'static str, Value, OwnedFd)>) -> Vec<Value>;
    fn run<T: Procedure>(&mut self, procedure: T, within: Deadline) -> T::Return;
    /// Begins a procedure and drops its run when the first command was issued. On threads, which cannot drop a call, it
    /// is cancelled there.
    fn drop_run<T: Procedure>(&mut self, procedure: T);
    /// Begins a procedure and drops its run when this event arrives. Returns the result of a procedure that was done sooner.
    /// On threads, which cannot drop a call, it is cancelled there, and the result is that of its clean-up.
    fn drop_run_at<T: Procedure<Return: Send> + Send>(&mut self, procedure: T, event: Wait) -> Option<T::Return>;
    /// Returns the lines of a console until the machine ends, as the row offers them.
    fn lines(&mut self, lines: Lines) -> Vec<String>;
    fn log_reader(&mut self) -> LogReader;
    fn observe_wire(&mut self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static);
    fn disconnect(&mut self) -> Result<Outcome, Misuse>;
    fn identity(&mut self) -> Result<Identity, IdentityError>;
    fn detach(&mut self) -> Result<Outcome, Misuse>;
    fn service(&mut self, service: Service) -> Result<Config, Misuse>;
    /// Executes a line of qtest, on a machine with that dialect.
    fn line(&mut self, line: &str) -> Result<String, CommandError>;
    fn console(&mut self, name: &str, from: &Mark) -> Result<Vec<u8>, Misuse>;
    fn log(&mut self, limit: usize) -> Vec<u8>;
    fn log_path(&mut self) -> Option<PathBuf>;
    fn directory(&mut self) -> Option<PathBuf>;
    fn monitor_address(&mut self) -> Option<Address>;
    fn command_line(&mut self) -> CommandLine;
    fn qemu_pid(&mut self) -> Option<u32>;
    fn name(&mut self) -> String;
    fn console_logs(&mut self) -> Vec<(String, PathBuf)>;
    fn companion_pid(&mut self, name: &str) -> Option<u32>;
    fn companion_log(&mut self, name: &str) -> LogReader;

    /// Returns the accelerators of the QEMU of this configuration, as the row offers them: by launches of the caller's.
    fn accelerators(config: &Config) -> Result<Accelerators, LaunchError> {
        let mut probe = Accelerators::probe(config);
        while let Some(config) = probe.next_launch() {
            probe.report_launch(Self::launch(config).map(|mut machine| drop(machine.kill())))?;
        }
        Ok(probe.finish())
    }

    /// Waits for one thing from the beginning of the run, or for the end.
    fn wait_for(&mut self, thing: Wait) -> Hit {
        self.wait_any(&Mark::default(), &[thing, Wait::end()], PATIENCE.into()).expect("the wait succeeds")
    }
}

impl Hosted for Vm {
    fn relaunch(&mut self) -> Result<(), LaunchError> {
        Vm::relaunch(self)
    }

    fn execute_with(&mut self, command: &str, arguments: Value) -> Result<Value, CommandError> {
        Vm::execute(self, (command, arguments))
    }

    fn query<C: Command>(&mut self, command: C) -> Result<C::Reply, CommandError> {
        Vm::execute(self, command)
    }

    fn execute_with_fd_by(
        &mut self,
        command: &str,
        arguments: Value,
        what: OwnedFd,
        within: Deadline,
    ) -> Result<Value, CommandError> {
        Vm::execute_with_fd_by(self, (command, arguments), what, within)
    }

    fn execute_all_with_fds(&mut self, commands: Vec<(&'static str, Value, OwnedFd)>) -> Vec<Value> {
        let vm = &*self;
        std::thread::scope(|threads| {
            let send = |(command, arguments, what)| {
                threads
                    .spawn(move || vm.execute_with_fd((command, arguments), what).expect("QEMU accepts the descriptor"))
            };
            let callers: Vec<_> = commands.into_iter().map(send).collect();
            callers.into_iter().map(|caller| caller.join().expect("a caller does not panic")).collect()
        })
    }

    fn run<T: Procedure>(&mut self, procedure: T, within: Deadline) -> T::Return {
        Vm::run(self, procedure, within)
    }

    fn drop_run<T: Procedure>(&mut self, procedure: T) {
        let cancel = Cancel::new();
        cancel.cancel();
        drop(cancel.run_until_cancelled(|| Vm::run(self, procedure, PATIENCE)));
    }

    fn drop_run_at<T: Procedure<Return: Send> + Send>(&mut self, procedure: T, event: Wait) -> Option<T::Return> {
        let (vm, mark, cancel) = (&*self, (**self).mark(), Cancel::new());
        std::thread::scope(|threads| {
            let run = threads.spawn(|| cancel.run_until_cancelled(|| Vm::run(vm, procedure, PATIENCE)));
            vm.wait_any(&mark, [event], PATIENCE).expect("the event comes");
            cancel.cancel();
            Some(run.join().expect("no panic"))
        })
    }

    fn lines(&mut self, lines: Lines) -> Vec<String> {
        Vm::lines(self, lines).map(|line| line.to_string()).collect()
    }

    fn log_reader(&mut self) -> LogReader {
        (**self).log_reader()
    }

    fn observe_wire(&mut self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static) {
        (**self).observe_wire(sent, received);
    }

    fn disconnect(&mut self) -> Result<Outcome, Misuse> {
        Vm::disconnect(self)
    }

    fn identity(&mut self) -> Result<Identity, IdentityError> {
        (**self).identity()
    }

    fn detach(&mut self) -> Result<Outcome, Misuse> {
        Vm::detach(self)
    }

    fn service(&mut self, service: Service) -> Result<Config, Misuse> {
        (**self).service(service)
    }

    fn line(&mut self, line: &str) -> Result<String, CommandError> {
        Vm::execute_line(self, line, PATIENCE)
    }

    fn console(&mut self, name: &str, from: &Mark) -> Result<Vec<u8>, Misuse> {
        (**self).console(name, from)
    }

    fn log(&mut self, limit: usize) -> Vec<u8> {
        (**self).log(limit).expect("the log can be read")
    }

    fn log_path(&mut self) -> Option<PathBuf> {
        (**self).log_path()
    }

    fn directory(&mut self) -> Option<PathBuf> {
        (**self).directory()
    }

    fn monitor_address(&mut self) -> Option<Address> {
        (**self).monitor_address()
    }

    fn command_line(&mut self) -> CommandLine {
        (**self).command_line()
    }

    fn qemu_pid(&mut self) -> Option<u32> {
        (**self).qemu_pid()
    }

    fn name(&mut self) -> String {
        (**self).name()
    }

    fn console_logs(&mut self) -> Vec<(String, PathBuf)> {
        (**self).console_logs()
    }

    fn companion_pid(&mut self, name: &str) -> Option<u32> {
        (**self).companion_pid(name).expect("it has this companion")
    }

    fn companion_log(&mut self, name: &str) -> LogReader {
        (**self).companion_log(name).expect("it has this companion")
    }

    fn accelerators(config: &Config) -> Result<Accelerators, LaunchError> {
        Vm::accelerators(config)
    }
}

impl<E: Executor> Hosted for Tasks<E> {
    fn relaunch(&mut self) -> Result<(), LaunchError> {
        E::block_on(self.vm.relaunch_with(E::spawn))
    }

    fn execute_with(&mut self, command: &str, arguments: Value) -> Result<Value, CommandError> {
        E::block_on(self.vm.execute((command, arguments)))
    }

    fn query<C: Command>(&mut self, command: C) -> Result<C::Reply, CommandError> {
        E::block_on(self.vm.execute(command))
    }

    fn execute_with_fd_by(
        &mut self,
        command: &str,
        arguments: Value,
        what: OwnedFd,
        within: Deadline,
    ) -> Result<Value, CommandError> {
        E::block_on(self.vm.execute_with_fd_by((command, arguments), what, within))
    }

    fn execute_all_with_fds(&mut self, commands: Vec<(&'static str, Value, OwnedFd)>) -> Vec<Value> {
        let send = |(command, arguments, what)| self.vm.execute_with_fd((command, arguments), what);
        let replies = crate::on_tasks::together(commands.into_iter().map(send));
        E::block_on(replies).into_iter().map(|reply| reply.expect("QEMU accepts the descriptor")).collect()
    }

    fn run<T: Procedure>(&mut self, procedure: T, within: Deadline) -> T::Return {
        E::block_on(self.vm.run(procedure, within))
    }

    fn drop_run<T: Procedure>(&mut self, procedure: T) {
        // It is dropped while it waits for the first reply, which the thread of a driver mostly receives later. On a busy
        // host it receives it between two steps, and a run whose first command is refused has ended.
        drop(E::block_on(smol::future::poll_once(self.vm.run(procedure, PATIENCE))));
    }

    fn drop_run_at<T: Procedure<Return: Send> + Send>(&mut self, procedure: T, event: Wait) -> Option<T::Return> {
        let mark = self.vm.mark();
        E::block_on(smol::future::or(async { Some(self.vm.run(procedure, PATIENCE).await) }, async {
            self.vm.wait_any(&mark, [event], PATIENCE).await.expect("the event comes");
            None
        }))
    }

    fn lines(&mut self, lines: Lines) -> Vec<String> {
        E::block_on(self.vm.lines(lines).map(|line| line.to_string()).collect())
    }

    fn log_reader(&mut self) -> LogReader {
        self.vm.log_reader()
    }

    fn observe_wire(&mut self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static) {
        self.vm.observe_wire(sent, received);
    }

    fn disconnect(&mut self) -> Result<Outcome, Misuse> {
        E::insist(|| self.vm.disconnect())
    }

    fn identity(&mut self) -> Result<Identity, IdentityError> {
        self.vm.identity()
    }

    fn detach(&mut self) -> Result<Outcome, Misuse> {
        E::insist(|| self.vm.detach())
    }

    fn service(&mut self, service: Service) -> Result<Config, Misuse> {
        self.vm.service(service)
    }

    fn line(&mut self, line: &str) -> Result<String, CommandError> {
        E::block_on(self.vm.execute_line(line, PATIENCE))
    }

    fn console(&mut self, name: &str, from: &Mark) -> Result<Vec<u8>, Misuse> {
        self.vm.console(name, from)
    }

    fn log(&mut self, limit: usize) -> Vec<u8> {
        self.vm.log(limit).expect("the log can be read")
    }

    fn log_path(&mut self) -> Option<PathBuf> {
        self.vm.log_path()
    }

    fn directory(&mut self) -> Option<PathBuf> {
        self.vm.directory()
    }

    fn monitor_address(&mut self) -> Option<Address> {
        self.vm.monitor_address()
    }

    fn command_line(&mut self) -> CommandLine {
        self.vm.command_line()
    }

    fn qemu_pid(&mut self) -> Option<u32> {
        self.vm.qemu_pid()
    }

    fn name(&mut self) -> String {
        self.vm.name()
    }

    fn console_logs(&mut self) -> Vec<(String, PathBuf)> {
        self.vm.console_logs()
    }

    fn companion_pid(&mut self, name: &str) -> Option<u32> {
        self.vm.companion_pid(name).expect("it has this companion")
    }

    fn companion_log(&mut self, name: &str) -> LogReader {
        self.vm.companion_log(name).expect("it has this companion")
    }

    fn accelerators(config: &Config) -> Result<Accelerators, LaunchError> {
        E::block_on(qemu_machine_host::tasks::Vm::accelerators_with(config, E::spawn))
    }
}

impl Hosted for Mio {
    fn relaunch(&mut self) -> Result<(), LaunchError> {
        let (registry, _) = self.event_loop.parts();
        self.vm.relaunch(registry)?;
        self.until(|vm| vm.launched())
    }

    fn execute_with(&mut self, command: &str, arguments: Value) -> Result<Value, CommandError> {
        let ticket = self.vm.execute((command, arguments))?;
        self.until(|vm| vm.claim(&ticket))
    }

    fn query<C: Command>(&mut self, command: C) -> Result<C::Reply, CommandError> {
        let ticket = self.vm.execute(command)?;
        self.until(|vm| vm.claim(&ticket))
    }

    fn execute_with_fd_by(
        &mut self,
        command: &str,
        arguments: Value,
        what: OwnedFd,
        within: Deadline,
    ) -> Result<Value, CommandError> {
        let ticket = self.vm.execute_with_fd_by((command, arguments), what, within)?;
        self.until(|vm| vm.claim(&ticket))
    }

    fn execute_all_with_fds(&mut self, commands: Vec<(&'static str, Value, OwnedFd)>) -> Vec<Value> {
        let send = |(command, arguments, what)| self.vm.execute_with_fd((command, arguments), what);
        let tickets: Vec<_> = commands.into_iter().map(send).collect::<Result<_, _>>().expect("there is a monitor");
        tickets
            .into_iter()
            .map(|ticket| self.until(|vm| vm.claim(&ticket)).expect("QEMU accepts the descriptor"))
            .collect()
    }

    fn run<T: Procedure>(&mut self, procedure: T, within: Deadline) -> T::Return {
        let mut run = Run::new(procedure, within);
        self.until(|vm| vm.advance(&mut run))
    }

    fn drop_run<T: Procedure>(&mut self, procedure: T) {
        let mut run = Run::new(procedure, PATIENCE.into());
        assert!(self.vm.advance(&mut run).is_none(), "QEMU replies no sooner than it is asked");
        self.vm.disown_procedure(&mut run);
    }

    fn drop_run_at<T: Procedure<Return: Send> + Send>(&mut self, procedure: T, event: Wait) -> Option<T::Return> {
        let mut run = Run::new(procedure, PATIENCE.into());
        let mark = self.vm.mark();
        let wait = self.vm.wait_any(&mark, [event], PATIENCE).expect("there is room for a wait");
        self.until(|vm| match vm.advance(&mut run) {
            Some(end) => Some(Some(end)),
            None => {
                vm.claim_wait(wait)?.expect("the event comes");
                vm.disown_procedure(&mut run);
                Some(None)
            }
        })
    }

    fn lines(&mut self, mut lines: Lines) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let mut run = Run::new(lines.next_line(), PATIENCE.into());
            let Some(line) = self.until(|vm| vm.advance(&mut run)).expect("the console is read") else { return all };
            all.push(line.to_string());
        }
    }

    fn log_reader(&mut self) -> LogReader {
        self.vm.log_reader()
    }

    fn observe_wire(&mut self, sent: impl FnMut(&[u8]) + Send + 'static, received: impl FnMut(&[u8]) + Send + 'static) {
        self.vm.observe_wire(sent, received);
    }

    fn disconnect(&mut self) -> Result<Outcome, Misuse> {
        self.vm.disconnect()?;
        Ok(self.end())
    }

    fn identity(&mut self) -> Result<Identity, IdentityError> {
        self.vm.identity()
    }

    fn detach(&mut self) -> Result<Outcome, Misuse> {
        self.vm.detach()?;
        Ok(self.end())
    }

    fn service(&mut self, service: Service) -> Result<Config, Misuse> {
        self.vm.service(service)
    }

    fn line(&mut self, line: &str) -> Result<String, CommandError> {
        let ticket = self.vm.execute_line(line, PATIENCE)?;
        self.until(|vm| vm.claim(&ticket))
    }

    fn console(&mut self, name: &str, from: &Mark) -> Result<Vec<u8>, Misuse> {
        self.vm.machine().console_since(name, from).map(<[u8]>::to_vec)
    }

    fn log(&mut self, limit: usize) -> Vec<u8> {
        self.vm.log(limit).expect("the log can be read")
    }

    fn log_path(&mut self) -> Option<PathBuf> {
        self.vm.machine().prepared().log.as_deref().map(path)
    }

    fn directory(&mut self) -> Option<PathBuf> {
        self.vm.machine().prepared().directory.as_deref().map(path)
    }

    fn monitor_address(&mut self) -> Option<Address> {
        self.vm.machine().prepared().monitor.clone()
    }

    fn command_line(&mut self) -> CommandLine {
        self.vm.machine().command_line().clone()
    }

    fn qemu_pid(&mut self) -> Option<u32> {
        self.vm.machine().qemu_pid()
    }

    fn name(&mut self) -> String {
        self.vm.machine().name().to_owned()
    }

    fn console_logs(&mut self) -> Vec<(String, PathBuf)> {
        self.vm.machine().console_logs().map(|(console, log)| (console.to_owned(), path(log))).collect()
    }

    fn companion_pid(&mut self, name: &str) -> Option<u32> {
        self.vm.machine().companion_pid(name).expect("it has this companion")
    }

    fn companion_log(&mut self, name: &str) -> LogReader {
        self.vm.companion_log(name).expect("it has this companion")
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;

    std::ffi::OsStr::from_bytes(bytes).into()
}
