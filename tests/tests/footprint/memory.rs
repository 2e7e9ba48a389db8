//! Tests of the memory of a client, as the kernel counts it.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::spawn;

use qemu_machine_tests::null::{Wealth, schema_of, serve};

use super::CLIENT;
use crate::client::CONNECTIONS;

/// Null servers, one for each connection, in a directory of their own.
pub(crate) struct Server(PathBuf);

impl Server {
    pub(crate) fn start(wealth: Wealth) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("footprint-{}", std::process::id()));
        // An earlier run may have left it.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("there is room");
        let server = Self(directory);
        let listener = UnixListener::bind(server.address()).expect("the name is free");
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let wealth = wealth.clone();
                // A client that disconnects while the server writes causes an error.
                spawn(move || drop(serve(client, &wealth)));
            }
        });
        server
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    pub(crate) fn address(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The removal fails only if the directory is gone.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The numbers that a client prints.
fn printed(row: &str, task: &str, wealth: Wealth) -> Vec<f64> {
    let server = Server::start(wealth);
    let program = std::env::current_exe().expect("the test has an executable");
    let client = Command::new(program).args([CLIENT, row, task]).arg(server.address()).output().expect("it runs");
    assert!(client.status.success(), "{}", String::from_utf8_lossy(&client.stderr));
    let numbers = String::from_utf8(client.stdout).expect("it prints numbers");
    println!("{row} {task}: {}", numbers.trim());
    numbers.split_whitespace().map(|number| number.parse().expect("it is a number")).collect()
}

/// The peak is the message and 15 percent for the buffers that read it.
pub(crate) fn of_a_long_reply() {
    let wealth = Wealth { large: schema_of(16 << 20), ..Wealth::default() };
    let [length, peak, left] = printed("threads", "large", wealth)[..] else { unreachable!("it prints three") };
    assert!(length >= f64::from(16 << 20), "{length}");
    assert!(peak * 1024.0 <= length * 1.15, "{peak} KiB");
    assert!(left <= 1024.0, "{left} KiB are left");
}

/// Bounds in bytes for each connection; the allocator counts, so a busy system changes nothing but who reads a reply. On
/// threads, half is the machine itself, with its configuration, its run and its commands. In a task, smol's executor and
/// reactor hold some memory as well. The supervisor, or a thread of the executor, may read a reply into a buffer of its
/// own: 64 KiB once.
pub(crate) fn of_idle_connections() {
    for (row, each, once) in
        [("threads", 4000.0, 65536.0), ("loop", 3800.0, 0.0), ("smol", 4800.0, 65536.0), ("tokio", 5500.0, 65536.0)]
    {
        let grown = printed(row, "idle", Wealth::default())[0];
        assert!(grown <= each * CONNECTIONS as f64 + once, "{row}: {grown} bytes");
    }
}
