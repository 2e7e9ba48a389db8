//! A run: builds the initramfs, launches the guest, prints what comes, and waits for the end of the command.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf, absolute};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use qemu_machine_blocking::record::Record;
use qemu_machine_blocking::{FOREVER, Found, Mark, UntrustedText, Vm, Wait, json};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::agent;
use crate::failure::Failure;
use crate::guest_reports::{GuestReport, GuestReports};
use crate::initramfs;
use crate::kernel_test::{CopyOut, KernelTest, Printed};
use crate::ktap::Parser;
use crate::machine::CONSOLE;
use crate::output::check_outputs;
use crate::quiet::Quiet;
use crate::recorded::{self, Secrets};
use crate::replace::{FOR_ALL, FOR_OWNER, Output, write_output};
use crate::report::Report;
use crate::shares::Shares;
use crate::unnamed::{path_of, unnamed};

/// The time in which QEMU writes the memory of the guest: a slow disk writes a GiB in ten seconds.
const DUMPED_WITHIN: Duration = Duration::from_secs(600);

/// The output of a run, and the parsers that read it as well: one for each source, since a line of one may be within a
/// line of the other. Two threads print with the agent.
struct Printer<'a> {
    print: &'a mut (dyn FnMut(Printed<'_>) + Send),
    console: Parser,
    stdout: Parser,
    /// Hides messages of the kernel from `print`, not from the parser. `None` means that all is printed.
    quiet: Option<Quiet>,
}

impl KernelTest {
    /// Runs the command in the guest, and returns when the machine has ended. The output of the guest is passed to `print`
    /// meanwhile, by another thread.
    pub fn run(&self, print: &mut (dyn FnMut(Printed<'_>) + Send)) -> Report {
        let begin = Instant::now();
        let quiet = self.quiet.then(Quiet::default);
        let printer = Mutex::new(Printer { print, console: Parser::default(), stdout: Parser::default(), quiet });
        let (exit, record) = match self.exit(&printer) {
            Ok((exit, record)) => (exit, record),
            Err(mut failure) => {
                let record = recorded::take_from(&mut failure);
                (Err(failure), record)
            }
        };
        let secrets = Secrets::of(&self.qemu_args);
        let record = record.map(|record| secrets.redact(record));
        let Printer { print, console, stdout, quiet } = printer.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(rest) = quiet.map(Quiet::finish).filter(|rest| !rest.is_empty()) {
            print(Printed::Console(&rest));
        }
        if let Some(dropped) = record.as_ref().map(Record::dropped).filter(|dropped| *dropped > 0) {
            let note = format!("the record lacks {dropped} lines of the middle of the run, which is too long for it");
            print(Printed::Note(&note));
        }
        let mut cases = console.finish();
        cases.extend(stdout.finish());
        Report { name: self.name.clone(), exit, cases, elapsed: begin.elapsed(), record, secrets }
    }

    /// Runs the command. Returns its exit code, or why there is none, and the record of the machine.
    fn exit(&self, printer: &Mutex<Printer<'_>>) -> Result<(Result<u8, Failure>, Option<Record>), Failure> {
        check_outputs(self.outputs())?;
        let mark = mark();
        let shares = Shares::new(self)?;
        let archive = initramfs::build(self, &shares, &mark)?;
        let unnamed = self.save_initramfs.is_none().then(|| unnamed("the initramfs", &archive)).transpose()?;
        let initramfs = match (&self.save_initramfs, &unnamed) {
            (Some(path), _) => write_output(path, &archive).map(|()| path.clone())?,
            (None, Some(file)) => path_of(file),
            (None, None) => PathBuf::new(),
        };
        drop(archive);
        let files = self.copies.first().map(|first| Received::beside(&first.host)).transpose()?;
        let path = files.as_ref().map(|files| path_of(&files.0));
        let mut print = |printed: Printed<'_>| tell(printer, printed);
        let (vm, begin) = self.launch(&initramfs, path.as_deref(), &shares, &mut print)?;
        if let Some(port) = self.gdb {
            let how = format!("waiting for gdb: gdb vmlinux -ex 'target remote 127.0.0.1:{port}' -ex continue");
            tell(printer, Printed::Note(&how));
        }
        let exit = thread::scope(|threads| {
            threads.spawn(|| stream(&vm, printer));
            let limit = self.gdb.is_none().then_some(self.timeout);
            let mut reports = GuestReports::new(&vm, &mark, begin, limit);
            let exit = self.watch(&vm, &mut reports, printer, files.as_ref(), threads);
            if let (Err(Failure::Panicked(_)), Some(path)) = (&exit, &self.dump) {
                let dumped = dump(&vm, path).unwrap_or_else(|why| format!("the memory was not dumped: {why}"));
                tell(printer, Printed::Note(&dumped));
            }
            // This guest has no data to save, so it is killed. That ends `stream`, after the console was read to its end.
            drop(vm.kill());
            exit
        });
        Ok((exit, vm.record()))
    }

    /// Waits for the end of the command, and returns its exit code.
    fn watch<'scope>(
        &self,
        vm: &'scope Vm,
        reports: &mut GuestReports<'_>,
        printer: &Mutex<Printer<'_>>,
        files: Option<&Received>,
        threads: &'scope Scope<'scope, '_>,
    ) -> Result<u8, Failure> {
        let mut sizes = Vec::new();
        loop {
            let report = reports.next()?;
            if report == GuestReport::Ready {
                locked(printer).quiet.iter_mut().for_each(Quiet::init_runs);
            }
            match report {
                GuestReport::Ready if self.agent => {
                    let (end, code) = agent::run(vm, reports, threads)?;
                    tell(printer, Printed::Stdout(&end.stdout));
                    tell(printer, Printed::Stderr(&end.stderr));
                    if end.is_stdout_truncated || end.is_stderr_truncated {
                        let note = "the agent dropped the end of the output, which is too long for it";
                        locked(printer).stdout.lost(note);
                        tell(printer, Printed::Note(note));
                    }
                    return Ok(code);
                }
                GuestReport::Ready | GuestReport::Exited(_) => {}
                GuestReport::Failed(why) => return Err(Failure::Guest(why.into())),
                GuestReport::Copied(size) => sizes.push(size),
                GuestReport::Exit(code) => {
                    if let Some(files) = files {
                        files.distribute(&self.copies, &sizes)?;
                    }
                    return Ok(code);
                }
            }
        }
    }
}

/// The file into which QEMU writes what comes on the third serial port. It has no name, so that nothing is left of it
/// however this program ends.
struct Received(File);

impl Received {
    /// A file on the file system of the first copy, where there must be room anyway; or in memory, if that file system has
    /// no files without a name (`open(2)`, `O_TMPFILE`), or this user may not create one.
    fn beside(host: &Path) -> Result<Self, Failure> {
        let path = absolute(host).map_err(|error| Failure::file(host, error))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match open(directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self(file.into())),
            // The directory may be for reading only, and the file in it a device or one that exists.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::ACCESS | Errno::ROFS) => {
                Ok(Self(unnamed("copies", &[])?))
            }
            Err(error) => Err(Failure::file(directory, error)),
        }
    }

    /// Writes the copies. `sizes` has the number of bytes of each, one after the other.
    fn distribute(&self, copies: &[CopyOut], sizes: &[Option<u64>]) -> Result<(), Failure> {
        // QEMU has opened the file anew, so this position is still the begin.
        let mut received = &self.0;
        for (copy, size) in copies.iter().zip(sizes) {
            let size = size.ok_or_else(|| Failure::Guest(format!("there is no file {}", copy.guest).into()))?;
            let mut output = Output::create(&copy.host, FOR_ALL)?;
            let copied = std::io::copy(&mut Read::by_ref(&mut received).take(size), &mut output.file);
            let copied = copied.map_err(|error| Failure::file(&copy.host, error))?;
            if copied != size {
                let why = format!("{} came with {copied} of {size} bytes: is the disk of this host full?", copy.guest);
                return Err(Failure::Host(why.into()));
            }
            output.finish()?;
        }
        Ok(())
    }
}

/// Prints the output of the console as it comes, until the machine ends.
fn stream(vm: &Vm, printer: &Mutex<Printer<'_>>) {
    let mut mark = Mark::default();
    while let Ok(hit) = vm.wait_any(&mark, [Wait::output(CONSOLE), Wait::end()], FOREVER) {
        let Found::Text(_) = hit.found else { return };
        if hit.missed.bytes > 0 {
            let note = format!("{} bytes of the console are missing here: they came too fast", hit.missed.bytes);
            // They could have been results.
            locked(printer).console.lost(&note);
            tell(printer, Printed::Note(&note));
        }
        // The bytes, since the text of the hit may end within a character.
        let Ok((bytes, next)) = vm.console_from(CONSOLE, &mark) else { return };
        tell(printer, Printed::Console(&bytes));
        mark = next;
    }
}

/// Prints, and reads results.
fn tell(printer: &Mutex<Printer<'_>>, printed: Printed<'_>) {
    let mut printer = locked(printer);
    let Printer { print, console, stdout, quiet } = &mut *printer;
    match (printed, quiet) {
        (Printed::Console(bytes), Some(quiet)) => {
            console.push(bytes);
            let shown = quiet.push(bytes);
            if !shown.is_empty() {
                print(Printed::Console(&shown));
            }
            return;
        }
        (Printed::Console(bytes), None) => console.push(bytes),
        (Printed::Stdout(bytes), _) => stdout.push(bytes),
        (Printed::Stderr(_) | Printed::Note(_), _) => {}
    }
    print(printed);
}

/// Locks, also after a panic of the caller's function in another thread.
fn locked<'a, 'b>(printer: &'a Mutex<Printer<'b>>) -> MutexGuard<'a, Printer<'b>> {
    printer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes the memory of the guest to a file, and returns a message about that. Only the owner may read a new file, as one
/// that QEMU creates (QEMU, `dump/dump.c`, `qmp_dump_guest_memory`).
fn dump(vm: &Vm, path: &Path) -> Result<String, String> {
    let output = Output::create(path, FOR_OWNER).map_err(|error| error.to_string())?;
    let protocol = format!("file:{}", path_of(&output.file).display());
    let dumped = vm.execute_by(("dump-guest-memory", json!({"paging": false, "protocol": protocol})), DUMPED_WITHIN);
    dumped.map_err(|error| error.to_string())?;
    output.finish().map_err(|error| error.to_string())?;
    let file = UntrustedText::from_utf8_lossy(path.as_os_str().as_encoded_bytes());
    Ok(format!("the memory is in {file}: crash vmlinux {file}"))
}

/// Returns a text that the output of a command does not contain by chance.
pub(crate) fn mark() -> String {
    format!("kernel-test-{:016x}:", random())
}

/// Returns a random number: std seeds each hasher with random keys.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
