//! Tests of completion and hints.

use super::*;
use crate::sample::schema;

/// Returns the lines that completion makes of a line.
fn completed(line: &str) -> Vec<String> {
    let live = |asked: Live<'_>| match asked {
        Live::Drivers => vec!["virtio-net".into(), "virtio-rng".into()],
        Live::PropertiesOf("virtio-net") => {
            vec!["driver".into(), "mac".into(), "m q".into(), "m=q".into(), "mq".into()]
        }
        Live::Devices => vec!["net0".into(), "my net".into(), "my 'net'".into()],
        Live::Below("/machine") => vec!["/machine/peripheral/".into(), "/machine/q35/".into()],
        Live::PropertiesAt("/machine") => vec!["type".into()],
        _ => Vec::new(),
    };
    let (start, candidates) = candidates(line, &schema(), live);
    candidates.into_iter().map(|candidate| format!("{}{candidate}", &line[..start])).collect()
}

fn hinted(line: &str) -> String {
    hint(line, &schema()).unwrap_or_default()
}

#[test]
fn a_command_is_completed() {
    assert_eq!(completed("query-"), ["query-block ", "query-status "]);
    assert_eq!(completed("  st"), ["  stop "]);
    assert_eq!(completed("device-a"), ["device_add "], "`-` finds `_`");
    assert_eq!(completed("h"), ["help ", "hmp "]);
    assert_eq!(completed("nothing"), [""; 0]);
    assert_eq!(completed("").len(), schema().commands().count() + OWN.len());
}

#[test]
fn arguments_are_completed_mandatory_ones_first() {
    assert_eq!(completed("blockdev-add "), ["blockdev-add driver=", "blockdev-add node-name="]);
    assert_eq!(completed("blockdev-add d"), ["blockdev-add driver="]);
    assert_eq!(completed("blockdev-add driver=raw n"), ["blockdev-add driver=raw node-name="]);
    assert_eq!(completed("blockdev-add driver=raw d"), [""; 0], "the argument is written already");
    assert_eq!(completed("stop "), [""; 0]);
    assert_eq!(completed("unknown "), [""; 0]);
}

#[test]
fn the_written_variant_adds_its_arguments() {
    assert_eq!(completed("blockdev-add driver=null-co s"), ["blockdev-add driver=null-co size="]);
    assert_eq!(completed("blockdev-add s"), [""; 0]);
    let file = ["blockdev-add driver=raw file=", "blockdev-add driver=raw file."];
    assert_eq!(completed("blockdev-add driver=raw f"), file);
    let nested = "blockdev-add driver=raw file.driver=null-co file.";
    assert_eq!(completed(nested), [format!("{nested}node-name="), format!("{nested}size=")]);
    assert_eq!(completed("set ids.0."), ["set ids.0.id="]);
}

#[test]
fn a_value_is_completed() {
    assert_eq!(completed("blockdev-add driver="), ["blockdev-add driver=null-co ", "blockdev-add driver=raw "]);
    assert_eq!(completed("blockdev-add driver=r"), ["blockdev-add driver=raw "]);
    assert_eq!(completed("set flag=t"), ["set flag=true "]);
    assert_eq!(completed("set mode=o"), ["set mode=on ", "set mode=off "]);
    assert_eq!(completed("set node.driver=n"), ["set node.driver=null-co "]);
    assert_eq!(completed("set text="), [""; 0]);
    assert_eq!(completed("set count=5"), [""; 0]);
}

#[test]
fn the_subject_of_help_is_completed() {
    assert_eq!(completed("help ST"), ["help STOP "]);
    assert_eq!(completed("help blockdev-add dr"), ["help blockdev-add driver="]);
    assert_eq!(completed("help blockdev-add driver=r"), ["help blockdev-add driver=raw "]);
}

#[test]
fn json_and_quotes_are_not_completed() {
    for line in ["{\"execute\": \"st", "set list=[1, ", "set text='a ", "a=st"] {
        assert_eq!(completed(line), [""; 0], "{line}");
    }
}

#[test]
fn missing_arguments_are_hinted() {
    assert_eq!(hinted("blockdev-add "), "driver= [node-name=]");
    assert_eq!(hinted("blockdev-add node-name=x "), "driver=");
    assert_eq!(hinted("blockdev-add driver=raw "), "file=");
    assert_eq!(hinted("blockdev-add driver=raw file.driver=null-co "), "");
    assert_eq!(hinted("stop "), "");
    assert_eq!(hinted("stop"), "");
    assert!(hinted("set ").len() <= HINT + '…'.len_utf8() && hinted("set ").ends_with('…'), "{}", hinted("set "));
}

#[test]
fn the_type_of_a_value_is_hinted() {
    assert_eq!(hinted("blockdev-add driver="), "null-co|raw");
    assert_eq!(hinted("set count="), "integer");
    assert_eq!(hinted("set flag="), "true|false");
    assert_eq!(hinted("set mode="), "auto|on|off or boolean or integer");
    assert_eq!(hinted("set list="), "[integer, …]");
    assert_eq!(hinted("set maybe="), "string or null");
    assert_eq!(hinted("set count=5"), "");
    assert_eq!(hinted("set count=''"), "");
    assert_eq!(hinted("set nothing="), "");
}

#[test]
fn names_that_the_schema_does_not_list_come_from_qemu() {
    let drivers = ["device_add driver=virtio-net ", "device_add driver=virtio-rng "];
    assert_eq!(completed("device_add driver=v"), drivers);
    let properties = ["device_add driver=virtio-net mac=", "device_add driver=virtio-net mq="];
    assert_eq!(completed("device_add driver=virtio-net m"), properties);
    assert_eq!(completed("device_add driver=virtio-net mac=1 mac"), [""; 0]);
    assert_eq!(completed("device_add driver=virtio-net d"), [""; 0]);
    assert_eq!(completed("device_del id="), ["device_del id=net0 ", "device_del id='my net' "]);
    assert_eq!(completed("qom-get path=/machine/p"), ["qom-get path=/machine/peripheral/"]);
    assert_eq!(completed("qom-get path=/machine property="), ["qom-get path=/machine property=type "]);
}

#[test]
fn the_actions_of_a_transaction_are_completed() {
    let completed = |body: &str| candidates_for_action(body, &schema(), |_| Vec::new()).1;
    assert_eq!(completed("\nab"), ["abort "]);
    assert_eq!(completed(""), ["abort ", "clear "]);
    assert_eq!(completed("\nabort\nclear "), ["node=", "count="]);
    assert_eq!(completed("\nclear node=disk c"), ["count="]);
    assert_eq!(candidates_for_action("\nabort\nclear co", &schema(), |_| Vec::new()).0, 13);
    assert_eq!(completed("\nunknown x"), [""; 0]);
    assert_eq!(hint_for_action("\nclear ", &schema()).as_deref(), Some("node= [count=]"));
}
