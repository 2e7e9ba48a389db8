//! Tests of the types that an argument may have, and that its bytes are kept.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use qemu_machine_core::{Address, Companion, Config, ExtraMonitor, OsBytes};

/// Not UTF-8.
const BYTES: &[u8] = b"a\xff b";

#[test]
fn each_type_has_its_bytes() {
    let (os, text) = (OsStr::from_bytes(BYTES), "ä b");
    let path = Path::new(os);
    let of_bytes: [&dyn OsBytes; 12] = [
        &BYTES,
        &BYTES.to_vec(),
        &b"a\xff b",
        &Box::<[u8]>::from(BYTES),
        &Cow::Borrowed(BYTES),
        &os,
        &os.to_owned(),
        &path,
        &path.to_owned(),
        &Cow::Borrowed(path),
        &Box::<OsStr>::from(os),
        &&&path,
    ];
    assert!(of_bytes.iter().all(|bytes| bytes.as_os_bytes() == BYTES));
    let of_text: [&dyn OsBytes; 6] =
        [&text, &String::from(text), &&String::from(text), &Box::<str>::from(text), &Cow::Borrowed(text), &&text];
    assert!(of_text.iter().all(|bytes| bytes.as_os_bytes() == text.as_bytes()));
}

/// Each line compiles as it does with `std::process::Command`.
#[test]
fn a_configuration_takes_what_a_command_takes() {
    let (list, path): (Vec<String>, PathBuf) = (vec!["-m".into(), "64".into()], PathBuf::from("/vm"));
    let config = Config::new(&path)
        .args(&list)
        .args(&list[..1])
        .args(list.iter().map(String::as_str))
        .args(["a", "b"])
        .args([path.as_os_str(), OsStr::new("c")])
        .args(vec![OsString::from("d")])
        .arg(&list[0])
        .arg(&path)
        .arg(path.as_path())
        .arg(path.clone())
        .arg(OsStr::from_bytes(BYTES))
        .wrapper(&list)
        .machine(String::from("none"))
        .working_directory(&path)
        .temporary_directory(path.as_path())
        .env("NAME", &path);
    assert_eq!(config.arguments()[0], b"-m");
    assert_eq!(config.arguments().last().map(Vec::as_slice), Some(BYTES));
    assert_eq!(Address::unix(&path), Address::unix("/vm"));
    let companion = Companion::new("fs", &path).args(&list).arg(path.as_path()).arg(&list[0]).listener("--fd=");
    assert_eq!(companion, Companion::new("fs", "/vm").args(["-m", "64", "/vm", "-m"]).listener(b"--fd="));
    assert_eq!(companion.clone().path(&path), companion.clone().path("/vm"));
    assert_eq!(companion.clone().option("-device", &path), companion.option("-device", b"/vm"));
    let monitors: [ExtraMonitor; 5] =
        [(&path).into(), path.as_path().into(), path.as_os_str().into(), (&String::from("/vm")).into(), b"/vm".into()];
    assert!(monitors.iter().all(|monitor| *monitor == ExtraMonitor::new("/vm")));
}
