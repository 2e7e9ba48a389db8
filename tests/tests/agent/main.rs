//! Stories of guest agents on every runtime: Debian's qemu-ga in a Linux guest, and on this host.

mod guest;
mod host;
mod programs;
mod rows;

/// Defines one test for each story on each row.
macro_rules! on_each_row {
    ($($story:ident),+ $(,)?) => {
        on_each_row! { @row blocking = crate::rows::Blocking: $($story),+ }
        on_each_row! { @row smol = crate::rows::Smol: $($story),+ }
        on_each_row! { @row mio = crate::rows::Mio: $($story),+ }
    };
    (@row $row:ident = $type:ty: $($story:ident),+) => {
        mod $row {
            $(
                #[test]
                fn $story() {
                    super::$story::<$type>();
                }
            )+
        }
    };
}
use on_each_row;
