//! Proves nothing by itself: it plays the script that it is given, with its standard input as the monitor.

fn main() {
    qemu_machine_tests::player::play();
}
