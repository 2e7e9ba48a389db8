//! Scripted QEMU: plays the script in its arguments, with its standard input as the monitor.

fn main() {
    qemu_machine_tests::player::play();
}
