//! Decides the verbs that wait for nothing: they are the same on every runtime whose machines are shared handles.

use std::sync::{Mutex, MutexGuard, TryLockError};

/// The lock, when nobody holds it. A caller that panicked while it held it left a machine that is as good as before.
pub fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Gives a handle the verbs that wait for nothing. The handle has a method `ask(&self, FnOnce(&mut Machine, Moment) ->
/// T) -> T`, one `peek(&self, FnOnce(&Machine) -> T) -> Option<T>` that gives none when the machine is locked, and
/// `find_service` and `read_log`.
#[doc(hidden)]
#[macro_export]
macro_rules! verbs_that_wait_for_nothing {
    ($handle:ty) => {
        impl $handle {
            /// The position behind everything that came so far. Take one, act, and wait from it: nothing is missed
            /// between.
            #[must_use]
            pub fn mark(&self) -> $crate::core::Mark {
                self.ask(|machine, _| machine.mark())
            }

            /// Types on a console. Returns at once; QEMU takes it as fast as the guest does.
            ///
            /// # Errors
            ///
            /// When there is no console of this name, or
            /// [`Limits::console_input`]($crate::core::Limits::console_input) bytes wait to be typed already.
            pub fn console_write(&self, console: &str, text: impl AsRef<[u8]>) -> Result<(), $crate::core::Misuse> {
                let text = text.as_ref();
                self.ask(|machine, now| machine.console_write(now, console, text))
            }

            /// What a console printed from a position on, as far as it is remembered.
            ///
            /// # Errors
            ///
            /// When there is no console of this name.
            pub fn console(&self, name: &str, from: &$crate::core::Mark) -> Result<Vec<u8>, $crate::core::Misuse> {
                self.ask(|machine, _| machine.console_since(name, from).map(<[u8]>::to_vec))
            }

            /// The same, with the position behind it: for those who read a console as it prints, byte by byte. To wait
            /// for more, there is [`Wait::output`]($crate::core::Wait::output).
            ///
            /// # Errors
            ///
            /// When there is no console of this name.
            pub fn console_from(
                &self,
                name: &str,
                from: &$crate::core::Mark,
            ) -> Result<(Vec<u8>, $crate::core::Mark), $crate::core::Misuse> {
                self.ask(|machine, _| machine.console_from(name, from).map(|(bytes, mark)| (bytes.to_vec(), mark)))
            }

            /// Where the machine is in its run.
            #[must_use]
            pub fn state(&self) -> $crate::core::State {
                self.ask(|machine, _| machine.state())
            }

            /// How the machine ended, once it did.
            #[must_use]
            pub fn outcome(&self) -> Option<$crate::core::Outcome> {
                self.ask(|machine, _| machine.outcome().cloned())
            }

            /// The id of the process, while it lives: none means that it is not running.
            #[must_use]
            pub fn pid(&self) -> Option<u32> {
                self.ask(|machine, _| machine.pid())
            }

            /// What the machine is known by to whoever goes on with it, if it was launched to be
            /// [kept]($crate::core::Config::outlive_parent). Store it as soon as it is there: what happens to us comes
            /// without a warning.
            ///
            /// # Errors
            ///
            /// [`Misuse::NotDetachable`]($crate::core::Misuse::NotDetachable), [`Misuse::NotRunning`]($crate::core::Misuse::NotRunning), and
            /// what the host does not say.
            pub fn identity(&self) -> Result<$crate::core::Identity, $crate::IdentityError> {
                self.ask(|machine, _| $crate::identity(machine))
            }

            /// What QEMU said of itself: its version, and what its monitor can do.
            #[must_use]
            pub fn greeting(&self) -> Option<$crate::core::wire::Greeting> {
                self.ask(|machine, _| machine.greeting().cloned())
            }

            /// Whether commands can be executed out of band.
            #[must_use]
            pub fn out_of_band(&self) -> bool {
                self.ask(|machine, _| machine.session().out_of_band())
            }

            /// What was executed.
            #[must_use]
            pub fn command_line(&self) -> $crate::core::CommandLine {
                self.ask(|machine, _| machine.command_line().clone())
            }

            /// How much came from the monitor that nobody waited for: late replies, and what could not be read.
            #[must_use]
            pub fn counters(&self) -> $crate::core::session::Counters {
                self.ask(|machine, _| machine.session().counters())
            }

            /// Returns the record so far, for a bug report or for tests without a QEMU. `None` means that the machine is not
            /// [recorded]($crate::core::Config::recorded).
            #[cfg(feature = "record")]
            #[must_use]
            pub fn record(&self) -> Option<$crate::core::record::Record> {
                self.ask(|machine, _| machine.record())
            }

            /// How to attach to a port, for those who do it by themselves.
            ///
            /// # Errors
            ///
            /// [`Misuse::NoService`]($crate::core::Misuse::NoService) when the machine was configured without it, or has ended.
            pub fn port(&self, port: $crate::core::Service) -> Result<$crate::core::Config, $crate::core::Misuse> {
                self.find_service(port)
            }

            /// The private directory of the machine, for files that are to go away with it; none when nothing needed
            /// one.
            #[must_use]
            pub fn directory(&self) -> Option<std::path::PathBuf> {
                use std::os::unix::ffi::OsStringExt;

                let path = self.ask(|machine, _| machine.prepared().directory.clone())?;
                Some(std::ffi::OsString::from_vec(path).into())
            }

            /// Where we listened for the monitor, if we did. A port is a real one here.
            #[must_use]
            pub fn monitor_address(&self) -> Option<$crate::core::Address> {
                self.ask(|machine, _| machine.prepared().monitor.clone())
            }

            /// The file that takes what QEMU prints. It stays where
            /// [`Config::log_directory`]($crate::core::Config::log_directory) was given, and goes with the machine where not.
            #[must_use]
            pub fn log_path(&self) -> Option<std::path::PathBuf> {
                use std::os::unix::ffi::OsStringExt;

                let path = self.ask(|machine, _| machine.prepared().log.clone())?;
                Some(std::ffi::OsString::from_vec(path).into())
            }

            /// The end of what QEMU has printed, at most `limit` bytes of it; while it runs, and after its end.
            ///
            /// # Errors
            ///
            /// When the log cannot be read.
            pub fn log(&self, limit: usize) -> Result<Vec<u8>, $crate::core::HostFault> {
                self.read_log(limit)
            }
        }

        /// The [`Machine`]($crate::core::Machine) inside, or `Vm(in use)` while another thread is at it: nobody is waited for.
        impl std::fmt::Debug for $handle {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let lines = f.alternate();
                // What is written to is the caller's, and may ask the machine itself: not under the lock.
                let shown = self.peek(|machine| if lines { format!("{machine:#?}") } else { format!("{machine:?}") });
                let shown = shown.as_deref().unwrap_or("in use");
                f.debug_tuple("Vm").field(&format_args!("{shown}")).finish()
            }
        }
    };
}
