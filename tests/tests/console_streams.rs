//! Tests of consoles as byte streams in tasks: nothing is lost with back-pressure, and what is lost without it is counted.

use std::io::ErrorKind;
use std::time::Duration;

use qemu_machine_core::{Cause, Config, Limits, Mark, Misuse};
use qemu_machine_tests::guest::{
    FLOOD_BYTES, FLOOD_LINES, FLOODED, GREETING, ImageFile, Letter, POWERING_OFF, arguments, flood_line,
};
use qemu_machine_tests::{bounded_by, qemu};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A mebibyte through an emulated serial port takes seconds.
const LONG: Duration = Duration::from_secs(60);

/// The letters that make the guest print a mebibyte and power off. The second letter stays in the serial port until the
/// guest is done with the first.
const LETTERS: [Letter; 2] = [Letter::Flood, Letter::PowerOff];

fn config(image: &ImageFile, limit: usize) -> Config {
    let mut limits = Limits::default();
    limits.console = limit;
    Config::new(qemu()).args(["-accel", "tcg"]).args(arguments(image.path())).serial("tty").limits(limits)
}

/// Returns everything that the guest prints.
fn printed() -> Vec<u8> {
    let flood = (0..FLOOD_LINES).flat_map(flood_line);
    let [first, last] = [format!("{GREETING}\r\n"), format!("{FLOODED}\r\n{POWERING_OFF}\r\n")];
    first.into_bytes().into_iter().chain(flood).chain(last.into_bytes()).collect()
}

/// A program that prints this many bytes to its console as fast as they are read, once it has read one.
const FAST: usize = 4 << 20;

const FAST_PROGRAM: &str = r#"
for argument; do
    case $argument in socket,fd=*) console=${argument#socket,fd=}; console=${console%%,*} ;; esac
done
head -c 1 <&"$console" >/dev/null
yes | head -c 4194304 >&"$console"
"#;

macro_rules! streams {
    ($row:ident, $runtime:ident, $block_on:expr) => {
        mod $row {
            use super::*;
            use ::$runtime::{Console, Vm};

            /// The reader gets 4 KiB in each turn of the executor, and the driver could read 256 KiB.
            #[test]
            fn a_stream_with_back_pressure_loses_nothing() {
                bounded_by(2 * LONG, || {
                    $block_on(async {
                        let mut limits = Limits::default();
                        limits.console = 768 << 10;
                        let program = Config::new("unused").wrapper(["bash", "-c", FAST_PROGRAM, "bash"]);
                        let config = program.with_display().with_vga().without_monitor().serial("tty").limits(limits);
                        let vm = Vm::launch(config).await.expect("bash starts");
                        let tty = Console::open(&vm, "tty", &Mark::default()).expect("it has that console");
                        let mut tty = tty.with_back_pressure().expect("its limit suffices");
                        tty.write_all(b"x").await.expect("bash reads it");
                        let (mut count, mut buffer) = (0, [0; 4096]);
                        loop {
                            let read = tty.read(&mut buffer).await.expect("nothing is lost");
                            let expected = b"y\n".iter().cycle().skip(count % 2);
                            assert!(buffer[..read].iter().eq(expected.take(read)));
                            count += read;
                            if read == 0 {
                                break;
                            }
                            smol::future::yield_now().await;
                        }
                        let outcome = vm.wait(LONG).await.expect("the program ends");
                        assert_eq!(count, FAST, "{outcome}");
                        vm.wait(LONG).await.expect("the program ends");
                        let end = tty.write_all(b"x").await.map_err(|error| error.kind());
                        assert_eq!(end, Err(ErrorKind::BrokenPipe));
                    })
                });
            }

            #[test]
            fn a_stream_without_back_pressure_counts_what_is_lost() {
                bounded_by(2 * LONG, || {
                    $block_on(async {
                        let image = ImageFile::create().expect("there is room");
                        let vm = Vm::launch(config(&image, 1000)).await.expect("QEMU starts");
                        let tty = || Console::open(&vm, "tty", &Mark::default()).expect("it has that console");
                        let refused = tty().with_back_pressure().map(drop);
                        assert!(matches!(refused, Err(Misuse::Config(_))), "{refused:?}");
                        let mut tty = tty();
                        tty.write_all(&LETTERS.map(Letter::byte)).await.expect("the guest runs");
                        assert_eq!(vm.wait(LONG).await.expect("the guest powers off").cause, Cause::PowerOff);
                        let lost = tty.read(&mut [0; 10]).await.expect_err("the console holds 1000 bytes");
                        assert_eq!(lost.kind(), ErrorKind::InvalidData);
                        let count = (printed().len() - 1000).to_string();
                        assert!(lost.to_string().starts_with(&count), "{lost}");
                        let mut late = Console::open(&vm, "tty", &Mark::default()).expect("it has that console");
                        let lost = late.read(&mut [0; 10]).await.expect_err("it is opened too late");
                        assert!(lost.to_string().starts_with(&count), "{lost}");
                        let mut rest = Vec::new();
                        tty.read_to_end(&mut rest).await.expect("the rest is there");
                        assert!(printed().ends_with(&rest) && rest.len() == 1000);
                        assert!(FLOOD_BYTES > 1000);
                    })
                });
            }

            /// The end of each run is the end of a stream once, whether it had read the run or not.
            #[test]
            fn a_stream_reads_one_run_after_another() {
                bounded_by(2 * LONG, || {
                    $block_on(async {
                        let image = ImageFile::create().expect("there is room");
                        let vm = Vm::launch(config(&image, 1 << 20)).await.expect("QEMU starts");
                        let open = || Console::open(&vm, "tty", &Mark::default()).expect("it has that console");
                        let (mut read, mut unread) = (open(), open());
                        for _ in 0..3 {
                            read.write_all(&[Letter::PowerOff.byte()]).await.expect("the guest runs");
                            let mut all = String::new();
                            read.read_to_string(&mut all).await.expect("the guest powers off");
                            assert_eq!(all, format!("{GREETING}\r\n{POWERING_OFF}\r\n"));
                            vm.wait(LONG).await.expect("the guest powers off");
                            vm.relaunch().await.expect("QEMU starts again");
                        }
                        assert_eq!(unread.read(&mut [0; 10]).await.expect("it reads the last run"), 0);
                        let mut greeting = vec![0; GREETING.len()];
                        unread.read_exact(&mut greeting).await.expect("the guest prints");
                        assert_eq!(greeting, GREETING.as_bytes());
                    })
                });
            }

            /// A stream that waits is woken by each piece of output, and by the end of the run.
            #[test]
            fn a_stream_follows_the_guest() {
                bounded_by(2 * LONG, || {
                    $block_on(async {
                        let image = ImageFile::create().expect("there is room");
                        let vm = Vm::launch(config(&image, 1 << 20)).await.expect("QEMU starts");
                        let mut tty = Console::open(&vm, "tty", &Mark::default()).expect("it has that console");
                        let mut read = vec![0; GREETING.len() + 2];
                        tty.read_exact(&mut read).await.expect("the guest prints");
                        assert_eq!(read, format!("{GREETING}\r\n").as_bytes());
                        tty.write_all(&[Letter::PowerOff.byte()]).await.expect("the guest runs");
                        let mut rest = String::new();
                        tty.read_to_string(&mut rest).await.expect("the guest powers off");
                        assert_eq!(rest, format!("{POWERING_OFF}\r\n"));
                        assert!(Console::open(&vm, "other", &Mark::default()).is_err());
                    })
                });
            }
        }
    };
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    runtime.block_on(future)
}

streams!(on_tokio, qemu_machine_tokio, block_on);
streams!(on_smol, qemu_machine_smol, smol::block_on);
