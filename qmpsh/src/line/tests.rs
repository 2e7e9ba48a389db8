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
    crate::failure::Failure::from(read(line).unwrap_err()).to_string()
}

#[test]
fn a_line_is_a_command_or_something_of_the_shell() {
    assert_eq!(read("  "), Ok(Instruction::Nothing));
    assert_eq!(read("# stop"), Ok(Instruction::Nothing));
    assert_eq!(read(" stop "), Ok(Instruction::Command("stop".into(), json!({}))));
    assert_eq!(read("exit"), Ok(Instruction::Exit(None)));
    assert_eq!(read("exit 3"), Ok(Instruction::Exit(Some(3))));
    assert_eq!(read("quit 3"), Ok(Instruction::Quit(3)));
    assert_eq!(wrong("exit 256"), "`exit 256`: an exit status is a number from 0 to 255");
    assert_eq!(read("hmp info  block"), Ok(Instruction::Human("info  block".into())));
    assert_eq!(read("help"), Ok(Instruction::Help(Vec::new())));
    let raw = r#"{"execute": "no-such", "x": 1}"#;
    assert_eq!(read(raw), Ok(json_line(raw)), "JSON is sent as it is");
}

fn json_line(object: &str) -> Instruction {
    Instruction::Raw { object: object.into(), id: None }
}

#[test]
fn the_id_of_a_json_command_is_in_its_reply() {
    let line = "{\"id\": {\"a\": [1]},\n \"execute\": \"x\", \"arguments\": {\"z\": 36893488147419103232, \"a\": 1.0}}";
    let object = "{\"execute\": \"x\", \"arguments\": {\"z\": 36893488147419103232, \"a\": 1.0}}";
    let expected = Instruction::Raw { object: object.into(), id: Some("{\"a\": [1]}".into()) };
    assert_eq!(read(line), Ok(expected), "the rest stays as it is written");
}

#[test]
fn lines_for_the_agent_have_no_schema() {
    let ping = || Instruction::Command("guest-ping".into(), json!({}));
    assert_eq!(read("agent guest-ping"), Ok(Instruction::Guest(Box::new(ping()))));
    assert_eq!(Instruction::read_guest("guest-ping"), Ok(ping()));
    let exec =
        Instruction::Command("guest-exec".into(), json!({"path": "/bin/ls", "arg": ["-l"], "capture-output": true}));
    assert_eq!(Instruction::read_guest("guest-exec path=/bin/ls arg=[\"-l\"] capture-output=true"), Ok(exec));
    let password = Instruction::Command("guest-set-user-password".into(), json!({"password": "12345678"}));
    assert_eq!(Instruction::read_guest("guest-set-user-password password='12345678'"), Ok(password));
    assert_eq!(wrong("agent exit 3"), "`agent exit`: `exit` ends the shell, and is written without `agent`");
    assert_eq!(Instruction::read_guest("exit 1"), Ok(Instruction::Exit(Some(1))));
    assert_eq!(
        Instruction::read_guest("{\"execute\": \"guest-ping\"}"),
        Ok(json_line("{\"execute\": \"guest-ping\"}"))
    );
    assert_eq!(wrong("agent"), "`agent`: a command for the guest agent is missing");
}

#[test]
fn a_line_continues_after_a_backslash() {
    assert_eq!(read("set \\"), Err(Trouble::Unfinished));
    assert_eq!(set("count=1 \\\n  flag=on"), json!({"count": 1, "flag": true}));
    assert_eq!(Instruction::read_human("info \\\nblock"), Ok(Instruction::Human("info block".into())));
    assert_eq!(read("# a remark \\"), Ok(Instruction::Nothing));
}

#[test]
fn a_transaction_is_collected_and_checked_line_by_line() {
    let whole = "transaction(\nabort\nclear node=disk count=4K\n)";
    let actions = json!([{"type": "abort", "data": {}}, {"type": "clear", "data": {"node": "disk", "count": 4096}}]);
    assert_eq!(read(whole), Ok(Instruction::Command("transaction".into(), json!({"actions": actions}))));
    assert_eq!(read("transaction( abort )"), read("transaction(\nabort\n)"));
    assert_eq!(read("transaction(\n)"), Ok(Instruction::Nothing), "nothing is sent");
    for open in ["transaction(", "transaction(\nabort", "transaction(\nclear node={\n)"] {
        assert_eq!(read(open), Err(Trouble::Unfinished), "{open}");
    }
    assert!(wrong("transaction(\nabrot").contains("did you mean `abort`?"), "{}", wrong("transaction(\nabrot"));
    assert_eq!(wrong("transaction(\nclear nod=disk"), "`clear`: no argument `nod`; did you mean `node`?");
    let unchecked = json!({"actions": [{"type": "any", "data": {"a": 1}}]});
    let without = Instruction::read("transaction( any a=1 )", None);
    assert_eq!(without, Ok(Instruction::Command("transaction".into(), unchecked)));
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
    assert_eq!(set("any='5'"), json!({"any": "5"}), "a quoted text");
    assert_eq!(set("count='5'"), json!({"count": 5}), "the schema has an integer");
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
    assert_eq!(words(&["{\"execute\": \"stop\"}"]), Ok(json_line("{\"execute\": \"stop\"}")));
}

#[test]
fn a_line_for_the_human_monitor_is_not_parsed() {
    assert_eq!(Instruction::read_human(" help info "), Ok(Instruction::Human("help info".into())));
    assert_eq!(Instruction::read_human("exit"), Ok(Instruction::Exit(None)));
    assert_eq!(Instruction::read_human("exit 2"), Ok(Instruction::Exit(Some(2))));
    assert_eq!(Instruction::read_human("q 2"), Ok(Instruction::Quit(2)));
    assert_eq!(Instruction::read_human(""), Ok(Instruction::Nothing));
}

#[test]
fn quit_is_recognized_in_every_form() {
    for line in ["quit", "{\"execute\": \"quit\"}", "hmp q", "quit 1"] {
        assert!(Instruction::read(line, None).unwrap().ends_qemu(), "{line}");
    }
    for line in ["stop", "{\"execute\": \"stop\"}", "hmp quite", "help quit"] {
        assert!(!Instruction::read(line, None).unwrap().ends_qemu(), "{line}");
    }
}
