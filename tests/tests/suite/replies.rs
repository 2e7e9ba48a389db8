//! Stories of replies of a real QEMU that are nested deeply.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use qemu_machine_core::{Config, Deadline, Value, json};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::qemu;

use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(qemu_machine_tests::PATIENCE.as_secs() / 2));

/// The overlays of the chain: as many as made `query-block` unreadable for a reader with 128 levels, twice.
const OVERLAYS: usize = 130;

/// Makes a chain of overlays, and returns the topmost. Each is a copy of the first, which names another backing file.
fn chain(scratch: &Scratch) -> PathBuf {
    let path = |number: usize| scratch.path().join(format!("{number:03}"));
    let create = |arguments: &[&str], path: &Path| {
        let mut create = Command::new("qemu-img");
        let created = create.args(["create", "-q", "-f", "qcow2"]).args(arguments).arg(path).arg("1M").status();
        assert!(created.expect("qemu-img is installed").success());
    };
    create(&[], &path(0));
    create(&["-u", "-b", "000", "-F", "qcow2"], &path(1));
    let mut overlay = fs::read(path(1)).expect("the overlay is readable");
    // The header has the offset of the name of the backing file (QEMU, `docs/interop/qcow2.txt`, Header).
    let offset = u64::from_be_bytes(*overlay[8..].first_chunk().expect("a header")) as usize;
    for number in 2..=OVERLAYS {
        let backing = format!("{:03}", number - 1);
        overlay[offset..offset + backing.len()].copy_from_slice(backing.as_bytes());
        fs::write(path(number), &overlay).expect("there is room");
    }
    path(OVERLAYS)
}

fn g34_a_long_backing_chain_is_read<H: Hosted>() {
    let scratch = Scratch::create();
    let drive = format!("if=none,id=disk,format=qcow2,file={}", chain(&scratch).display());
    let config = Config::new(qemu()).args(["-machine", "none", "-nodefaults", "-accel", "tcg", "-drive", &drive]);
    let mut machine = H::launch(config).expect("QEMU starts");
    let reply = machine.execute("query-block", LONG).expect("the reply is readable");
    let raw = machine.execute_raw(r#"{"execute": "query-block"}"#).expect("the reply is readable");
    for block in [&reply, &raw["return"]] {
        let images = std::iter::successors(Some(&block[0]["inserted"]["image"]), |image| image.get("backing-image"));
        assert_eq!(images.count(), OVERLAYS + 1);
    }
    // A request that is too deep for QEMU is refused here, and the monitor stays usable.
    let deep = (0..1_100).fold(Value::Null, |inner, _| json!([inner]));
    let refused = machine.execute_raw(&json!({"execute": "query-status", "arguments": {"deep": deep}}).to_string());
    assert!(refused.expect_err("it is too deep").to_string().contains("levels"));
    machine.execute("query-status", LONG).expect("the monitor stays usable");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g34_a_long_backing_chain_is_read
        }
    };
}

rows!(stories);
