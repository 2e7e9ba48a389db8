//! File server of this host for virtiofs, virtiofsd: its place, and its options, of which there are two dialects.
//!
//! That of QEMU up to 7.2, written in C, has `-o source=…`, shares no directory for reading only, and runs as root only. Its
//! successor, written in Rust, has `--shared-dir`, since version 1.13.0 `--readonly`, and runs as an ordinary user in a user
//! namespace (measured with those of QEMU 7.2.22 and with 1.13.2; the changes of 1.13.0 list `--readonly`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use qemu_machine_blocking::{Companion, UntrustedText};
use rustix::thread::{CapabilitySet, capabilities};

use crate::host_files::on_path;

/// Where distributions install virtiofsd, which is no program for the `PATH`: Fedora and Debian 13, Debian 12, Arch.
const PLACES: [&str; 3] = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"];

/// A virtiofsd that runs on this host.
#[derive(Clone, Debug)]
pub(crate) struct FileServer {
    program: PathBuf,
    has_shared_dir: bool,
    has_readonly: bool,
}

impl FileServer {
    /// Returns the chosen virtiofsd, or one of this host.
    ///
    /// # Errors
    ///
    /// The reason why there is none, in one line.
    pub(crate) fn find(chosen: Option<&Path>) -> Result<Self, String> {
        let installed = || on_path("virtiofsd").into_iter().chain(PLACES.map(PathBuf::from));
        let program = chosen.map(PathBuf::from).or_else(|| installed().find(|path| path.is_file()));
        let program =
            program.ok_or("no virtiofsd is found: install the package virtiofsd, or choose one with --virtiofsd")?;
        let failed = |why: &str| format!("{} does not run: {}", shown(&program), UntrustedText::from(why));
        let help = Command::new(&program).arg("--help").stdin(Stdio::null()).output();
        let help = help.map_err(|error| failed(&error.to_string()))?;
        if !help.status.success() {
            let printed = String::from_utf8_lossy(&help.stderr);
            return Err(failed(printed.lines().next().unwrap_or("it printed nothing")));
        }
        let text = String::from_utf8_lossy(&help.stdout);
        let [has_shared_dir, has_readonly] = ["--shared-dir", "--readonly"].map(|option| text.contains(option));
        Ok(Self { program, has_shared_dir, has_readonly })
    }

    /// Checks whether the server can refuse all changes.
    ///
    /// # Errors
    ///
    /// The reason why not, in one line.
    pub(crate) fn can_be_read_only(&self) -> Result<(), String> {
        match self.has_readonly {
            true => Ok(()),
            false => Err(format!("{} cannot refuse changes: it has no option --readonly", shown(&self.program))),
        }
    }

    /// Returns the companion that serves a directory, without its backend of QEMU. The machine ends when it does: a guest
    /// waits without an end for a server that is gone.
    pub(crate) fn companion(&self, name: String, directory: &Path, is_read_only: bool) -> Companion {
        let directory = directory.as_os_str().as_encoded_bytes();
        let mut arguments = match self.has_shared_dir {
            true => vec![b"--shared-dir".to_vec(), directory.to_vec()],
            false => vec![b"-o".to_vec(), [b"source=", &*escaped(directory)].concat()],
        };
        // Root without the capability for namespaces: in a container, mostly. And virtiofsd makes its directory the root of
        // its namespace, which fails with `EBUSY` for the root itself (`pivot_root(2)`; measured with that of QEMU 7.2.22).
        if can(CapabilitySet::SYS_CHROOT) && (directory == b"/" || !can(CapabilitySet::SYS_ADMIN)) {
            arguments.extend(["-o", "sandbox=chroot"].map(Into::into));
        }
        arguments.extend(is_read_only.then(|| b"--readonly".to_vec()));
        let program = self.program.as_os_str().as_encoded_bytes();
        Companion::new(name, program).args(arguments).listener("--fd=").required()
    }
}

/// Returns a value of `-o`, in which a backslash keeps the next byte (libfuse, `lib/fuse_opt.c`, `process_opt_sep_arg`).
fn escaped(value: &[u8]) -> Vec<u8> {
    let escape = |byte: &u8| [Some(b'\\').filter(|_| matches!(byte, b',' | b'\\')), Some(*byte)];
    value.iter().flat_map(escape).flatten().collect()
}

fn can(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

fn shown(path: &Path) -> UntrustedText {
    UntrustedText::from_utf8_lossy(path.as_os_str().as_encoded_bytes())
}
