//! Command line of `kernel-test`.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use lexopt::prelude::*;
use qemu_machine_guest::{Accel, CopyOut, Disk, KernelTest, Share, ShareBy, default_kernel};

/// The variable with the default of `--unpacked`.
const UNPACKED: &str = "KERNEL_TEST_UNPACKED";

/// The default port of gdb's remote protocol in QEMU (`qemu(1)`, `-s`).
const GDB: u16 = 1234;

/// The kind of a call.
#[derive(Debug)]
pub(crate) enum Call {
    Run(Box<Options>),
    Help,
    Version,
}

/// The options of one call.
#[derive(Debug)]
pub(crate) struct Options {
    /// One for each kernel.
    pub(crate) tests: Vec<KernelTest>,
    /// The number of kernels that run at once.
    pub(crate) jobs: usize,
    /// The file for JUnit XML. `None` means that there is none.
    pub(crate) junit: Option<PathBuf>,
    /// The file for the page of HTML. `None` means that there is none.
    pub(crate) report: Option<PathBuf>,
    pub(crate) tap: bool,
    pub(crate) dry_run: bool,
}

impl Options {
    /// Returns all files that this call writes.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = &Path> {
        self.tests.iter().flat_map(KernelTest::outputs).chain(self.junit.as_deref()).chain(self.report.as_deref())
    }
}

/// Reads the arguments. Everything after `--`, or from the first word on that is no option, is the command.
pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Call, lexopt::Error> {
    // The kernel and the command are set at the end.
    let mut test = KernelTest::new("", Vec::<OsString>::new());
    test.unpacked = env::var_os(UNPACKED).map(PathBuf::from);
    let mut kernels: Vec<OsString> = Vec::new();
    let mut options = Options { tests: Vec::new(), jobs: 1, junit: None, report: None, tap: false, dry_run: false };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Call::Help),
            Short('V') | Long("version") => return Ok(Call::Version),
            Short('k') | Long("kernel") => kernels.push(parser.value()?),
            Short('j') | Long("jobs") => options.jobs = at_least_one(parser.value()?.parse()?)?,
            Long("junit") => options.junit = Some(parser.value()?.into()),
            Long("report") => options.report = Some(parser.value()?.into()),
            Long("tap") => options.tap = true,
            Long("dry-run") => options.dry_run = true,
            Value(word) => {
                test.command.push(word);
                test.command.extend(parser.raw_args()?);
            }
            other => match name_of(&other) {
                Some(name) => choose(&mut test, &name, &mut parser)?,
                None => return Err(other.unexpected()),
            },
        }
    }
    if test.command.is_empty() {
        return Err("the command is missing: write it after `--`".into());
    }
    test.record_limit = options.report.is_some().then_some(KernelTest::RECORD_LIMIT);
    options.tests = tests(&test, kernels)?;
    if options.tests.len().min(options.jobs) > 1 && test.disks.iter().any(|disk| disk.is_persistent) {
        return Err("--disk IMAGE:rw is for one guest at a time: use --jobs 1, or leave out `:rw`".into());
    }
    Ok(Call::Run(Box::new(options)))
}

/// Returns the long name of an option. `None` means that it has none.
fn name_of(argument: &lexopt::Arg<'_>) -> Option<String> {
    let name = match argument {
        Long(name) => name,
        Short('a') => "append",
        Short('m') => "memory",
        Short('c') => "cpus",
        Short('t') => "timeout",
        Short('q') => "quiet",
        Short(_) | Value(_) => return None,
    };
    Some(name.to_owned())
}

/// Sets what an option says about the guest.
fn choose(test: &mut KernelTest, name: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
    match name {
        "append" => test.append.push(parser.value()?.string()?),
        "memory" => test.memory = parser.value()?,
        "cpus" => test.cpus = at_least_one(parser.value()?.parse()?)?,
        "timeout" => test.timeout = seconds(&parser.value()?)?,
        "accel" => test.accel = accel(&parser.value()?)?,
        "agent" => test.agent = true,
        "qemu" => test.qemu = parser.value()?,
        "qemu-arg" => test.qemu_args.push(parser.value()?),
        "initrd" => test.initrd = Some(parser.value()?.into()),
        "share" => test.shares.push(share(&parser.value()?)?),
        "share-by" => test.share_by = share_by(&parser.value()?)?,
        "virtiofsd" => test.virtiofsd = Some(parser.value()?.into()),
        "disk" => test.disks.push(disk(&parser.value()?)),
        "copy-out" => test.copies.push(copy(parser.value()?)?),
        "module" => test.modules.push(parser.value()?.string()?),
        "modules" => test.module_tree = Some(parser.value()?.into()),
        "busybox" => test.busybox = Some(parser.value()?.into()),
        "unpacked" => test.unpacked = Some(parser.value()?.into()),
        "save-initramfs" => test.save_initramfs = Some(parser.value()?.into()),
        "quiet" => test.quiet = true,
        "dump" => test.dump = Some(parser.value()?.into()),
        "gdb" => test.gdb = Some(gdb(parser)?),
        name => return Err(Long(name).unexpected()),
    }
    Ok(())
}

/// Returns a test for each kernel. The names differ, also as the extensions of files.
fn tests(test: &KernelTest, mut kernels: Vec<OsString>) -> Result<Vec<KernelTest>, lexopt::Error> {
    if kernels.is_empty() {
        let found = default_kernel(test.unpacked.as_deref());
        kernels.push(found.map_err(|why| format!("no kernel is given (-k): {why}"))?.into());
    }
    if kernels.len() > 1 && test.gdb.is_some() {
        return Err("--gdb is for one kernel".into());
    }
    let is_matrix = kernels.len() > 1;
    let mut names = BTreeSet::new();
    let tests = kernels.into_iter().map(|kernel| {
        let mut test = test.clone();
        (test.name, test.kernel) = named(&kernel);
        let extension = test.name.replace('/', "_");
        if is_matrix {
            let written = test.copies.iter_mut().map(|copy| &mut copy.host);
            for path in written.chain(&mut test.dump).chain(&mut test.save_initramfs) {
                path.as_mut_os_string().push(format!(".{extension}"));
            }
        }
        if names.insert(extension.clone()) {
            return Ok(test);
        }
        Err(format!("two kernels have the name `{extension}`: give each another one, as in -k NAME=FILE").into())
    });
    tests.collect()
}

/// Returns the name and the path of a kernel: `NAME=FILE`, or a file, whose name may have a `=`.
fn named(kernel: &OsStr) -> (String, PathBuf) {
    let bytes = kernel.as_bytes();
    let path = match bytes.iter().position(|byte| *byte == b'=').filter(|_| !Path::new(kernel).exists()) {
        Some(at) => {
            let name = String::from_utf8_lossy(&bytes[..at]).into_owned();
            return (name, OsStr::from_bytes(&bytes[at + 1..]).into());
        }
        None => PathBuf::from(kernel),
    };
    (path.file_name().unwrap_or(kernel).to_string_lossy().into_owned(), path)
}

/// Reads the port of `--gdb=PORT`, or returns the default. A port in the next argument would be the command.
fn gdb(parser: &mut lexopt::Parser) -> Result<u16, lexopt::Error> {
    if let Some(port) = parser.optional_value() {
        return at_least_one(port.parse()?);
    }
    let next = parser.try_raw_args().and_then(|arguments| arguments.peek().map(OsStr::to_owned)).unwrap_or_default();
    let port = next.to_str().and_then(|next| next.rsplit(':').next()).unwrap_or_default();
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the port of --gdb follows a `=`: --gdb={port}").into());
    }
    Ok(GDB)
}

fn at_least_one<N: PartialEq + Default>(number: N) -> Result<N, lexopt::Error> {
    if number == N::default() { Err("0 is too few".into()) } else { Ok(number) }
}

fn accel(word: &OsStr) -> Result<Accel, lexopt::Error> {
    match word.to_str() {
        Some("auto") => Ok(Accel::Auto),
        Some("kvm") => Ok(Accel::Kvm),
        Some("tcg") => Ok(Accel::Tcg),
        _ => Err("--accel is auto, kvm or tcg".into()),
    }
}

fn seconds(text: &OsStr) -> Result<Duration, lexopt::Error> {
    let seconds = text.to_str().and_then(|text| text.parse::<f64>().ok());
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "--timeout is a number of seconds".into())
}

fn share_by(word: &OsStr) -> Result<ShareBy, lexopt::Error> {
    match word.to_str() {
        Some("auto") => Ok(ShareBy::Auto),
        Some("virtiofs") => Ok(ShareBy::Virtiofs),
        Some("9p") => Ok(ShareBy::NineP),
        _ => Err("--share-by is auto, virtiofs or 9p".into()),
    }
}

/// Reads `DIR[:GUEST][:ro]`. `GUEST` begins at the last `:/`, so a directory may have colons.
fn share(text: &OsStr) -> Result<Share, lexopt::Error> {
    let (text, is_read_only) = match text.as_bytes().strip_suffix(b":ro") {
        Some(text) => (text, true),
        None => (text.as_bytes(), false),
    };
    let colon = text.windows(2).rposition(|pair| pair == b":/");
    let directory = absolute(OsStr::from_bytes(&text[..colon.unwrap_or(text.len())]));
    let directory = directory.map_err(|error| format!("--share: {error}"))?;
    if colon.is_none() && text.contains(&b':') && !directory.exists() {
        let text = String::from_utf8_lossy(text);
        return Err(format!("--share: there is no directory `{text}`, and a path in the guest begins with `/`").into());
    }
    let guest = match colon {
        Some(at) => String::from_utf8(text[at + 1..].to_vec()).ok(),
        None => directory.to_str().map(str::to_owned),
    };
    let guest = guest.ok_or("--share: a path in the guest is UTF-8")?;
    Ok(Share { directory, guest, is_read_only })
}

/// Reads `IMAGE[:rw]`. At the end, `\:rw` is `:rw` in the name of the image.
fn disk(text: &OsStr) -> Disk {
    let text = text.as_bytes();
    let (image, is_persistent) = match (text.strip_suffix(br"\:rw"), text.strip_suffix(b":rw")) {
        (Some(image), _) => ([image, b":rw"].concat(), false),
        (None, Some(image)) => (image.to_vec(), true),
        (None, None) => (text.to_vec(), false),
    };
    Disk { image: OsString::from_vec(image).into(), is_persistent }
}

/// Reads `GUEST:HOST`. In `GUEST`, `\:` is a colon, and `\\` is a backslash.
fn copy(text: OsString) -> Result<CopyOut, lexopt::Error> {
    let text = text.into_vec();
    let (mut guest, mut rest) = (Vec::new(), text.as_slice());
    loop {
        rest = match rest {
            [b'\\', byte @ (b':' | b'\\'), rest @ ..] => {
                guest.push(*byte);
                rest
            }
            [b':', host @ ..] => {
                let guest = String::from_utf8(guest).map_err(|_| "--copy-out: a path in the guest is UTF-8")?;
                return Ok(CopyOut { guest, host: OsStr::from_bytes(host).into() });
            }
            [byte, rest @ ..] => {
                guest.push(*byte);
                rest
            }
            [] => return Err("--copy-out is GUEST:HOST".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::path::Path;

    use super::{copy, disk};

    #[test]
    fn a_backslash_escapes_a_colon() {
        for (text, guest, host) in [
            (r"/a:b", "/a", "b"),
            (r"/a:b:c", "/a", "b:c"),
            (r"/sys/0000\:00\:01:x", "/sys/0000:00:01", "x"),
            (r"/a\\:b\:c", r"/a\", r"b\:c"),
            (r"/a\b\\\::c", r"/a\b\:", "c"),
        ] {
            let read = copy(text.into()).unwrap();
            assert_eq!((&*read.guest, &*read.host), (guest, Path::new(host)), "{text}");
        }
        for text in ["", "/a", r"/a\:b"] {
            assert_eq!(copy(OsString::from(text)).unwrap_err().to_string(), "--copy-out is GUEST:HOST", "{text}");
        }
        for (text, image, is_persistent) in [
            ("a:b", "a:b", false),
            ("a:rw", "a", true),
            (r"a\:rw", "a:rw", false),
            (r"a\:rw:rw", r"a\:rw", true),
            ("a:rw:rw", "a:rw", true),
            (r"a\b", r"a\b", false),
        ] {
            let read = disk(OsStr::new(text));
            assert_eq!((&*read.image, read.is_persistent), (Path::new(image), is_persistent), "{text}");
        }
    }
}
