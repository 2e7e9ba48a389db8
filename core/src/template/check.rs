//! Check of a template: the arguments that it cannot have, and the paths of its files.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::TemplateConfig;
use crate::fault::Misuse;
use crate::transport::Monitor;

/// Options that set what a template sets, with the reason.
const OPTIONS: [(&str, &str); 7] = [
    ("m", "`TemplateConfig::new` sets the memory"),
    ("mem-path", "`TemplateConfig::new` sets the memory"),
    ("mem-prealloc", "each clone would have a copy of each page"),
    ("numa", "the memory of a node is not in the file of the template"),
    ("incoming", "a clone receives the state of the template"),
    ("loadvm", "a clone receives the state of the template"),
    ("snapshot", "what the source writes would be lost: use `TemplateConfig::disk`"),
];

/// Devices that discard memory. QEMU then punches holes into the file, also where it is mapped privately, so that the
/// memory of every other clone loses these pages (QEMU, `system/physmem.c`, `ram_block_discard_range`).
const DISCARDING: [&str; 2] = ["virtio-balloon", "virtio-mem"];

/// Ways to write that a memory backend is shared, without quotes and spaces, and with `=` for `:`.
const SHARED: [&str; 3] = ["share=on", "share=true", "share=y"];

fn wrong(what: impl ToString) -> Result<(), Misuse> {
    Err(Misuse::Config(what.to_string().into()))
}

impl TemplateConfig {
    pub(super) fn check(&self) -> Result<(), Misuse> {
        if self.config.peer.is_some() || self.config.monitor == Monitor::None {
            return wrong("a template needs a machine that is launched with a monitor");
        }
        let is_relative = |path: &Vec<u8>| !path.starts_with(b"/");
        if is_relative(&self.directory) || self.disks.iter().any(|disk| is_relative(&disk.path)) {
            return wrong("the path of a template's directory or disk is relative: use an absolute one");
        }
        if self.memory_mib == 0 {
            return wrong("a template needs memory");
        }
        self.check_machine()?;
        self.check_arguments()
    }

    fn check_machine(&self) -> Result<(), Misuse> {
        let options =
            self.config.args.windows(2).filter(|pair| is_option(&pair[0], &["machine", "M"])).map(|pair| &pair[1]);
        if self.config.machine.iter().chain(options).any(|machine| contains(machine, "memory-backend=")) {
            return wrong("a template sets the memory backend of its machine");
        }
        Ok(())
    }

    /// The capability `x-ignore-shared` leaves each shared memory in a file out of the state (QEMU, `migration/ram.c`,
    /// `migrate_ram_is_ignored`), and a clone would write to the one of all.
    fn check_objects(&self) -> Result<(), Misuse> {
        let objects = self.config.args.windows(2).filter(|pair| is_option(&pair[0], &["object"])).map(|pair| &pair[1]);
        for object in objects.filter(|object| contains(object, "memory-backend-file")) {
            let letters = object.iter().filter(|byte| !byte.is_ascii_whitespace() && **byte != b'"');
            let plain: Vec<u8> = letters.map(|byte| if *byte == b':' { b'=' } else { *byte }).collect();
            if SHARED.iter().any(|shared| contains(&plain, shared)) {
                return wrong(
                    "a template cannot have a shared memory-backend-file: a clone would lack what it contains",
                );
            }
        }
        Ok(())
    }

    fn check_arguments(&self) -> Result<(), Misuse> {
        for argument in &self.config.args {
            if let Some((option, why)) = OPTIONS.into_iter().find(|(option, _)| is_option(argument, &[option])) {
                return wrong(format!("a template cannot have the option -{option}: {why}"));
            }
        }
        self.check_objects()?;
        let devices = self.config.args.windows(2).filter(|pair| is_option(&pair[0], &["device"])).map(|pair| &pair[1]);
        for device in devices {
            if let Some(name) = DISCARDING.into_iter().find(|name| contains(device, name)) {
                return wrong(format!(
                    "a template cannot have the device {name}: what it discards is lost in every clone"
                ));
            }
        }
        Ok(())
    }
}

/// Returns whether an argument is one of these options. QEMU accepts one dash or two (QEMU, `system/vl.c`,
/// `lookup_opt`).
fn is_option(argument: &[u8], names: &[&str]) -> bool {
    let name = argument.strip_prefix(b"-").map(|name| name.strip_prefix(b"-").unwrap_or(name));
    name.is_some_and(|name| names.iter().any(|known| known.as_bytes() == name))
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}
