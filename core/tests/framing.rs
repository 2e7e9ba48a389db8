//! Tests of the framer: frames do not depend on how the stream is split, and each byte is examined a bounded number of
//! times.

use proptest::prelude::*;
use qemu_machine_core::wire::{Frame, Framer};
use serde_json::{Map, Value, json};

const LIMIT: usize = 60;
const PLENTY: usize = 1 << 20;

fn drain(framer: &mut Framer, frames: &mut Vec<Frame>) {
    while let Some(frame) = framer.next_frame() {
        frames.push(frame);
    }
}

/// Returns the frames of a stream in these pieces, and the number of examined bytes.
fn frames<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, u64) {
    let mut framer = Framer::new(limit);
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        drain(&mut framer, &mut frames);
    }
    (frames, framer.examined())
}

fn whole(limit: usize, stream: &[u8]) -> Vec<Frame> {
    frames(limit, [stream]).0
}

/// Returns a stream in pieces of these sizes, repeated cyclically.
fn cut<'a>(mut stream: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while let (Some(size), false) = (sizes.next(), stream.is_empty()) {
        let (piece, rest) = stream.split_at((*size).min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

fn message(text: impl AsRef<[u8]>) -> Frame {
    Frame::Message(text.as_ref().to_vec().into())
}

/// Returns a message as a monitor with `pretty=on` prints it: four columns a level, CR LF after each line (measured
/// with QEMU 7.2.22).
fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap();
    let lines = text.lines().map(|line| {
        let level = line.len() - line.trim_start().len();
        format!("{}{}", " ".repeat(level), line)
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

fn any_text() -> impl Strategy<Value = String> {
    r#"[a-b{}\[\]"\\:, \n\r\u{e4}]{0,8}"#
}

/// Generates a message whose strings contain everything that looks like structure.
fn any_message() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), any_text().prop_map(Value::from)];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(any_text(), inner, 0..3).prop_map(|all| Value::Object(Map::from_iter(all))),
        ]
    });
    prop::collection::btree_map("return|event|id|data", value, 1..3).prop_map(|all| Value::Object(Map::from_iter(all)))
}

/// Generates a message, compact or pretty, without and with the end of its line.
fn any_good() -> impl Strategy<Value = (String, String)> {
    (any_message(), any::<bool>(), prop_oneof![Just("\n"), Just("\r\n")]).prop_map(|(value, is_pretty, end)| {
        let text = if is_pretty { pretty(&value) } else { value.to_string() };
        (text.clone(), text + end)
    })
}

/// Generates a line of a peer that may break the rules.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let good = || any_good().prop_map(|(_, line)| line.into_bytes());
    let torn = (any_good(), any::<prop::sample::Index>(), any::<bool>()).prop_map(|((text, _), index, ends)| {
        let mut torn = text.as_bytes()[..index.index(text.len())].to_vec();
        torn.extend_from_slice(if ends { b"\r\n" } else { b"" });
        torn
    });
    let garbage = prop::collection::vec(prop::sample::select(&b"{}[]\"\\a \r\n\xff"[..]), 0..20);
    let long = (LIMIT - 3..LIMIT + 4, any::<bool>()).prop_map(|(length, is_open)| {
        let mut long = vec![b'x'; length];
        long[0] = if is_open { b'{' } else { b'x' };
        long.push(b'\n');
        long
    });
    prop_oneof![4 => good(), 1 => torn, 1 => garbage, 1 => Just(b"\r\n".to_vec()), 1 => long]
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any_line(), 0..10).prop_map(|lines| lines.concat())
}

fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..40, 1..10)
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_how_the_stream_is_split(stream in any_stream(), sizes in any_sizes(), limit in prop_oneof![Just(LIMIT), Just(PLENTY), 1..LIMIT]) {
        let expected = whole(limit, &stream);
        prop_assert_eq!(&frames(limit, stream.chunks(1)).0, &expected, "byte by byte");
        prop_assert_eq!(&frames(limit, cut(&stream, &sizes)).0, &expected, "in pieces");
    }

    /// An independent definition for valid streams: the frames are the messages.
    #[test]
    fn the_frames_of_a_good_stream_are_its_messages(all in prop::collection::vec(any_good(), 0..8), sizes in any_sizes()) {
        let stream: String = all.iter().map(|(_, line)| line.as_str()).collect();
        let expected: Vec<Frame> = all.iter().map(|(text, _)| message(text)).collect();
        prop_assert_eq!(frames(PLENTY, cut(stream.as_bytes(), &sizes)).0, expected);
    }

    /// Wherever a message breaks off, the next one that begins on its own line is found.
    #[test]
    fn a_good_message_after_a_truncated_one_is_found(torn in any_message(), at in any::<prop::sample::Index>(), good in any_good()) {
        let torn = pretty(&torn);
        let torn = &torn.as_bytes()[..at.index(torn.len())];
        let stream = [torn, b"\r\n", good.1.as_bytes()].concat();
        let found = whole(PLENTY, &stream);
        prop_assert_eq!(found.last(), Some(&message(&good.0)));
    }

    /// No frame is longer than the limit, and every line that fits is found between those that do not.
    #[test]
    fn the_limit_holds_for_every_length(lengths in prop::collection::vec(1_usize..2 * LIMIT, 0..8), sizes in any_sizes()) {
        let stream: Vec<u8> = lengths.iter().flat_map(|length| [vec![b'x'; *length], vec![b'\n']].concat()).collect();
        let expected: Vec<Frame> = lengths.iter().map(|length| {
            if *length > LIMIT { Frame::TooLarge } else { message(vec![b'x'; *length]) }
        }).collect();
        prop_assert_eq!(frames(LIMIT, cut(&stream, &sizes)).0, expected);
    }

    #[test]
    fn lines_are_examined_once(all in prop::collection::vec(any_message(), 0..8), sizes in any_sizes()) {
        let stream: String = all.iter().map(|value| format!("{value}\r\n")).collect();
        prop_assert_eq!(frames(PLENTY, cut(stream.as_bytes(), &sizes)).1, stream.len() as u64);
        prop_assert_eq!(frames(PLENTY, stream.as_bytes().chunks(1)).1, stream.len() as u64);
    }

    /// A message over several lines costs the search for the end of its first line, and then the count of braces.
    #[test]
    fn pretty_messages_are_examined_at_most_twice(all in prop::collection::vec(any_good(), 0..8), sizes in any_sizes()) {
        let stream: String = all.iter().map(|(_, line)| line.as_str()).collect();
        prop_assert!(frames(PLENTY, cut(stream.as_bytes(), &sizes)).1 <= 2 * stream.len() as u64);
    }

    /// A peer that sends lines beyond the limit, and messages between them, costs no more than a good one.
    #[test]
    fn lines_beyond_the_limit_are_examined_at_most_twice(all in prop::collection::vec(any_good(), 0..8), sizes in any_sizes()) {
        let mut stream = Vec::new();
        for (_, line) in &all {
            stream.extend_from_slice(&[b'x'; LIMIT + 1]);
            stream.extend_from_slice(b"\n");
            stream.extend_from_slice(line.as_bytes());
        }
        prop_assert!(frames(LIMIT, cut(&stream, &sizes)).1 <= 2 * stream.len() as u64);
    }
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    let line = vec![b'x'; LIMIT];
    for stream in [[&line[..], b"\n"].concat(), [b"\n", &line[..], b"\n"].concat()] {
        assert_eq!(whole(LIMIT, &stream), [message(&line)]);
        assert_eq!(frames(LIMIT, stream.chunks(1)).0, [message(&line)]);
    }
}

#[test]
fn a_line_beyond_the_limit_is_skipped_and_the_next_one_found() {
    let stream = [&[b'x'; LIMIT + 1][..], b"\n{}\n"].concat();
    assert_eq!(whole(LIMIT, &stream), [Frame::TooLarge, message("{}")]);
    assert_eq!(frames(LIMIT, stream.chunks(1)).0, [Frame::TooLarge, message("{}")]);
}

/// Returns a message of exactly this length, over three lines.
fn pretty_of(length: usize) -> String {
    let frame = "{\n    \"a\": \"\"\n}";
    frame.replace("\"\"", &format!("\"{}\"", "x".repeat(length - frame.len())))
}

#[test]
fn a_message_over_several_lines_has_the_same_limit() {
    let fits = pretty_of(LIMIT);
    assert_eq!(whole(LIMIT, fits.as_bytes()), [message(&fits)]);
    let stream = pretty_of(LIMIT + 1) + "\n{}\n";
    assert_eq!(whole(LIMIT, stream.as_bytes()), [Frame::TooLarge, message("{}")]);
    assert_eq!(frames(LIMIT, stream.as_bytes().chunks(1)).0, [Frame::TooLarge, message("{}")]);
}

/// The rest of a message is no message. If each of its lines were a frame, each would fail an unrelated command.
#[test]
fn the_rest_of_a_large_message_over_several_lines_is_skipped() {
    let large = pretty(&json!({"return": [{"a": "x".repeat(20)}, {"b": "y".repeat(20)}, [[1, 2], "z"]], "id": 1}));
    assert!(large.len() > 2 * LIMIT);
    for good in ["{\"event\": \"STOP\"}", "{\r\n    \"event\": \"STOP\"\r\n}"] {
        let stream = format!("{large}\r\n{good}\r\n");
        assert_eq!(whole(LIMIT, stream.as_bytes()), [Frame::TooLarge, message(good)]);
        assert_eq!(frames(LIMIT, stream.as_bytes().chunks(1)).0, [Frame::TooLarge, message(good)]);
    }
}

#[test]
fn an_endless_line_is_one_frame_and_is_examined_once() {
    let mut framer = Framer::new(LIMIT);
    let mut frames = Vec::new();
    let mut pushed = 0;
    for _ in 0..1000 {
        framer.push(&[b'x'; 100]);
        pushed += 100;
        drain(&mut framer, &mut frames);
    }
    assert_eq!(frames, [Frame::TooLarge]);
    assert_eq!(framer.examined(), pushed);
    framer.push(b"xx\n{\"event\":\"STOP\"}\n");
    drain(&mut framer, &mut frames);
    assert_eq!(frames[1..], [message("{\"event\":\"STOP\"}")]);
}

/// The search for the end of a dropped line does not examine the bytes after it.
#[test]
fn bytes_after_a_dropped_line_are_examined_once() {
    let (found, examined) = frames(LIMIT, [&[b'x'; LIMIT + 1][..], b"x\n{\"event\":\"STOP\"}\n"]);
    assert_eq!(found, [Frame::TooLarge, message("{\"event\":\"STOP\"}")]);
    assert_eq!(examined, (LIMIT + 1 + b"x\n{\"event\":\"STOP\"}\n".len()) as u64);
}

#[test]
fn an_endless_object_is_one_frame() {
    let mut stream = b"{\n".to_vec();
    stream.extend_from_slice(&b"[".repeat(100_000));
    let (frames, examined) = frames(LIMIT, stream.chunks(7));
    assert_eq!(frames, [Frame::TooLarge]);
    assert!(examined <= 2 * stream.len() as u64, "{examined}");
}

/// Each object on the line is found by counting braces. If the search for the end of the line began again after each,
/// the time would be quadratic.
#[test]
fn a_line_of_many_objects_is_examined_a_bounded_number_of_times() {
    let mut stream = b"{}".repeat(5_000);
    stream.extend_from_slice(b"x\n");
    let (_, examined) = frames(PLENTY, [&stream[..]]);
    assert!(examined <= 3 * stream.len() as u64, "{examined} looks at {} bytes", stream.len());
}

#[test]
fn examples_of_every_kind_of_line() {
    let cases: [(&[u8], &[&str]); 10] = [
        (b"", &[]),
        (b"\r\n\n  \r\n", &[]),
        (b"{}", &[]),
        (b"{}\n", &["{}"]),
        (b"  {\"a\":\"}\"}  \r\n", &["{\"a\":\"}\"}"]),
        (b"garbage\n{}\n", &["garbage", "{}"]),
        (b"{\"a\": 1} x\n", &["{\"a\": 1}", "x"]),
        (b"{\"torn\": \"str\n{}\n", &["{\"torn\": \"str", "{}"]),
        (b"{\"torn\": {\n{}\n", &["{\"torn\": {", "{}"]),
        (b"{\n    \"a\": \"\\\"}\"\n}\n{\n}\n", &["{\n    \"a\": \"\\\"}\"\n}", "{\n}"]),
    ];
    for (stream, expected) in cases {
        let expected: Vec<Frame> = expected.iter().map(message).collect();
        assert_eq!(whole(PLENTY, stream), expected, "{}", String::from_utf8_lossy(stream));
        assert_eq!(frames(PLENTY, stream.chunks(1)).0, expected, "{}", String::from_utf8_lossy(stream));
    }
}

/// A line is examined once. For a message over several lines, its first line is examined once more.
#[test]
fn each_examination_of_a_byte_is_counted() {
    const PRETTY: &[u8] = b"{\n    \"a\": 1\n}";
    let looked_at = |limit: usize, bytes: &[u8]| {
        let mut framer = Framer::new(limit);
        framer.push(bytes);
        while framer.next_frame().is_some() {}
        framer.examined()
    };
    assert_eq!(looked_at(64, b"{}\r\n{\"a"), 7);
    assert_eq!(looked_at(64, PRETTY), 2 + PRETTY.len() as u64);
    assert_eq!(looked_at(4, PRETTY), 2 + PRETTY.len() as u64, "skipped bytes are examined as well");
}
