//! Tests of the guest image: its bytes are what its source assembles to, and a real QEMU runs it as documented.

use std::fs::{DirBuilder, read, remove_dir_all, write};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

use qemu_machine_tests::guest::{
    ASSEMBLY, CODE_OFFSET, EXIT_CODE, EXITING, FLOOD_BYTES, FLOOD_LINES, FLOODED, GREETING, HANGING, IMAGE_BYTES,
    ImageFile, Letter, PANICKING, POWERING_OFF, RESET_VECTOR_OFFSET, RESETTING, arguments, flood_line, image,
};

/// Deadline of each test, for all waits together.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn bytes_are_what_the_source_assembles_to() {
    let assembled = assemble();
    if image()[CODE_OFFSET..] == assembled {
        return;
    }
    let (code, reset) = assembled.split_at(RESET_VECTOR_OFFSET - CODE_OFFSET);
    panic!(
        "guest.rs does not hold what guest/bios.s assembles to; it should be:\n\n\
         const RESET_VECTOR: [u8; 5] = [{}];\n\n\
         const CODE: &[u8] = &[\n{}];\n",
        hexadecimal(&reset[..5]),
        without_filler(code).chunks(16).map(|row| format!("    {},\n", hexadecimal(row))).collect::<String>(),
    );
}

#[test]
fn image_has_the_documented_layout() {
    let image = image();
    assert_eq!(image.len(), IMAGE_BYTES);
    assert_eq!(IMAGE_BYTES, 64 * 1024);
    let jump = &image[RESET_VECTOR_OFFSET..];
    assert_eq!(jump[0], 0xea, "a far jump");
    let offset = usize::from(u16::from_le_bytes([jump[1], jump[2]]));
    let segment = usize::from(u16::from_le_bytes([jump[3], jump[4]]));
    assert_eq!(segment * 16 + offset, 0xf_0000 + CODE_OFFSET);
}

#[test]
fn flood_lines_are_a_mebibyte() {
    let all: Vec<u8> = (0..FLOOD_LINES).flat_map(flood_line).collect();
    assert_eq!(all.len(), FLOOD_BYTES);
    assert_eq!(FLOOD_BYTES, 1024 * 1024);
    assert!(flood_line(0xabc).starts_with(b"00000abc "));
    assert!(flood_line(0).ends_with(b"\r\n"));
}

#[test]
fn image_file_is_private_and_removed() {
    let first = ImageFile::create().unwrap();
    let second = ImageFile::create().unwrap();
    assert_ne!(first.path(), second.path());
    let path = PathBuf::from(first.path());
    assert_eq!(read(&path).unwrap(), image());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    drop(first);
    assert!(!path.exists());
}

#[test]
fn echoes_every_byte_but_the_letters() {
    let mut guest = Guest::start(&[]);
    let bytes: Vec<u8> = (0..=u8::MAX).filter(|b| !b"prcxfh".contains(b)).collect();
    guest.send(&bytes);
    assert_eq!(guest.take(bytes.len()), bytes);
}

#[test]
fn reads_input_that_was_sent_before_it_runs() {
    let mut guest = Guest::launch(&[]);
    guest.send(b"!");
    assert_eq!(guest.line(), GREETING);
    assert_eq!(guest.take(1), b"!");
}

#[test]
fn powers_off() {
    let mut guest = Guest::start(&[]);
    guest.order(Letter::PowerOff);
    assert_eq!(guest.line(), POWERING_OFF);
    assert_eq!(guest.exit_code(), Some(0));
}

#[test]
fn exits() {
    let mut guest = Guest::start(&[]);
    guest.order(Letter::Exit);
    assert_eq!(guest.line(), EXITING);
    assert_eq!(guest.exit_code(), Some(EXIT_CODE));
}

#[test]
fn greets_again_after_a_reset() {
    let mut guest = Guest::start(&[]);
    guest.order(Letter::Reset);
    assert_eq!(guest.line(), RESETTING);
    assert_eq!(guest.line(), GREETING);
    guest.send(b"!");
    assert_eq!(guest.take(1), b"!");
}

#[test]
fn ends_at_a_reset_with_no_reboot() {
    let mut guest = Guest::start(&["-no-reboot"]);
    guest.order(Letter::Reset);
    assert_eq!(guest.line(), RESETTING);
    assert_eq!(guest.exit_code(), Some(0));
}

#[test]
fn goes_on_after_a_panic_that_qemu_ignores() {
    let mut guest = Guest::start(&["-action", "panic=none"]);
    guest.order(Letter::Panic);
    assert_eq!(guest.line(), PANICKING);
    guest.send(b"!");
    assert_eq!(guest.take(1), b"!");
}

#[test]
fn reports_that_it_hangs() {
    let mut guest = Guest::start(&[]);
    guest.order(Letter::Hang);
    assert_eq!(guest.line(), HANGING);
}

#[test]
fn floods_without_losing_a_byte() {
    let mut guest = Guest::start(&[]);
    guest.order(Letter::Flood);
    for number in 0..FLOOD_LINES {
        let line = guest.take(64);
        assert_eq!(line, flood_line(number), "line {number}: {:?}", String::from_utf8_lossy(&line));
    }
    assert_eq!(guest.line(), FLOODED);
    guest.send(b"!");
    assert_eq!(guest.take(1), b"!");
}

/// A QEMU that runs the guest, with its serial port on pipes.
struct Guest {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    /// Bytes that were received and not yet returned.
    received: Vec<u8>,
    deadline: Instant,
    _image: ImageFile,
}

impl Guest {
    /// Starts QEMU and waits for the greeting.
    fn start(more: &[&str]) -> Self {
        let mut guest = Self::launch(more);
        assert_eq!(guest.line(), GREETING);
        guest
    }

    fn launch(more: &[&str]) -> Self {
        let image = ImageFile::create().unwrap();
        let mut child = Command::new("qemu-system-x86_64")
            .args(arguments(image.path()))
            .args(["-accel", "tcg", "-display", "none", "-monitor", "none"])
            .args(["-serial", "stdio"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| match error.kind() {
                ErrorKind::NotFound => {
                    panic!("qemu-system-x86_64 is missing: apt-get install qemu-system-x86")
                }
                _ => panic!("cannot start qemu-system-x86_64: {error}"),
            });
        let input = child.stdin.take().unwrap();
        let output = chunks_of(child.stdout.take().unwrap());
        Self { child, input, output, received: Vec::new(), deadline: Instant::now() + PATIENCE, _image: image }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).unwrap();
    }

    fn order(&mut self, letter: Letter) {
        self.send(&[letter.byte()]);
    }

    /// Returns the next line, without its end.
    fn line(&mut self) -> String {
        loop {
            if let Some(length) = self.received.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(length + 2);
                return String::from_utf8_lossy(&line[..length]).into_owned();
            }
            assert!(self.receive(), "QEMU ended within {:?}", self.received);
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.receive(), "QEMU ended within {:?}", self.received);
        }
        self.received.drain(..length).collect()
    }

    /// Returns the exit code of QEMU, and asserts that the guest prints nothing more.
    fn exit_code(&mut self) -> Option<i32> {
        while self.receive() {}
        assert_eq!(String::from_utf8_lossy(&self.received), "");
        // Only the end of QEMU closes its output, so this returns at once.
        self.child.wait().unwrap().code()
    }

    /// Waits for more output. `false` means the end of the output. Panics at the deadline, which kills QEMU.
    fn receive(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.output.recv_timeout(left) {
            Ok(chunk) => {
                self.received.extend(chunk);
                true
            }
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => {
                panic!("nothing more in {PATIENCE:?} than {:?}", String::from_utf8_lossy(&self.received))
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The kill fails only if QEMU has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads in a thread, so that a wait for output can have a deadline. The thread ends with the output, and thus with
/// QEMU.
fn chunks_of(mut output: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// A directory that is removed with its contents, also when the test fails.
struct Directory(PathBuf);

impl Directory {
    fn create() -> Self {
        let name = format!("qemu-machine-assembly-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}

/// Assembles [`ASSEMBLY`], and returns the image from [`CODE_OFFSET`] on.
fn assemble() -> Vec<u8> {
    let directory = Directory::create();
    let at = |name: &str| directory.0.join(name);
    write(at("bios.s"), ASSEMBLY).unwrap();
    run(&directory.0, "as", &["--32", "--fatal-warnings", "-o", "bios.o", "bios.s"]);
    run(&directory.0, "objcopy", &["-O", "binary", "bios.o", "bios.bin"]);
    read(at("bios.bin")).unwrap()
}

fn run(directory: &Path, tool: &str, arguments: &[&str]) {
    let mut command = Command::new(tool);
    match command.args(arguments).current_dir(directory).status() {
        Ok(status) => assert!(status.success(), "`{tool}` failed: {status}"),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("`{tool}` is missing: apt-get install binutils")
        }
        Err(error) => panic!("cannot start `{tool}`: {error}"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:#04x}")).collect();
    bytes.join(", ")
}

fn without_filler(code: &[u8]) -> &[u8] {
    let end = code.iter().rposition(|&byte| byte != 0xf4);
    &code[..end.map_or(0, |last| last + 1)]
}
