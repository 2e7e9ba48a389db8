//! Connection to a monitor or an agent, and launch of a QEMU, with a record if that is wanted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use qemu_machine_blocking::{Config, Dialect, LaunchError, Peer, Vm};

use crate::failure::Failure;
use crate::options::{Options, Whom, addresses};
use crate::record::Files;
use crate::show::printable;

/// The time that a monitor may take to greet, or an agent to answer. It takes milliseconds, unless another client is
/// connected: QEMU greets a second client only when the first one has left (measured with QEMU 7.2.22).
const GREETED_WITHIN: Duration = Duration::from_secs(5);

/// The way to a peer, for a connection that is made when it is needed.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    address: OsString,
    dialect: Dialect,
    files: Files,
}

impl Connector {
    /// The way to the agent of the machine, at an address. Only the monitor is recorded.
    pub(crate) fn agent(address: OsString) -> Self {
        Self { address, dialect: Dialect::GuestAgent, files: Files::default() }
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Failure::NotConnected`]; [`Failure::Lost`], if the record cannot be written.
    pub(crate) fn connect(&self) -> Result<Vm, Failure> {
        let mut failure = Failure::NotConnected(format!("{}: no such host", printable(&self.address)));
        for address in addresses(&self.address).map_err(Failure::NotConnected)? {
            let shown = address.to_string();
            let config = Config::attach(Peer::Dial(address)).speaking(self.dialect).launch_within(GREETED_WITHIN);
            match launch(config, &self.files)? {
                Ok(vm) => return Ok(vm),
                Err(error) => failure = Failure::NotConnected(format!("{shown}: {error}")),
            }
        }
        Err(failure)
    }
}

/// Launches or attaches, as the options say.
///
/// # Errors
///
/// As [`Connector::connect`].
pub(crate) fn connect(options: &Options) -> Result<Vm, Failure> {
    let files = options.files.clone();
    match &options.whom {
        Whom::Launched(words) => {
            let mut words = words.iter().cloned().map(OsString::into_vec);
            let config = Config::new(words.next().unwrap_or_default()).name("qmpsh").args(words);
            launch(config, &files)?.map_err(|error| Failure::NotConnected(error.to_string()))
        }
        Whom::Monitor(address) => Connector { address: address.clone(), dialect: Dialect::Qmp, files }.connect(),
        Whom::Agent(address) => Connector { address: address.clone(), dialect: Dialect::GuestAgent, files }.connect(),
    }
}

/// Launches or attaches, with a record if a file for it is given. If that fails, writes the record here.
fn launch(config: Config, files: &Files) -> Result<Result<Vm, LaunchError>, Failure> {
    let config = if files.are_wanted() { config.recorded() } else { config };
    let launched = Vm::launch(config);
    if let Err(LaunchError::Failed { outcome, .. }) = &launched {
        files.write(outcome.record.as_deref().and_then(|text| text.parse().ok()))?;
    }
    Ok(launched)
}
