//! A run: builds the initramfs, launches the guest, prints what comes, and waits for the end of the command.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf, absolute};
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use qemu_machine_blocking::{FOREVER, Found, Mark, Vm, Wait, json};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::agent;
use crate::failure::Failure;
use crate::guest_reports::{GuestReport, GuestReports};
use crate::initramfs;
use crate::kernel_test::{CopyOut, KernelTest, Printed};
use crate::ktap::Parser;
use crate::machine::CONSOLE;
use crate::report::Report;

/// The time in which QEMU writes the memory of the guest: a slow disk writes a GiB in ten seconds.
const DUMPED_WITHIN: Duration = Duration::from_secs(600);

/// What a run prints, and the parser that reads it as well. Two threads print with the agent.
struct Printer<'a> {
    print: &'a mut (dyn FnMut(Printed<'_>) + Send),
    parser: Parser,
}

impl KernelTest {
    /// Runs the command in the guest, and returns when the machine has ended. What the guest prints is passed to `print`
    /// meanwhile, by another thread.
    pub fn run(&self, print: &mut (dyn FnMut(Printed<'_>) + Send)) -> Report {
        let begin = Instant::now();
        let printer = Mutex::new(Printer { print, parser: Parser::default() });
        let exit = self.exit(begin, &printer);
        let parser = printer.into_inner().unwrap_or_else(PoisonError::into_inner).parser;
        Report { name: self.name.clone(), exit, cases: parser.finish(), elapsed: begin.elapsed() }
    }

    fn exit(&self, begin: Instant, printer: &Mutex<Printer<'_>>) -> Result<u8, Failure> {
        let mark = mark();
        let archive = initramfs::build(self, &mark)?;
        let unnamed = self.save_initramfs.is_none().then(|| unnamed(&archive)).transpose()?;
        let initramfs = match (&self.save_initramfs, &unnamed) {
            (Some(path), _) => {
                fs::write(path, &archive).map(|()| path.clone()).map_err(|why| Failure::file(path, why))?
            }
            // The file has no name, so QEMU opens it through this process (`proc(5)`).
            (None, file) => {
                let number = file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
                format!("/proc/{}/fd/{number}", process::id()).into()
            }
        };
        drop(archive);
        let files = self.copies.first().map(|first| Received::beside(&first.host)).transpose()?;
        let path = files.as_ref().map(|files| files.0.as_path());
        let vm = self.launch(&initramfs, path, &mut |printed: Printed<'_>| tell(printer, printed))?;
        if let Some(port) = self.gdb {
            let how = format!("waiting for gdb: gdb vmlinux -ex 'target remote 127.0.0.1:{port}' -ex continue");
            tell(printer, Printed::Note(&how));
        }
        thread::scope(|threads| {
            threads.spawn(|| stream(&vm, printer));
            let limit = self.gdb.is_none().then_some(self.timeout);
            let mut reports = GuestReports::new(&vm, &mark, begin, limit);
            let exit = self.watch(&vm, &mut reports, printer, files.as_ref());
            if let (Err(Failure::Panicked(_)), Some(path)) = (&exit, &self.dump) {
                let dumped = dump(&vm, path).unwrap_or_else(|why| format!("the memory was not dumped: {why}"));
                tell(printer, Printed::Note(&dumped));
            }
            // This guest has no data to save, so it is killed. That ends `stream`, after the console was read to its end.
            drop(vm.kill());
            exit
        })
    }

    /// Waits for the end of the command, and returns its exit code.
    fn watch(
        &self,
        vm: &Vm,
        reports: &mut GuestReports<'_>,
        printer: &Mutex<Printer<'_>>,
        files: Option<&Received>,
    ) -> Result<u8, Failure> {
        let mut sizes = Vec::new();
        loop {
            match reports.next()? {
                GuestReport::Ready if self.agent => {
                    let (end, code) = agent::run(vm, reports)?;
                    tell(printer, Printed::Stdout(&end.stdout));
                    tell(printer, Printed::Stderr(&end.stderr));
                    return Ok(code);
                }
                GuestReport::Ready => {}
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

/// The file into which QEMU writes what comes on the third serial port. It is removed when this is dropped.
struct Received(PathBuf);

impl Received {
    /// A file beside the first copy, on whose file system there must be room anyway.
    fn beside(host: &Path) -> Result<Self, Failure> {
        let mut path = absolute(host).map_err(|error| Failure::file(host, error))?.into_os_string();
        path.push(format!(".kernel-test-{}-{:x}", process::id(), random()));
        Ok(Self(path.into()))
    }

    /// Writes the copies. `sizes` has the number of bytes of each, one after the other.
    fn distribute(&self, copies: &[CopyOut], sizes: &[Option<u64>]) -> Result<(), Failure> {
        let mut received = File::open(&self.0).map_err(|error| Failure::file(&self.0, error))?;
        for (copy, size) in copies.iter().zip(sizes) {
            let size = size.ok_or_else(|| Failure::Guest(format!("there is no file {}", copy.guest).into()))?;
            let mut file = File::create(&copy.host).map_err(|error| Failure::file(&copy.host, error))?;
            let copied = std::io::copy(&mut Read::by_ref(&mut received).take(size), &mut file);
            let copied = copied.map_err(|error| Failure::file(&copy.host, error))?;
            if copied != size {
                let why = format!("{} came with {copied} of {size} bytes: is the disk of this host full?", copy.guest);
                return Err(Failure::Host(why.into()));
            }
        }
        Ok(())
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // QEMU may not have created it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Prints the output of the console as it comes, until the machine ends.
fn stream(vm: &Vm, printer: &Mutex<Printer<'_>>) {
    let mut mark = Mark::default();
    while let Ok(hit) = vm.wait_any(&mark, [Wait::output(CONSOLE), Wait::end()], FOREVER) {
        let Found::Text(_) = hit.found else { return };
        if hit.missed.bytes > 0 {
            let note = format!("{} bytes of the console are missing here: they came too fast", hit.missed.bytes);
            tell(printer, Printed::Note(&note));
        }
        // The bytes, since the text of the hit may end within a character.
        let Ok((bytes, next)) = vm.console_from(CONSOLE, &mark) else { return };
        tell(printer, Printed::Console(&bytes));
        mark = next;
    }
}

/// Prints, also after a panic of the caller's function in another thread.
fn tell(printer: &Mutex<Printer<'_>>, printed: Printed<'_>) {
    let mut printer = printer.lock().unwrap_or_else(PoisonError::into_inner);
    if let Printed::Console(bytes) | Printed::Stdout(bytes) = printed {
        printer.parser.push(bytes);
    }
    (printer.print)(printed);
}

/// Writes the memory of the guest to a file, and returns a message about that.
fn dump(vm: &Vm, path: &Path) -> Result<String, String> {
    let path = absolute(path).map_err(|error| error.to_string())?;
    let file = path.to_str().ok_or("the path is not UTF-8")?;
    let arguments = json!({"paging": false, "protocol": format!("file:{file}")});
    let dumped = vm.execute_by(("dump-guest-memory", arguments), DUMPED_WITHIN);
    dumped.map_err(|error| error.to_string())?;
    Ok(format!("the memory is in {file}: crash vmlinux {file}"))
}

/// Returns a file without a name, so that nothing is left of it however this program ends.
fn unnamed(content: &[u8]) -> Result<File, Failure> {
    let file = memfd_create("initramfs", MemfdFlags::CLOEXEC).map(File::from);
    let written = file.map_err(std::io::Error::from).and_then(|mut file| file.write_all(content).map(|()| file));
    written.map_err(|error| Failure::Host(format!("cannot write the initramfs: {error}").into()))
}

/// Returns a text that the output of a command does not contain by chance.
fn mark() -> String {
    format!("kernel-test-{:016x}:", random())
}

/// Returns a random number: std seeds each hasher with random keys.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
