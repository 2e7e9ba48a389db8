//! Arguments of a command without the members that are null.

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Arguments with optional members: those that are `None` (`null` in JSON) are not sent. One type with plain [`Option`]s is
/// enough for a command, and so is [`json!`](crate::json) with values that may be missing:
///
/// ```
/// use qemu_machine_core::{Command, Empty, OmitNull, json};
/// use serde::Serialize;
///
/// #[derive(Default, Serialize)]
/// #[serde(rename_all = "kebab-case")]
/// struct BlockJobCancel {
///     device: String,
///     force: Option<bool>,
/// }
///
/// impl Command for BlockJobCancel {
///     type Reply = Empty;
///     fn name(&self) -> &str {
///         "block-job-cancel"
///     }
///     fn arguments(&self) -> Option<impl Serialize> {
///         Some(OmitNull(self))
///     }
/// }
///
/// let cancel = BlockJobCancel { device: "copy".into(), force: None };
/// // vm.execute(cancel)?; sends {"device": "copy"}
/// # assert_eq!(json!(cancel.arguments()), json!({"device": "copy"}));
/// let speed = None::<u64>;
/// let commit = ("block-commit", OmitNull(json!({"device": "disk", "speed": speed})));
/// // vm.execute(commit)?; sends {"device": "disk"}
/// # assert_eq!(json!(commit.arguments()), json!({"device": "disk"}));
/// ```
///
/// Nested objects stay as they are. Few members of QEMU mean something when they are null, as `backing` of `blockdev-add`
/// does (QEMU, `qapi/block-core.json`, `BlockdevRefOrNull`): send those without this type, and leave out optional members
/// with `#[serde(skip_serializing_if = "Option::is_none")]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OmitNull<A>(pub A);

impl<A: Serialize> Serialize for OmitNull<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut arguments = serde_json::to_value(&self.0).map_err(S::Error::custom)?;
        if let Value::Object(members) = &mut arguments {
            members.retain(|_, value| !value.is_null());
        }
        arguments.serialize(serializer)
    }
}
