//! Tests of `--report`: pages of HTML of runs that pass, panic, time out, or do not start.

use std::fs;
use std::process::Command;

use qemu_machine_guest::{Accel, KernelTest, Printed, html};
use qemu_machine_tests::bounded_by;
use qemu_machine_tests::leak_check::Scratch;

use crate::exits::{FOREVER, reaching};
use crate::run::{PATIENCE, kernel, path, quietly, run, unpacked};

/// Takes the page. Asserts that its tags are balanced (Python's parser reads them) and that it has no escape sequence.
/// Returns it, and its title.
fn page(path: &str) -> (String, String) {
    let program = "import sys\n\
        from html.parser import HTMLParser\n\
        class Page(HTMLParser):\n \
          stack, title = [], ''\n \
          def handle_starttag(self, tag, attributes):\n  \
            if tag not in ('meta', 'br', 'hr', 'img', 'input', 'link', 'col', 'wbr'): self.stack.append(tag)\n \
          def handle_startendtag(self, tag, attributes): pass\n \
          def handle_endtag(self, tag): assert self.stack.pop() == tag, (tag, self.getpos())\n \
          def handle_data(self, data): self.title += data if self.stack[-1:] == ['title'] else ''\n\
        page = Page()\n\
        page.feed(open(sys.argv[1], encoding='utf-8').read())\n\
        page.close()\n\
        assert not page.stack, page.stack\n\
        print(page.title, end='')\n";
    let output = Command::new("python3").args(["-c", program, path]).output().expect("Python runs");
    assert!(output.status.success(), "{output:#?}");
    let text = fs::read_to_string(path).unwrap();
    fs::remove_file(path).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && !text.contains('\x1b'), "{} bytes", text.len());
    (text, String::from_utf8(output.stdout).unwrap())
}

fn named(name: &str) -> String {
    format!("{name}={}", kernel())
}

/// Secrets among the options of QEMU are masked.
#[test]
fn a_run_that_passes_has_a_page() {
    let scratch = Scratch::create();
    let file = path(&scratch, "page.html");
    let options = ["-k", &named("k"), "--report", &file, "--qemu-arg=-object", "--qemu-arg=secret,id=s,data=hunter22"];
    let run = quietly(&options, r"printf '\033[31mred <words>\033[0m\n'");
    assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{run:#?}");
    let (page, title) = page(&file);
    assert_eq!(title, "k: exit code 0");
    for part in ["red &lt;words&gt;", "Linux version", "-append", "query-status"] {
        assert!(page.contains(part), "no {part}");
    }
    assert!(!page.contains("hunter22") && page.contains("data=xxxxxxxx"));
}

#[test]
fn several_kernels_that_panic_have_one_page() {
    let scratch = Scratch::create();
    let file = path(&scratch, "page.html");
    let kernels = ["a", "b"].map(named);
    let options = ["-k", &kernels[0], "-k", &kernels[1], "--report", &file];
    let run = quietly(&options, "echo c > /proc/sysrq-trigger");
    assert_eq!(run.code, Some(121), "{run:#?}");
    let (page, title) = page(&file);
    assert_eq!(title, "kernel-test: 2 of 2 kernels failed");
    for name in ["a", "b"] {
        let section = format!("{name}: the kernel panicked: sysrq triggered crash");
        assert!(page.contains(&section), "no {section}");
    }
    assert!(page.matches("Kernel panic - not syncing: sysrq triggered crash").count() >= 2);
}

/// The boot alone is longer than this limit.
#[test]
fn a_record_that_is_too_long_has_the_beginning_and_the_end_of_the_run() {
    bounded_by(PATIENCE, || {
        let mut test = KernelTest::new(kernel(), ["sh", "-c", "echo last words; exit 3"]);
        (test.unpacked, test.accel, test.timeout) = (Some(unpacked()), Accel::Tcg, PATIENCE);
        test.record_limit = Some(128 << 10);
        let mut notes = String::new();
        let report = test.run(&mut |printed| {
            if let Printed::Note(note) = printed {
                notes += note;
            }
        });
        let record = report.record.as_ref().expect("the machine was recorded");
        let dropped = record.dropped();
        assert!(matches!(report.exit, Ok(3)) && dropped > 0, "{report:?}");
        assert_eq!(
            notes,
            format!("the record lacks {dropped} lines of the middle of the run, which is too long for it")
        );
        let page = html(&[report]);
        for part in ["-append", "last words", &dropped.to_string()] {
            assert!(page.contains(part), "no {part}");
        }
    });
}

/// A secret in the name of a test is masked.
#[test]
fn tests_that_failed_are_in_the_title_of_a_page() {
    let scratch = Scratch::create();
    let file = path(&scratch, "page.html");
    let secret = r"--qemu-arg={'qom-type':'secret','id':'s','data':'hunter22'}";
    let options = ["-k", &named("k"), "--report", &file, "--qemu-arg=-object", secret];
    let run = quietly(&options, "printf 'KTAP version 1\n1..3\nok 1\nnot ok 2 second\nnot ok 3 hunter22\n'");
    assert_eq!(run.code, Some(1), "{run:#?}");
    let (page, title) = page(&file);
    assert_eq!(title, "k: exit code 0; 2 of 3 tests failed: second, xxxxxxxx");
    assert!(!page.contains("hunter22"));
}

#[test]
fn a_run_that_times_out_has_a_page() {
    let scratch = Scratch::create();
    let file = path(&scratch, "page.html");
    let options = ["--accel", "tcg", "--quiet", "-k", &named("k"), "--report", &file];
    let (run, limit) = reaching(&options, "hanging", &format!("echo hanging; {FOREVER}"));
    assert_eq!(run.code, Some(124), "{run:#?}");
    let (page, title) = page(&file);
    assert_eq!(title, format!("k: the command did not end within {limit}s"));
    assert!(page.contains("hanging"));
}

#[test]
fn a_run_without_a_guest_has_a_page() {
    let scratch = Scratch::create();
    let file = path(&scratch, "page.html");
    let options = ["-k", &named("k"), "--report", &file, "--qemu-arg=-device", "--qemu-arg=nonexistent"];
    assert_eq!(quietly(&options, "true").code, Some(123));
    let (failed, title) = page(&file);
    assert!(title.starts_with("k: launch failed: "), "{title}");
    assert!(failed.contains("is not a valid device model name"));
    // Nothing was launched, so there is no record.
    let run = run(&["-k", "k=/nonexistent", "--report", &file], &["true"]);
    assert_eq!(run.code, Some(125), "{run:#?}");
    assert_eq!(page(&file).1, "k: /nonexistent: No such file or directory (os error 2)");
}
