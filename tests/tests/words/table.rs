//! Table of retired identifiers, each with the one that replaces it.

/// Patterns of retired identifiers, each with the name to write instead.
///
/// | pattern | it matches |
/// |---|---|
/// | `Name` | this identifier |
/// | `*some_words*` | each identifier that contains these words in this order, such as `SomeWords` and `is_some_words_at`; without the first star it begins with them, without the last it ends with them |
/// | `fn …`, `type …` | the same, only where a function, or a type or variant, is defined |
/// | `Owner::Lost` | a path that ends so |
/// | `file words.rs` | a file or directory of this name |
/// | `core/src: …` | the same, only below this directory |
pub(crate) const NAMES: &[(&str, &str)] = &[
    ("*tester*", "qtest"),
    ("*testers*", "qtests"),
    ("file tester.rs", "qtest.rs"),
    ("*for_people*", "human monitor"),
    ("*listen*", "subscribe"),
    ("*listens*", "subscribes"),
    ("*listening*", "subscription"),
    ("*listened*", "subscribed"),
    ("*unlisten*", "unsubscribe"),
    ("*listener*", "subscription"),
    ("*listeners*", "subscriptions"),
    ("*consumer*", "subscription"),
    ("*consumers*", "subscriptions"),
    ("*heard*", "queued, or received"),
    ("*errand*", "procedure"),
    ("*errands*", "procedures"),
    ("*caused*", "ExecuteAndWait"),
    ("core/src: fn hear", "on_event"),
    ("core/src: fn think", "next_step"),
    ("core/src: fn act", "on_reply"),
    ("*when_we_die*", "outlive_parent"),
    ("type *kept*", "Detachable, or Detached"),
    ("fn *kept*", "detachable, or outlives_parent"),
    ("file kept.rs", "detached.rs"),
    ("type_on", "console_write"),
    ("Unread", "WithRawReply"),
    ("Port", "Service"),
    ("file ports.rs", "services.rs"),
    ("Front", "Frontend"),
    ("*desk*", "EventLoop"),
    ("*fact*", "session::Output, or input"),
    ("*facts*", "session::Output, or inputs"),
    ("file words.rs", "io.rs, or what the file holds"),
    ("*hearing*", "receive"),
    ("*news*", "Event, Input or Output"),
    ("Order", "lifecycle::Output"),
    ("*orders*", "outputs, or effects"),
    ("Told", "record::Input"),
    ("Said", "record::Output"),
    ("flight*", "InFlight"),
    ("Owner::Lost", "Owner::Unmatched"),
    ("Owner::Nobody", "Owner::Disowned"),
    ("*pulse*", "liveness::Probe"),
    ("*felt*", "last_reply"),
    ("*sign_of_life*", "heartbeat"),
    ("*owed*", "Outstanding"),
    ("type Answer", "Completion, or Reply"),
    ("*deaf*", "events_closed"),
    ("*crowded*", "PeerBusy"),
    ("*crowd*", "what there are many of"),
    ("file levels.rs", "queries.rs"),
    ("file turn.rs", "dispatch.rs"),
    ("file listening.rs", "subscriptions.rs"),
    ("file place.rs", "scratch_dir.rs, or what the file holds"),
    ("file given.rs", "shared_fd.rs"),
    ("type Given", "SharedFd"),
    ("*lending*", "ServiceLease"),
    ("*loan*", "ServiceLease"),
    ("*loans*", "ServiceLease"),
    ("type Ours", "LocalEnd"),
    ("theirs", "inherited"),
    ("born", "watch_completion"),
    ("buried", "unwatch_completion"),
    ("want_room", "set_write_interest"),
    ("*keeper*", "Supervisor"),
    ("*census*", "leak_check"),
    ("file told", "traced"),
    ("file aside", "standalone-crates"),
    ("file learn", "minimize-corpus"),
    ("file core-alone", "core-copy"),
    ("*life*", "run"),
    ("lives", "runs"),
    // At most five verbs for the end of a bond: disown, detach, disconnect, kill, abandon.
    ("*let_go*", "disconnect, detach or disown"),
    ("*lets_go*", "disconnect, detach or disown"),
    ("*letting_go*", "disconnect, detach or disown"),
    ("*give_up*", "abandon, or disown"),
    ("*gives_up*", "abandon, or disown"),
    ("*given_up*", "abandoned, or disowned"),
    ("*giving_up*", "abandon, or disown"),
    ("fn forget*", "disown"),
    ("type Forget", "Disown"),
    ("fn release*", "disown, or drop"),
    ("type Release", "Disown"),
    ("fn leave*", "detach, or disconnect"),
    ("type Leave", "Detach, or Disconnect"),
    ("fn lose*", "disown, or disconnect"),
    ("type Lose", "Disown, or Disconnect"),
];

/// The directory of the patterns that hold only there.
pub(crate) const INSIDE: &str = "core/src";

/// Names with at most one type definition, because they had several meanings.
pub(crate) const ONCE: &[&str] = &["Request", "Kind", "News", "Line", "Entry", "Place"];

/// The parts of the core whose `Input` and `Output` are written with their module.
pub(crate) const PARTS: &[&str] = &["lifecycle", "session", "procedure", "record"];
