//! Memory of a process by what it maps, where pages that several processes map count in parts.

use std::fs;
use std::path::Path;

/// Returns the proportional set size of the mappings of a file in a process, in KiB (`proc_pid_smaps(5)`): a page that
/// several processes map counts for each with its share.
///
/// # Panics
///
/// If the process does not run.
#[must_use]
pub fn of_file(pid: u32, file: &Path) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the process runs");
    let (mut is_meant, mut sum) = (false, 0);
    for line in text.lines() {
        match line.split_once(':') {
            Some(("Pss", size)) if is_meant => {
                sum += size.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
            }
            Some((name, _)) if name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') => {}
            // The first line of a mapping ends with the path.
            _ => is_meant = line.ends_with(&format!(" {}", file.display())),
        }
    }
    sum
}
