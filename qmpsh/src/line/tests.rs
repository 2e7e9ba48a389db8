//! Tests of the parser of lines and its errors.

use qemu_machine_blocking::json;

use super::*;
use crate::sample::schema;

fn read(line: &str) -> Result<Instruction, Trouble> {
    Instruction::read(line, Some(&schema()))
}

/// Returns the arguments that a line `set …` has.
fn set(arguments: &str) -> Value {
    match read(&format!("set {arguments}")) {
        Ok(Instruction::Command(_, arguments)) => arguments,
        other => panic!("{arguments}: {other:?}"),
    }
}

/// Returns the error text of a line.
fn wrong(line: &str) -> String {
    crate::client::Failure::from(read(line).unwrap_err()).to_string()
}

#[test]
fn a_line_is_a_command_or_something_of_the_shell() {
    assert_eq!(read("  "), Ok(Instruction::Nothing));
    assert_eq!(read("# stop"), Ok(Instruction::Nothing));
    assert_eq!(read(" stop "), Ok(Instruction::Command("stop".into(), json!({}))));
    assert_eq!(read("exit"), Ok(Instruction::Exit));
    assert_eq!(read("hmp info  block"), Ok(Instruction::Human("info  block".into())));
    assert_eq!(read("help"), Ok(Instruction::Help(Vec::new())));
    let raw = r#"{"execute": "no-such", "x": 1}"#;
    assert_eq!(read(raw), Ok(Instruction::Raw(raw.into())), "JSON is sent as it is");
}

#[test]
fn a_value_gets_the_type_of_the_schema() {
    assert_eq!(set("flag=on"), json!({"flag": true}));
    assert_eq!(set("flag=false"), json!({"flag": false}));
    assert_eq!(set("count=-5"), json!({"count": -5}));
    assert_eq!(set("count=0x1F"), json!({"count": 31}));
    assert_eq!(set("count=4G"), json!({"count": 4_u64 << 30}));
    assert_eq!(set("count=18446744073709551615"), json!({"count": u64::MAX}));
    assert_eq!(set("ratio=0.5"), json!({"ratio": 0.5}));
    assert_eq!(set("ratio=2"), json!({"ratio": 2}));
    assert_eq!(set("text=5"), json!({"text": "5"}));
    assert_eq!(set("text=true"), json!({"text": "true"}));
    assert_eq!(set("text="), json!({"text": ""}));
    assert_eq!(set("text='a b=c'"), json!({"text": "a b=c"}));
    assert_eq!(set("text=a=b"), json!({"text": "a=b"}));
    assert_eq!(set(r#"text="a\tb""#), json!({"text": "a\tb"}));
    assert_eq!(set("any=5"), json!({"any": 5}));
    assert_eq!(set("any=five"), json!({"any": "five"}));
}

#[test]
fn of_an_alternate_the_closest_type_is_used() {
    assert_eq!(set("mode=on"), json!({"mode": "on"}), "a word of the enumeration");
    assert_eq!(set("mode=true"), json!({"mode": true}));
    assert_eq!(set("mode=7"), json!({"mode": 7}));
    assert_eq!(set("maybe=null"), json!({"maybe": null}));
    assert_eq!(set("maybe=\"null\""), json!({"maybe": "null"}));
    assert_eq!(set("maybe=x"), json!({"maybe": "x"}));
}

#[test]
fn dots_and_json_make_nested_values() {
    assert_eq!(set("list=[1, 2]"), json!({"list": [1, 2]}));
    assert_eq!(set("list.0=1 list.1=2"), json!({"list": [1, 2]}));
    assert_eq!(set("ids.0.id=5"), json!({"ids": [{"id": "5"}]}));
    let node = json!({"node": {"driver": "raw", "file": {"driver": "null-co", "size": 512}}});
    assert_eq!(set("node.driver=raw node.file.driver=null-co node.file.size=512"), node);
    assert_eq!(set("node.driver=raw node.file=5"), json!({"node": {"driver": "raw", "file": "5"}}));
    assert_eq!(set(r#"node={"driver": "null-co"}"#), json!({"node": {"driver": "null-co"}}));
}

#[test]
fn without_a_type_a_value_gets_the_type_that_it_looks_like() {
    let Ok(Instruction::Command(_, arguments)) = read("device_add driver=x mac=a:b queues=4 on=on off=false") else {
        panic!("a device may have any property");
    };
    assert_eq!(arguments, json!({"driver": "x", "mac": "a:b", "queues": 4, "on": "on", "off": false}));
    let without = Instruction::read("anything a.b=1 c=d", None);
    assert_eq!(without, Ok(Instruction::Command("anything".into(), json!({"a": {"b": 1}, "c": "d"}))));
}

#[test]
fn a_command_that_qemu_would_refuse_is_an_error_with_a_suggestion() {
    assert_eq!(wrong("stp"), "`stp`: no such command; did you mean `stop`?");
    assert_eq!(wrong("device-add x"), "`device-add`: no such command; did you mean `device_add`?");
    assert_eq!(wrong("set cuont=5"), "`set`: no argument `cuont`; did you mean `count`?");
    assert_eq!(wrong("set count=many"), "`set`: `count` must be an integer, and is a string");
    assert_eq!(wrong("set flag=maybe"), "`set`: `flag` must be a boolean, and is a string");
    assert_eq!(wrong("set node.driver=rwa"), "`set`: `node.driver` cannot be `rwa`; did you mean `raw`?");
    assert_eq!(wrong("device_del"), "`device_del`: `id` is missing");
}

#[test]
fn a_line_that_is_not_valid_is_an_error() {
    assert_eq!(wrong("stop now"), "`now`: an argument is written as NAME=VALUE");
    assert_eq!(wrong("a=b"), "the name of a command comes first, then its arguments");
    assert_eq!(wrong("set count=1 count=2"), "`count` is given twice");
    assert_eq!(wrong("set node=x node.driver=raw"), "`node.driver` is given twice");
    assert_eq!(wrong("set node.=x"), "`node.=`: a name is missing");
    assert!(wrong("set list=[1]x").starts_with("`list`: not JSON: "), "{}", wrong("set list=[1]x"));
    for open in ["{\"execute\":", "set list=[1,", "set text='a", "set text=\"a"] {
        assert_eq!(read(open), Err(Trouble::Unfinished), "{open}");
    }
}

#[test]
fn words_that_a_shell_has_split_are_not_split_again() {
    let words = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).into()).collect();
        Instruction::read_words(&words, Some(&schema()))
    };
    assert_eq!(words(&["set", "text=a 'b"]), Ok(Instruction::Command("set".into(), json!({"text": "a 'b"}))));
    assert_eq!(words(&["hmp", "info", "block"]), Ok(Instruction::Human("info block".into())));
    assert_eq!(words(&["{\"execute\": \"stop\"}"]), Ok(Instruction::Raw("{\"execute\": \"stop\"}".into())));
}

#[test]
fn a_line_for_the_human_monitor_is_not_parsed() {
    assert_eq!(Instruction::read_human(" help info "), Instruction::Human("help info".into()));
    assert_eq!(Instruction::read_human("exit"), Instruction::Exit);
    assert_eq!(Instruction::read_human(""), Instruction::Nothing);
}

#[test]
fn quit_is_recognized_in_every_form() {
    for line in ["quit", "{\"execute\": \"quit\"}", "hmp q"] {
        assert!(Instruction::read(line, None).unwrap().ends_qemu(), "{line}");
    }
    for line in ["stop", "{\"execute\": \"stop\"}", "hmp quite", "help quit"] {
        assert!(!Instruction::read(line, None).unwrap().ends_qemu(), "{line}");
    }
}
