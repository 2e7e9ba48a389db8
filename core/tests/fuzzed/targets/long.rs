//! Long and deep inputs, generated, because as files they would make the corpora large: the fuzzer begins with them, and
//! every build replays them.

/// Depths of nesting: below and above 128 (`serde_json`) and 1,024 (QEMU, `qobject/json-parser.c`, `MAX_NESTING`).
const DEPTHS: [usize; 5] = [100, 127, 1_000, 1_025, 5_000];

/// The most bytes of an input.
const MOST: usize = 64 << 10;

/// Returns the long inputs of a target, each with its name. Empty for a target whose inputs are short.
pub(crate) fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let seeds: Vec<(String, Vec<u8>)> = match target {
        // The first byte is the limit, the next are sizes of pieces.
        "framing" => named(streams(), |stream| [&[0, 7, 3, 1], stream].concat()),
        "message" => named(messages(), <[u8]>::to_vec),
        "matcher" => matcher(),
        "session" => session(),
        "record" => vec![("many-steps".into(), vec![5; MOST]), ("jumps".into(), [0, 9].repeat(1_000))],
        "command_line" => named(arguments(), |argument| [&[0; 9], argument].concat()),
        _ => Vec::new(),
    };
    assert!(seeds.iter().all(|(name, seed)| seed.len() <= MOST || panic!("{name} has {} bytes", seed.len())));
    seeds
}

type Named = Vec<(String, Vec<u8>)>;

fn named(seeds: Named, change: impl Fn(&[u8]) -> Vec<u8>) -> Named {
    seeds.into_iter().map(|(name, seed)| (name, change(&seed))).collect()
}

/// Returns nested arrays or objects with a number inside.
pub(super) fn nested(depth: usize, objects: bool) -> String {
    let (open, close) = if objects { ("{\"a\":", "}") } else { ("[", "]") };
    [&open.repeat(depth), "1", &close.repeat(depth)].concat()
}

/// Returns long JSON values.
fn values() -> Vec<(String, String)> {
    let deep = DEPTHS.into_iter().flat_map(|depth| {
        [(format!("lists-{depth}"), nested(depth, false)), (format!("objects-{depth}"), nested(depth, true))]
    });
    let long = [
        ("text", format!("\"{}\"", "x".repeat(60_000))),
        ("escapes", format!("\"{}\"", "\\u00e9\\n".repeat(7_000))),
        ("members", format!("{{{}\"z\":0}}", (0..5_000).map(|n| format!("\"m{n}\":{n},")).collect::<String>())),
        ("elements", format!("[{}0]", "1.5,".repeat(15_000))),
        ("digits", "9".repeat(60_000)),
    ];
    deep.chain(long.map(|(name, value)| (name.into(), value))).collect()
}

/// Returns long messages: replies, events and refusals.
fn messages() -> Named {
    let of = |(name, value): (String, String)| {
        [
            (format!("reply-{name}"), format!("{{\"return\": {value}, \"id\": 1}}").into_bytes()),
            (format!("event-{name}"), format!("{{\"event\": \"STOP\", \"data\": {value}}}").into_bytes()),
            (format!("error-{name}"), format!("{{\"error\": {{\"class\": \"C\", \"more\": {value}}}}}").into_bytes()),
        ]
    };
    values().into_iter().flat_map(of).collect()
}

/// Returns long streams: the messages, each on a line and on many, and lines without an end.
fn streams() -> Named {
    let lines = messages().into_iter().map(|(name, message)| (name, [&message, &b"\r\n"[..]].concat()));
    let pretty = DEPTHS.map(|depth| {
        let text = nested(depth, true).replace('{', "{\n").replace('}', "\n}\n");
        (format!("pretty-{depth}"), text.into_bytes())
    });
    let others = [
        ("short-lines", b"{\"event\":\"E\"}\n".repeat(4_000)),
        ("objects-on-a-line", b"{}{ }".repeat(10_000)),
        ("brackets", b"[".repeat(60_000)),
        ("braces", b"{".repeat(60_000)),
        ("quotes", b"{\"\n".repeat(20_000)),
        ("one-line", [&b"x".repeat(30_000)[..], b"\n", &b"x".repeat(30_000)].concat()),
    ];
    lines.chain(pretty).chain(others.map(|(name, stream)| (name.into(), stream))).collect()
}

/// Returns two lines of JSON, or choices for nested values of both kinds.
fn matcher() -> Named {
    let flat = values().into_iter().filter(|(_, value)| value.len() < 30_000).map(|(name, value)| {
        let lines = [&[1], value.as_bytes(), b"\n", value.as_bytes()].concat();
        (name, lines)
    });
    let deep =
        [0, 0x55, 0xff].map(|kinds| (format!("nested-{kinds}"), vec![super::matcher::DEEP, 250, 4, kinds, 2, 1]));
    flat.chain(deep).collect()
}

/// Returns conversations with long steps.
fn session() -> Named {
    let received = |(name, message): (String, Vec<u8>)| {
        // A monitor, without a limit on messages, that has greeted and negotiated, and a command.
        let mut tape = vec![0, 0, 1, 7, 3, 1, 0, 3, 0, 3, 1, 6, 0, 1, super::session::LONG];
        tape.extend(u16::try_from(message.len() + 1).expect("64 KiB at most").to_be_bytes());
        tape.extend(message);
        tape.extend([b'\n', 6, 0, 1, 3, 1]);
        (name, tape)
    };
    let nested = (0..6).flat_map(|kind| {
        DEPTHS.map(|depth| {
            let [high, low] = u16::try_from(depth).expect("it is small").to_be_bytes();
            let step = [super::session::NESTED, kind, high, low];
            (format!("step-{kind}-{depth}"), [&[0, 0, 1, 7, 3, 1, 0, 3, 0, 3, 1][..], &step.repeat(20)].concat())
        })
    });
    messages().into_iter().map(received).chain(nested).collect()
}

fn arguments() -> Named {
    let long = |text: &str, count| text.repeat(count).into_bytes();
    let all = [
        ("plain", long("x", 60_000)),
        ("quotes", long("'", 60_000)),
        ("commas", long(",=", 30_000)),
        ("control", long("\u{1b}[2J", 15_000)),
        ("binary", vec![0xff; 60_000]),
    ];
    all.map(|(name, argument)| (name.into(), argument)).into()
}
