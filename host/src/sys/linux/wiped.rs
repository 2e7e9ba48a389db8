//! Id of this process, in memory that the kernel wipes on fork: it costs a system call once in each process.

use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A page that a child of `fork(2)` finds filled with zeros (`madvise(2)`, MADV_WIPEONFORK).
struct Page(NonNull<AtomicU32>);

// SAFETY: the page is never unmapped, and holds an atomic number.
#[allow(unsafe_code, reason = "raw pointers are not Send by themselves; see SAFETY")]
unsafe impl Send for Page {}

// SAFETY: as above.
#[allow(unsafe_code, reason = "raw pointers are not Sync by themselves; see SAFETY")]
unsafe impl Sync for Page {}

/// Returns the id of this process.
pub(super) fn process_id() -> u32 {
    static PAGE: OnceLock<Option<Page>> = OnceLock::new();
    let Some(page) = PAGE.get_or_init(Page::map) else { return std::process::id() };
    match page.number().load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            page.number().store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

impl Page {
    /// `None` means that the kernel is older than 4.14, or has no memory.
    #[allow(unsafe_code, reason = "`mmap(2)` has no safe form; see SAFETY")]
    fn map() -> Option<Self> {
        const LENGTH: usize = size_of::<AtomicU32>();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses an address where nothing is mapped, rounds the length up to a page, and fills it
        // with zeros. A page that cannot be wiped is unused and stays mapped.
        let page =
            unsafe { libc::mmap(ptr::null_mut(), LENGTH, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping was made just now, and is used for nothing else.
        let wiped = unsafe { libc::madvise(page, LENGTH, libc::MADV_WIPEONFORK) } == 0;
        NonNull::new(page.cast()).filter(|_| wiped).map(Self)
    }

    #[allow(unsafe_code, reason = "the page is behind a raw pointer; see SAFETY")]
    fn number(&self) -> &AtomicU32 {
        // SAFETY: the page is aligned, is never unmapped, and holds zeros or a number that was stored as this type.
        unsafe { self.0.as_ref() }
    }
}
