//! Test of clones of a booted Linux: they share the memory of the template, and differ in the generation id.

use std::collections::BTreeSet;

use qemu_machine_blocking::procedure::Shell;
use qemu_machine_blocking::{Template, TemplateConfig, Vm, template_clone, template_source};
use qemu_machine_tests::leak_check::Scratch;
use qemu_machine_tests::linux::Linux;
use qemu_machine_tests::{PATIENCE, bounded, pss};

const CLONES: u64 = 20;

/// Runs a line in the shell of the guest, and returns its output.
fn answer(vm: &Vm, shell: &Shell, line: &str) -> String {
    let end = vm.run(shell.line(line), PATIENCE).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(end.code, 0, "{end:?}");
    end.output.as_str().to_owned()
}

fn cloned(template: &Template) -> Vm {
    let (config, load) = template_clone(template).unwrap_or_else(|error| panic!("{error}"));
    let vm = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
    vm.run(load, PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    vm
}

#[test]
fn twenty_clones_have_a_tenth_of_the_memory_of_twenty_boots() {
    bounded(|| {
        let scratch = Scratch::create();
        let memory = scratch.path().join("memory");
        let guest = Linux::in_directory(env!("CARGO_TARGET_TMPDIR")).config_without_memory();
        let guest = guest.args(["-device", "vmgenid,guid=auto"]);
        let (config, save) = template_source(&TemplateConfig::new(guest, scratch.path(), 128)).expect("there is room");
        let source = Vm::launch(config).unwrap_or_else(|error| panic!("{error}"));
        answer(&source, &Shell::on("tty"), "booted=once");
        let of_a_boot = pss::of_file(source.pid().expect("it runs"), &memory);
        let template = source.run(save, PATIENCE).unwrap_or_else(|error| panic!("{error}"));

        let clones: Vec<Vm> = (0..CLONES).map(|_| cloned(&template)).collect();
        // The source has printed the prompt.
        let at_prompt = Shell::on("tty").without_prompt();
        let mut generations = BTreeSet::new();
        for clone in &clones {
            assert_eq!(answer(clone, &at_prompt, "echo $booted"), "once\n");
            let generation = clone.execute("query-vm-generation-id").expect("it has the device");
            assert!(generations.insert(generation.to_string()), "{generation} is that of another clone");
            // It writes to no more memory, however long the others take.
            clone.execute("stop").expect("the guest runs");
        }
        let of_clones: u64 = clones.iter().map(|clone| pss::of_file(clone.pid().expect("it runs"), &memory)).sum();
        println!("KiB of memory: {of_a_boot} of a boot, {of_clones} of {CLONES} clones");
        assert!(of_a_boot > 16 << 10, "a boot of Linux writes to more memory than {of_a_boot} KiB");
        assert!(of_clones > 0 && of_clones <= CLONES * of_a_boot / 10, "{of_clones} KiB, a boot has {of_a_boot} KiB");
    });
}
