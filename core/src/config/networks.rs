//! User-mode networks of a configuration, with the ports of the host that they forward.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Config, UserNetwork};
use crate::host_forward::HostForward;

impl Config {
    /// Forwards a port of the host to the guest, by a user-mode network of this id (`-netdev user`), which the first
    /// forward creates. Forwards with the same id belong to one network. The caller's arguments connect it to a device:
    /// `-device virtio-net-pci,netdev=ID`.
    ///
    /// By default the kernel chooses the port of the host: the reply to [`InfoUsernet`](crate::commands::InfoUsernet)
    /// has it. A user-mode network also lets the guest connect to other hosts, and to services of this host (as
    /// 10.0.2.2). For one with other options, such as `restrict=on`, give `-netdev` yourself: a [`HostForward`]
    /// displays as the value of `hostfwd`.
    ///
    /// An id that QEMU does not accept, and port 0 of the guest, are refused with
    /// [`Misuse::Config`](crate::Misuse::Config). If QEMU cannot bind a port, or is built without user-mode networks,
    /// the launch fails: see [`LaunchError::launch_cause`](crate::LaunchError::launch_cause).
    ///
    /// ```
    /// use qemu_machine_core::{Config, HostForward};
    ///
    /// let config = Config::new("qemu-system-x86_64")
    ///     .host_forward("net0", HostForward::tcp(22))
    ///     .args(["-device", "virtio-net-pci,netdev=net0"]);
    /// let line = config.command_line()?.to_string();
    /// assert!(line.contains("-netdev user,id=net0,hostfwd=tcp:127.0.0.1:0-:22"));
    /// # Ok::<(), qemu_machine_core::Misuse>(())
    /// ```
    #[must_use]
    pub fn host_forward(mut self, netdev: impl Into<String>, forward: HostForward) -> Self {
        let id = netdev.into();
        match self.networks.iter_mut().find(|network| network.id == id) {
            Some(network) => network.forwards.push(forward),
            None => self.networks.push(UserNetwork { id, forwards: Vec::from([forward]) }),
        }
        self
    }
}
