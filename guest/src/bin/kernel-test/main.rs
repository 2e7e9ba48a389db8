//! Entry point of `kernel-test`: runs a command under one kernel or several, prints the results, returns the exit code.
//!
//! `kernel-test --help` describes the usage.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "bytes of a guest must not end the program")]

mod help;
mod options;
mod screen;
mod table;
mod terminal;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use qemu_machine_blocking::UntrustedText;
use qemu_machine_guest::{Accel, KernelTest, Report, check_outputs, html, junit, tap, write_output};

use crate::help::HELP;
use crate::options::{Call, Options};
use crate::screen::Screen;

/// The exit code for a command line that is not valid, and for results that cannot be written.
const SETUP: u8 = 125;

fn main() -> ExitCode {
    let code = match options::read(std::env::args_os().skip(1)) {
        Ok(Call::Run(options)) => match check_outputs(options.outputs()) {
            Ok(()) if options.dry_run => dry_run(&options),
            Ok(()) => run(&options),
            Err(failure) => complain(&failure.to_string()),
        },
        Ok(Call::Help) => say(HELP),
        Ok(Call::Version) => say(concat!("kernel-test ", env!("CARGO_PKG_VERSION"))),
        Err(error) => complain(&format!("{}; see `kernel-test --help`", UntrustedText::from(error.to_string()))),
    };
    ExitCode::from(code)
}

/// Prints a text, and returns the exit code.
fn say(text: &str) -> u8 {
    if writeln!(stdout(), "{text}").is_ok() { 0 } else { SETUP }
}

fn complain(text: &str) -> u8 {
    Screen::new(1, false).complain("", text);
    SETUP
}

fn dry_run(options: &Options) -> u8 {
    let codes = options.tests.iter().map(|test| match test.command_line() {
        Ok(line) => {
            let line = format!("{line:#}");
            let code = say(&line);
            explain(test, &line);
            code
        }
        Err(failure) => complain(&failure.to_string()),
    });
    codes.max().unwrap_or_default()
}

/// Prints what the command line of a dry run does not show.
fn explain(test: &KernelTest, line: &str) {
    let mut screen = Screen::new(1, false);
    if test.save_initramfs.is_none() {
        screen.complain("", "INITRAMFS stands for a file: --save-initramfs FILE writes it");
    }
    if line.contains(",mount_tag=share") {
        screen.complain("", "directories are shared by 9p here: a run also starts a virtiofsd, if it can");
    }
    if test.accel == Accel::Auto && line.contains(" -accel kvm ") {
        screen.complain("", "where KVM does not work, a run uses TCG: --accel tcg prints that command line");
    }
}

/// Runs all tests, and returns the exit code.
fn run(options: &Options) -> u8 {
    let screen = Mutex::new(Screen::new(options.tests.len(), options.tap));
    let reports = run_all(options, &screen);
    let mut screen = screen.into_inner().unwrap_or_else(PoisonError::into_inner);
    if reports.len() > 1 {
        let table = table::table(&reports, &screen);
        screen.results(&table);
    }
    for report in &reports {
        if let Some(failed) = table::failed(report) {
            screen.complain(&report.name, &failed);
        }
    }
    let mut written = 0;
    if options.tap {
        let mut stdout = stdout().lock();
        if let Err(error) = stdout.write_all(tap(&reports).as_bytes()).and_then(|()| stdout.flush()) {
            written = complain(&format!("the results were not written: {error}"));
        }
    }
    let files = [(&options.junit, junit as fn(&[Report]) -> String), (&options.report, html)];
    for (path, content) in files.into_iter().filter_map(|(path, content)| path.as_ref().zip(Some(content))) {
        if let Err(failure) = write_output(path, content(&reports).as_bytes()) {
            written = complain(&failure.to_string());
        }
    }
    reports.iter().map(Report::code).find(|code| *code != 0).unwrap_or(written)
}

/// Runs the tests, as many at once as there are jobs, and returns their reports in the order of the tests.
fn run_all(options: &Options, screen: &Mutex<Screen>) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(test) = options.tests.get(number) else { return };
            let report = test.run(&mut |printed| locked(screen).print(&test.name, printed));
            let mut screen = locked(screen);
            screen.end(&test.name);
            if let Err(failure) = &report.exit {
                screen.complain(&test.name, &failure.to_string());
            }
            drop(screen);
            locked(&reports).push((number, report));
        }
    };
    thread::scope(|threads| {
        for _ in 1..options.jobs.min(options.tests.len()) {
            threads.spawn(work);
        }
        work();
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|(number, _)| *number);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// Locks, also after a panic in another thread: what is locked is complete between two calls.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
