//! Stories of the observers of the wire: they receive each byte of the monitor, in order.

use std::sync::{Arc, Mutex};

use qemu_machine_core::{Config, Shutdown};
use qemu_machine_tests::qemu;

use crate::hosted::Hosted;
use crate::rows;

/// The bytes of one direction.
type Bytes = Arc<Mutex<Vec<u8>>>;

fn add_to(bytes: &Bytes) -> impl FnMut(&[u8]) + Send + 'static {
    let bytes = Arc::clone(bytes);
    move |piece: &[u8]| bytes.lock().expect("no panic").extend_from_slice(piece)
}

fn take(bytes: &Bytes) -> String {
    String::from_utf8(std::mem::take(&mut bytes.lock().expect("no panic"))).expect("JSON")
}

fn the_observers_receive_the_bytes_of_the_monitor<H: Hosted>() {
    // Stopped, so that the library need not continue it: the reply to that may come after the launch.
    let mut machine = H::launch(Config::new(qemu()).args(["-M", "none", "-nodefaults", "-S"])).expect("a launch");
    let (sent, received) = (Bytes::default(), Bytes::default());
    machine.observe_wire(add_to(&sent), add_to(&received));
    machine.execute_raw("{\"execute\": \"query-name\"}").expect("a reply");
    let (asked, answered) = (take(&sent), take(&received));
    assert!(asked.starts_with("{\"execute\": \"query-name\",\"id\":") && asked.ends_with('}'), "{asked}");
    assert!(answered.starts_with("{\"return\": {}, \"id\": ") && answered.ends_with("}\r\n"), "{answered}");
    // Others take their place.
    let later = Bytes::default();
    machine.observe_wire(|_| {}, add_to(&later));
    machine.execute_raw("{\"execute\": \"query-uuid\"}").expect("a reply");
    assert!(take(&later).contains("UUID"));
    assert_eq!((take(&sent), take(&received)), (String::new(), String::new()));
    // They stay in the next run, and in it they receive the negotiation.
    machine.shutdown(Shutdown::default()).expect("an end");
    take(&later);
    machine.relaunch().expect("a launch");
    assert!(take(&later).starts_with("{\"QMP\": "));
    machine.kill().expect("an end");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            the_observers_receive_the_bytes_of_the_monitor
        }
    };
}
rows!(stories);
