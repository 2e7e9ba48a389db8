//! Unplug of a device, which the guest must release.

use crate::procedure;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::json;

use super::{Procedure, ProcedureError};
use crate::error::WaitError;
use crate::event::Event;
use crate::fault::Misuse;
use crate::wait::{Found, Hit, Mark, Wait};

/// Takes a device away from a running guest (`device_del`), and is done when it is gone, or when the guest refuses.
///
/// The guest is asked, and may take its time, or never answer: then the deadline passes, and the device may still go
/// later. Devices that the guest is not asked for are gone at once.
///
/// ```
/// use qemu_machine_core::procedure::Unplug;
///
/// let unplug = Unplug::device("net1");
/// // vm.run(unplug, Duration::from_secs(30))?;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a procedure does nothing until it is run"]
pub struct Unplug {
    device: String,
    mark: Mark,
    begun: bool,
}

/// Why a device is still there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnplugError {
    /// The guest does not let it go (`DEVICE_UNPLUG_GUEST_ERROR`, and `MEM_UNPLUG_ERROR`).
    #[error("the guest does not let the device go: {0}")]
    Refused(Event),
    /// QEMU refuses, or nothing was heard of the guest.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

impl Unplug {
    /// The device with this id, or at this path (`/machine/peripheral-anon/device[0]`) if it has none.
    pub fn device(device: impl Into<String>) -> Self {
        Self { device: device.into(), mark: Mark::default(), begun: false }
    }

    /// What tells of it. QEMU names a device by its id, where it has one, and by its path in any case.
    fn things(&self) -> Vec<Wait> {
        let (id, path) = match self.device.strip_prefix(PERIPHERAL) {
            _ if !self.device.starts_with('/') => (Some(&*self.device), format!("{PERIPHERAL}{}", self.device)),
            id => (id, self.device.clone()),
        };
        let names = ["DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR"];
        let by_path = names.map(|name| Wait::event(name).with(json!({"path": path})));
        let by_id = names.into_iter().chain(["MEM_UNPLUG_ERROR"]);
        let by_id =
            id.into_iter().flat_map(|id| by_id.clone().map(move |name| Wait::event(name).with(json!({"device": id}))));
        by_path.into_iter().chain(by_id).collect()
    }

    fn told(hit: Hit) -> Result<(), UnplugError> {
        match hit.found {
            Found::Event(event) if event.name() == "DEVICE_DELETED" => Ok(()),
            Found::Event(event) => Err(UnplugError::Refused(event)),
            // Only events were waited for.
            _ => Err(WaitError::FoundOther.into()),
        }
    }
}

/// Where QEMU keeps the devices that have an id.
const PERIPHERAL: &str = "/machine/peripheral/";

impl Procedure for Unplug {
    type Return = Result<(), UnplugError>;

    fn step(&mut self, input: procedure::Input) -> procedure::Output<Self::Return> {
        match input {
            procedure::Input::Begun(_) if core::mem::replace(&mut self.begun, true) => {
                procedure::Output::Execute(Err(Misuse::ProcedureReused))
            }
            procedure::Input::Begun(mark) => {
                self.mark = mark;
                procedure::Output::execute(&("device_del", json!({"id": self.device.to_string()})))
            }
            procedure::Input::Reply(Ok(_)) | procedure::Input::Later => {
                procedure::Output::wait(&self.mark, self.things())
            }
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(error.into())),
            procedure::Input::Found(Ok(hit)) => procedure::Output::Done(Self::told(hit)),
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(error.into())),
        }
    }
}
