//! Tests of configurations: the preparation and the command line that they give, and those that are refused.

use crate::rig::{Rig, config, tcp};
use qemu_machine_core::{
    Address, Channel, Config, Descriptor, Dialect, Effect, ExtraMonitor, Inherited, Input, Machine, Misuse, Monitor,
    MonitorSocket, Peer, Preparation, Prepared, Service, Spawn, Transport,
};

/// Returns a configuration without the defaults of the library.
fn bare() -> Config {
    Config::new("qemu").autostart().with_display().with_vga().without_monitor()
}

fn descriptor() -> Descriptor {
    Descriptor::new(())
}

fn executed(config: &Config) -> String {
    let line = config.command_line().expect("a good configuration");
    line.arguments().iter().map(|argument| String::from_utf8_lossy(argument)).collect::<Vec<_>>().join(" ")
}

fn shown(config: &Config) -> String {
    config.command_line().expect("a good configuration").to_string()
}

fn preparation(config: Config) -> Preparation {
    match Rig::launched(config).effects.swap_remove(0) {
        Effect::Prepare(wanted) => wanted,
        other => panic!("{other:?}"),
    }
}

fn spawn(rig: &Rig) -> Spawn {
    let spawn = |effect: &Effect| if let Effect::Spawn(spawn) = effect { Some(spawn.clone()) } else { None };
    rig.effects.iter().find_map(spawn).expect("it was started")
}

/// Returns why a configuration is refused, by its command line and by a machine alike.
fn misuse(config: &Config) -> Misuse {
    let misuse = config.command_line().expect_err("a refused configuration");
    assert_eq!(Machine::new(config.clone()).map(|_| ()), Err(misuse.clone()));
    misuse
}

/// Asserts that each configuration is refused with a message that contains this part.
fn are_refused(cases: impl IntoIterator<Item = (Config, &'static str)>) {
    for (config, part) in cases {
        match misuse(&config) {
            Misuse::Config(what) if what.contains(part) => {}
            other => panic!("{part}: {other:?}: {config:?}"),
        }
    }
}

/// The guest numbers its serial ports, including unconnected ones; our chardevs have their own numbers.
#[test]
fn consoles_come_in_the_order_of_the_configuration() {
    let config = bare()
        .no_serial()
        .serial("tty")
        .console_on("debug", "isa-debugcon,iobase=0xe9")
        .no_serial()
        .chardev("hmp")
        .arg("-S");
    assert_eq!(
        executed(&config),
        "qemu -serial null -chardev socket,fd=3,id=tty -serial chardev:tty \
         -chardev socket,fd=4,id=debug -device isa-debugcon,iobase=0xe9,chardev=debug \
         -serial null -chardev socket,fd=5,id=hmp -S"
    );
    assert_eq!(
        shown(&config),
        "qemu -serial null -chardev null,id=tty -serial chardev:tty \
         -chardev null,id=debug -device isa-debugcon,iobase=0xe9,chardev=debug \
         -serial null -chardev null,id=hmp -S"
    );
    assert_eq!(config.channels(), [Channel::Console(0), Channel::Console(1), Channel::Console(2)]);
    let mut rig = Rig::launched(config);
    assert_eq!(rig.vm.console_names().collect::<Vec<_>>(), ["tty", "debug", "hmp"]);
    rig.handle(Input::Received(Channel::Console(1), b"0xe9"));
    assert_eq!(rig.vm.console("debug").map(|console| console.since(0)), Ok(&b"0xe9"[..]));
}

#[test]
fn the_host_creates_the_log_of_a_console_and_qemu_writes_it() {
    let config = bare()
        .serial("tty")
        .console_log("tty", "/tmp/a,b.log")
        .serial("quiet")
        .chardev("hmp")
        .console_log("hmp", "/old")
        .console_log("hmp", "/new");
    assert_eq!(
        executed(&config),
        "qemu -chardev socket,fd=3,id=tty,logappend=on,logfile=/tmp/a,,b.log -serial chardev:tty \
         -chardev socket,fd=4,id=quiet -serial chardev:quiet \
         -chardev socket,fd=5,id=hmp,logappend=on,logfile=/new"
    );
    assert_eq!(preparation(config).files, [b"/tmp/a,b.log".to_vec(), b"/new".to_vec()]);
}

/// A service exists once, however often the caller asks for it.
#[test]
fn services_come_after_the_consoles_and_descriptors_after_the_services() {
    let config = Config::new("qemu")
        .autostart()
        .add_fd(descriptor(), 7, "a,b")
        .qtest()
        .guest_agent()
        .qtest()
        .serial("tty")
        .add_fd(descriptor(), 7, "")
        .null_monitor()
        .machine("q35");
    assert_eq!(
        executed(&config),
        "qemu -display none -vga none -chardev socket,fd=3,id=mon -qmp chardev:mon -monitor null \
         -machine q35 -chardev socket,fd=4,id=tty -serial chardev:tty \
         -chardev socket,fd=5,id=qtest -qtest chardev:qtest \
         -chardev socket,fd=6,id=qga -device virtio-serial \
         -device virtserialport,chardev=qga,name=org.qemu.guest_agent.0,id=qga \
         -add-fd fd=7,set=7,opaque=a,,b -add-fd fd=8,set=7"
    );
    let shown = shown(&config);
    for part in ["-chardev null,id=qtest", "-chardev null,id=qga", "-chardev stdio,id=mon -qmp"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(preparation(config).services, [Service::Qtest, Service::GuestAgent]);
}

/// A monitor that connects to a socket, or does not exist, is not inherited.
#[test]
fn only_inherited_descriptors_have_a_number() {
    for monitor in [Monitor::Socket, Monitor::At(Address::unix("/run/qmp")), Monitor::None] {
        let line = executed(&bare().monitor(monitor).serial("tty").guest_agent());
        assert!(line.contains("socket,fd=3,id=tty") && line.contains("socket,fd=4,id=qga"), "{line}");
    }
}

/// An address that is chosen at launch is not known yet.
#[test]
fn a_monitor_that_connects_has_its_address_in_the_command_line() {
    for (monitor, expected) in [
        (Monitor::Socket, "-chardev stdio,id=mon"),
        (Monitor::At(Address::unix("/a,b")), "-chardev socket,path=/a,,b,id=mon"),
        (Monitor::At(tcp("127.0.0.1:4444")), "-chardev socket,host=127.0.0.1,port=4444,id=mon"),
        (Monitor::At(tcp("[fe80::1]:4444")), "-chardev socket,host=fe80::1,port=4444,id=mon"),
    ] {
        let config = bare().monitor(monitor);
        assert_eq!(executed(&config), format!("qemu {expected} -qmp chardev:mon"));
        assert_eq!(shown(&config), "qemu -chardev stdio,id=mon -qmp chardev:mon");
    }
}

#[test]
fn extra_monitors_are_inherited_and_shown_with_their_paths() {
    let config = Config::new("qemu")
        .autostart()
        .with_display()
        .with_vga()
        .extra_monitor("/run/a,b")
        .extra_monitor(ExtraMonitor::new("/run/hmp").human().mode(0o660))
        .null_monitor()
        .serial("tty")
        .qtest();
    let monitors = |first: &str, second: &str| {
        format!(
            "-monitor null -chardev {first},id=extra-monitor-0 -qmp chardev:extra-monitor-0 \
             -chardev {second},id=extra-monitor-1 -monitor chardev:extra-monitor-1"
        )
    };
    let (first, second) = ("socket,fd=6,server=on,wait=off", "socket,fd=7,server=on,wait=off");
    assert_eq!(
        executed(&config),
        format!(
            "qemu -chardev socket,fd=3,id=mon -qmp chardev:mon {} -chardev socket,fd=4,id=tty -serial chardev:tty \
             -chardev socket,fd=5,id=qtest -qtest chardev:qtest",
            monitors(first, second)
        )
    );
    let (first, second) = ("socket,path=/run/a,,b,server=on,wait=off", "socket,path=/run/hmp,server=on,wait=off");
    assert!(shown(&config).contains(&monitors(first, second)), "{}", shown(&config));
    let socket = |path: &str, mode| MonitorSocket { path: path.into(), mode };
    assert_eq!(preparation(config.clone()).monitor_sockets, [socket("/run/a,b", 0o600), socket("/run/hmp", 0o660)]);
    let machine = Machine::new(config).expect("a good configuration");
    assert_eq!(machine.extra_monitors().collect::<Vec<_>>(), [b"/run/a,b".as_slice(), b"/run/hmp"]);
    assert_eq!(executed(&bare().extra_monitor("/a")).matches("chardev:mon").count(), 0, "it needs no own monitor");
}

#[test]
fn an_extra_monitor_that_cannot_be_is_refused() {
    let long = "/".to_owned() + &"x".repeat(107);
    are_refused([
        (bare().extra_monitor(""), "empty"),
        (bare().extra_monitor("/a\0b"), "NUL"),
        (bare().extra_monitor(long.as_str()), "107 bytes at most"),
        (bare().extra_monitor("/a").extra_monitor(ExtraMonitor::new("/a").human()), "two extra monitors"),
        (bare().working_directory("/run").extra_monitor("qmp"), "relative"),
        (bare().extra_monitor(ExtraMonitor::new("/a").mode(0o4600)), "0o4600"),
        (bare().extra_monitor("/a").serial("extra-monitor-0"), "`extra-monitor-0`"),
        (Config::attach(Peer::Dial(tcp("127.0.0.1:1"))).extra_monitor("/a"), "running already"),
    ]);
}

#[test]
fn the_numbers_are_those_of_the_host() {
    let mut rig = Rig::new(bare().monitor(Monitor::Inherited).serial("tty").qtest().add_fd(descriptor(), 1, ""));
    rig.held = |effect| matches!(effect, Effect::Prepare(_));
    rig.launch();
    let descriptors = vec![
        (Inherited::Added(0), 19),
        (Inherited::Service(Service::Qtest), 12),
        (Inherited::Channel(Channel::Console(0)), 30),
        (Inherited::Channel(Channel::Monitor), 7),
    ];
    rig.handle(Input::Prepared(Prepared { descriptors, ..Prepared::default() }));
    let line = spawn(&rig).arguments.join(&b' ');
    assert_eq!(
        String::from_utf8_lossy(&line),
        "qemu -chardev socket,fd=7,id=mon -qmp chardev:mon \
         -chardev socket,fd=30,id=tty -serial chardev:tty -chardev socket,fd=12,id=qtest -qtest chardev:qtest \
         -add-fd fd=19,set=1"
    );
    assert_eq!(rig.vm.command_line().arguments(), spawn(&rig).arguments);
}

#[test]
fn a_terminal_is_shared_on_request_only() {
    assert!(!spawn(&Rig::launched(config())).share_terminal);
    assert!(spawn(&Rig::launched(config().share_terminal())).share_terminal);
    let streams = |config| {
        let spawn = spawn(&Rig::launched(config));
        (spawn.attributes.inherits_stdin, spawn.attributes.inherits_stdout, spawn.share_terminal)
    };
    assert_eq!(streams(config()), (false, false, false));
    assert_eq!(streams(config().inherit_stdin()), (true, false, true), "a background process cannot read it");
    assert_eq!(streams(config().inherit_stdout()), (false, true, false));
}

#[test]
fn one_preparation_has_all_that_is_needed() {
    let (first, second) = (descriptor(), descriptor());
    let wanted = preparation(
        config()
            .name("vm")
            .temporary_directory("/var/tmp")
            .log_directory("/var/log")
            .log_limit(64 << 10)
            .socket_directory("/run")
            .monitor(Monitor::Socket)
            .no_serial()
            .chardev("hmp")
            .add_fd(first.clone(), 1, "")
            .add_fd(second.clone(), 2, ""),
    );
    assert_eq!((&*wanted.name, wanted.process), (&b"vm"[..], true));
    assert_eq!(
        (wanted.base.as_deref(), wanted.log_directory.as_deref()),
        (Some(&b"/var/tmp"[..]), Some(&b"/var/log"[..]))
    );
    assert_eq!(wanted.log_limit, Some(65_536));
    assert_eq!(
        wanted.channels,
        [
            (Channel::Monitor, Transport::ListenIn(Some(b"/run".to_vec()))),
            (Channel::Console(0), Transport::Pair),
            (Channel::Console(1), Transport::Pair),
        ]
    );
    assert_eq!((wanted.added, wanted.services, wanted.files), (vec![first, second], vec![], Vec::<Vec<u8>>::new()));
    let least = preparation(bare());
    assert_eq!((least.base, least.log_directory, least.channels), (None, None, vec![]));
    assert_eq!(least.log_limit, None);
}

#[test]
fn a_log_limit_below_64_kibibytes_is_refused() {
    are_refused([0, 1, (64 << 10) - 1].map(|limit| (bare().log_limit(limit), "65536 bytes at least")));
    assert!(Machine::new(bare().log_limit(64 << 10)).is_ok() && Machine::new(bare().log_limit(u64::MAX)).is_ok());
}

#[test]
fn the_arguments_of_the_caller_exclude_those_of_the_library() {
    let config = config().guest_agent().arg("-S").args(["-m", "64"]);
    assert_eq!(config.arguments(), [b"-S".to_vec(), b"-m".to_vec(), b"64".to_vec()]);
}

#[test]
fn invalid_and_duplicate_console_names_are_refused() {
    for name in ["", "1st", "-a", "a b", "a,b", "größe", "a/b", "mon"] {
        for config in [bare().serial(name), bare().chardev(name), bare().console_on(name, "x")] {
            are_refused([(config, "cannot name a console")]);
        }
    }
    are_refused([
        (bare().serial("tty").chardev("tty"), "`tty`"),
        (bare().serial("qga").guest_agent(), "`qga`"),
        (bare().qtest().console_on("qtest", "x"), "`qtest`"),
    ]);
    for name in ["a", "tty-1.x_Y", "qga", "qtest", "monitor"] {
        assert!(executed(&bare().serial(name)).contains(&format!("id={name} ")));
    }
}

#[test]
fn a_log_needs_its_console() {
    let unknown = || Misuse::UnknownConsole("tty".into());
    assert_eq!(misuse(&bare().console_log("tty", "/log")), unknown());
    assert_eq!(misuse(&bare().serial("other").no_serial().console_log("tty", "/log")), unknown());
    assert_eq!(misuse(&bare().console_log("tty", "/log").serial("tty")), unknown(), "the console did not exist yet");
}

#[test]
fn no_argument_holds_a_nul_byte() {
    are_refused(
        [
            bare().arg("a\0b"),
            bare().wrapper(["a\0b"]),
            bare().machine("a\0b"),
            Config::new("a\0b").autostart(),
            bare().console_on("tty", "a\0b"),
            bare().serial("tty").console_log("tty", "a\0b"),
            bare().add_fd(descriptor(), 1, "a\0b"),
        ]
        .map(|config| (config, "NUL")),
    );
}

#[test]
fn g17_no_path_holds_a_nul_byte() {
    for config in [config(), Config::attach(Peer::Connected(descriptor()))] {
        let (base, log) = (config.clone().temporary_directory("a\0b"), config.clone().log_directory("a\0b"));
        are_refused([base, log, config.socket_directory("a\0b")].map(|bad| (bad, "NUL")));
    }
}

#[test]
fn daemonize_and_an_empty_program_are_refused() {
    are_refused([
        (bare().arg("-daemonize"), "-daemonize is not supported"),
        (bare().args(["-m", "64", "--daemonize"]), "-daemonize is not supported"),
        (Config::new("").autostart(), "program is empty"),
    ]);
}

#[test]
fn g17_the_name_is_one_component_of_a_path() {
    for name in ["", "a/b", "a\0b"] {
        are_refused(
            [bare().name(name), Config::attach(Peer::Dial(tcp("[::1]:1"))).name(name)].map(|bad| (bad, "name")),
        );
    }
}

/// The kernel allows 107 bytes and a NUL (`unix(7)`).
#[test]
fn g17_the_path_of_a_socket_is_bounded() {
    let ways: [fn(Address) -> Config; 3] = [
        |address| bare().monitor(Monitor::At(address)),
        |address| Config::attach(Peer::Dial(address)),
        |address| Config::attach(Peer::Listen(address)),
    ];
    for way in ways {
        let path = |length| Address::unix("x".repeat(length));
        assert!(Machine::new(way(path(107))).is_ok() && Machine::new(way(tcp("[::1]:0"))).is_ok());
        are_refused([
            (way(path(108)), "107 bytes at most"),
            (way(path(0)), "empty or contains a NUL"),
            (way(Address::unix("a\0b")), "empty or contains a NUL"),
        ]);
    }
}

/// A machine that runs already cannot get any of this, and an ignored setting would hide the mistake.
#[test]
fn a_machine_of_another_program_takes_no_launch_settings() {
    let attached = || Config::attach(Peer::Connected(descriptor()));
    assert!(Machine::new(attached().speaking(Dialect::Qtest).name("other")).is_ok());
    are_refused(
        [
            attached().arg("-S"),
            attached().serial("tty"),
            attached().no_serial(),
            attached().guest_agent(),
            attached().add_fd(descriptor(), 1, ""),
            attached().without_monitor(),
            attached().monitor(Monitor::Socket),
            attached().null_monitor(),
            attached().machine("q35"),
            attached().wrapper(["strace"]),
            attached().console_log("tty", "/log"),
            attached().log_limit(1 << 20),
        ]
        .map(|config| (config, "an attached machine is running already")),
    );
}

/// QEMU's monitor speaks QMP. A launch in another dialect would only fail at its deadline.
#[test]
fn a_machine_that_is_launched_speaks_qmp() {
    for dialect in [Dialect::GuestAgent, Dialect::Qtest] {
        are_refused([(config().speaking(dialect), "QMP")]);
    }
    assert!(Machine::new(config().speaking(Dialect::Qmp)).is_ok());
}
