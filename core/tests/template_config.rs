//! Tests of the configurations of templates, and of the overlays of their disks.

use qemu_machine_core::{Config, Descriptor, DiskFormat, Misuse, Monitor, Peer, TemplateConfig};

fn guest() -> Config {
    Config::new("qemu").args(["-nodefaults"])
}

fn template(config: Config) -> TemplateConfig {
    TemplateConfig::new(config, "/dir", 64)
}

#[test]
fn the_source_has_its_memory_and_disks_in_files() {
    let template = TemplateConfig::new(guest(), "/a,b", 64).disk("vda", "/c,d", DiskFormat::Raw);
    assert_eq!((template.directory(), template.memory_path()), (&b"/a,b"[..], b"/a,b/memory".to_vec()));
    assert_eq!(template.state_path(), b"/a,b/state");
    let line = template.source_config().unwrap().command_line().unwrap().to_string();
    for part in [
        "-nodefaults -m 64M -object memory-backend-file,id=template-memory,size=64M,mem-path=/a,,b/memory,share=on",
        "-machine memory-backend=template-memory",
        "-blockdev driver=raw,node-name=vda,file.driver=file,file.filename=/c,,d",
    ] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
}

#[test]
fn what_cannot_be_saved_is_refused_before_the_launch() {
    let refused = |template: TemplateConfig| match template.source_config() {
        Err(Misuse::Config(why)) => why.to_string(),
        other => panic!("{other:?}"),
    };
    for (arguments, why) in [
        (["-m", "64"], "-m"),
        (["--m", "64"], "-m"),
        (["-mem-path", "/x"], "-mem-path"),
        (["-mem-prealloc", "-S"], "-mem-prealloc"),
        (["-numa", "node"], "-numa"),
        (["-incoming", "defer"], "-incoming"),
        (["-loadvm", "x"], "-loadvm"),
        (["-snapshot", "-S"], "-snapshot"),
        (["-device", "virtio-balloon-pci,id=b"], "virtio-balloon"),
        (["--device", r#"{"driver": "virtio-mem-pci"}"#], "virtio-mem"),
        (["-object", "memory-backend-file,id=m,size=1M,mem-path=/x,share=on"], "memory-backend-file"),
        (["--object", r#"{"qom-type": "memory-backend-file", "share" : true}"#], "memory-backend-file"),
        (["-M", "pc,memory-backend=m"], "memory backend"),
        (["-machine", "memory-backend=m"], "memory backend"),
    ] {
        let error = refused(template(guest().args(arguments)));
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
    assert!(refused(template(guest().machine("pc,memory-backend=m"))).contains("memory backend"));
    assert!(refused(template(guest().monitor(Monitor::None))).contains("monitor"));
    assert!(refused(template(Config::attach(Peer::Connected(Descriptor::new(()))))).contains("launched"));
    assert!(refused(TemplateConfig::new(guest(), "dir", 64)).contains("relative"));
    assert!(refused(TemplateConfig::new(guest(), "/dir", 0)).contains("memory"));
    assert!(refused(template(guest()).disk("vda", "disk", DiskFormat::Raw)).contains("relative"));
    // Names of the same letters in other places are no such devices.
    let harmless = guest().args(["-append", "virtio-balloon -m", "-name", "virtio-mem"]);
    template(harmless).source_config().expect("it discards no memory");
    let private = guest().args(["-object", "memory-backend-file,id=m,size=1M,mem-path=/x,share=off"]);
    template(private).source_config().expect("its memory is in the state");
}

/// Returns the overlay on an image with this beginning and length.
fn overlay(format: DiskFormat, head: &[u8], length: u64) -> Result<Vec<u8>, Misuse> {
    template(guest()).disk("vda", "/images/disk", format).disks()[0].overlay(head, length)
}

fn number(image: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(image[at..at + 8].try_into().unwrap())
}

#[test]
fn an_overlay_has_the_size_and_the_format_of_its_image() {
    let raw = overlay(DiskFormat::Raw, b"", (1 << 30) + 1).unwrap();
    assert_eq!((&raw[..8], number(&raw, 24)), (&b"QFI\xfb\0\0\0\x03"[..], (1 << 30) + 512));
    assert_eq!(raw.len(), 4 << 16, "the header, the counts and their table, and one table of a cluster");
    let at = number(&raw, 8) as usize;
    assert_eq!(&raw[at..at + 12], b"/images/disk");
    assert!(raw[104..at].windows(3).any(|window| window == b"raw"));
    // Each of the four clusters is used once.
    assert_eq!((&raw[2 << 16..(2 << 16) + 10], number(&raw, 1 << 16)), (&[0, 1, 0, 1, 0, 1, 0, 1, 0, 0][..], 2 << 16));

    // An overlay is an image of the format qcow2 itself.
    let of_overlay = overlay(DiskFormat::Qcow2, &raw[..32], 77).unwrap();
    assert_eq!(number(&of_overlay, 24), (1 << 30) + 512);
    assert!(of_overlay[104..200].windows(5).any(|window| window == b"qcow2"));
    // A table for 8 TiB has two clusters.
    assert_eq!(overlay(DiskFormat::Raw, b"", 8 << 40).unwrap().len(), 5 << 16);
}

#[test]
fn an_image_of_another_format_or_size_has_no_overlay() {
    for (format, head, length) in [
        (DiskFormat::Qcow2, &b"QFI"[..], 3),
        (DiskFormat::Qcow2, &[7; 32], 32),
        (DiskFormat::Raw, b"", 1 << 52),
        (DiskFormat::Raw, b"", u64::MAX),
    ] {
        assert!(matches!(overlay(format, head, length), Err(Misuse::Config(_))), "{format:?} {length}");
    }
    let long = template(guest()).disk("vda", "/".repeat(1024), DiskFormat::Raw);
    assert!(matches!(long.disks()[0].overlay(b"", 512), Err(Misuse::Config(_))));
}
