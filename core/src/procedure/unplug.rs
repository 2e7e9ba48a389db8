//! Procedure that unplugs a device, which the guest must release.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::json;

use super::{Procedure, ProcedureError};
use crate::error::{CommandError, WaitError};
use crate::event::Event;
use crate::fault::Misuse;
use crate::payload::Payload;
use crate::procedure;
use crate::text::UntrustedText;
use crate::wait::{Found, Hit, Mark, Wait};

/// Unplugs a device from a running guest (`device_del`). It is done when the device is gone, or when the guest refuses.
///
/// The reply to `device_del` only means that QEMU asked the guest (QEMU, `qapi/qdev.json`, `device_del`). A guest may
/// answer late or never. Then the deadline passes ([`UnplugError::TimedOut`]), and the device may still be removed later.
/// QEMU removes a device that needs no cooperation of the guest at once.
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
    /// `qom-list` has no reply yet.
    lists: bool,
}

/// An entry in the reply of `qom-list`.
#[derive(Deserialize)]
struct Property {
    name: String,
}

type Step = procedure::Output<Result<(), UnplugError>>;

/// Why a device was not unplugged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnplugError {
    /// The guest refused (`DEVICE_UNPLUG_GUEST_ERROR`; `MEM_UNPLUG_ERROR` of older QEMUs).
    #[error("the guest refused to release the device: {0}")]
    Refused(Event),
    /// The deadline passed: the guest has not answered, or QEMU has not replied. If the command was sent, the device may
    /// still be removed later.
    #[error("the device `{device}` was not unplugged in time: {error}")]
    TimedOut {
        /// The id or the QOM path of the device, as the caller wrote it.
        device: UntrustedText,
        /// The step that timed out.
        error: Box<ProcedureError>,
    },
    /// QEMU refused the command, or the machine ended.
    #[error(transparent)]
    Procedure(#[from] ProcedureError),
}

impl Unplug {
    /// Returns a procedure that unplugs the device with this id, or at this QOM path
    /// (`/machine/peripheral-anon/device[0]`) if the device has no id.
    pub fn device(device: impl Into<String>) -> Self {
        Self { device: device.into(), mark: Mark::default(), begun: false, lists: false }
    }

    /// The events that end the procedure. `DEVICE_…` events always have the path of the device, and its id if it has
    /// one (QEMU, `qapi/qdev.json`, `DEVICE_DELETED`); `MEM_UNPLUG_ERROR` has the id alone.
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

    fn wait(&self) -> Step {
        procedure::Output::wait(&self.mark, self.things())
    }

    /// Returns the QOM path of the parent of the device, and the name of the device there.
    fn place(&self) -> (&str, &str) {
        self.device.rsplit_once('/').unwrap_or((PERIPHERAL.trim_end_matches('/'), &self.device))
    }

    /// Handles the reply of `qom-list`, after events were missed: a device that is not listed is gone. QEMU lists one that
    /// the guest has not released.
    fn listed(&mut self, reply: Payload) -> Step {
        self.lists = false;
        let name = self.place().1;
        match reply.reply::<Vec<Property>>() {
            Ok(all) if all.iter().any(|property| property.name == name) => self.wait(),
            Ok(_) => procedure::Output::Done(Ok(())),
            Err(error) => procedure::Output::Done(Err(self.failed(error.into()))),
        }
    }

    /// Returns the error of a step, with the device if the step timed out: several devices may be unplugged at once.
    fn failed(&self, error: ProcedureError) -> UnplugError {
        match error {
            ProcedureError::Command(CommandError::TimedOut(..)) | ProcedureError::Wait(WaitError::TimedOut) => {
                UnplugError::TimedOut { device: self.device.as_str().into(), error: Box::new(error) }
            }
            error => error.into(),
        }
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

/// The QOM path below which QEMU keeps devices with an id.
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
            procedure::Input::Reply(Ok(reply)) if self.lists => self.listed(reply),
            procedure::Input::Reply(Ok(_)) | procedure::Input::Later => self.wait(),
            procedure::Input::Missed(oldest) => {
                (self.mark, self.lists) = (oldest, true);
                procedure::Output::execute(&("qom-list", json!({"path": self.place().0})))
            }
            procedure::Input::Reply(Err(error)) => procedure::Output::Done(Err(self.failed(error.into()))),
            procedure::Input::Found(Ok(hit)) => procedure::Output::Done(Self::told(hit)),
            procedure::Input::Found(Err(error)) => procedure::Output::Done(Err(self.failed(error.into()))),
        }
    }
}
