//! Suggestion of the known name that is most similar to an unknown one.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Returns the known name that is the fewest changes away. `None` means that each needs changes to more than a third of
/// the letters, and at least to two. `-` and `_` count as equal, since QEMU's names have both (`query-block`,
/// `device_add`), and so do upper and lower case.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let most = (name.chars().count() / 3).max(1);
    let changes = known.into_iter().map(|known| (changes(name, known), known));
    let (_, nearest) = changes.filter(|(changes, _)| *changes <= most).min()?;
    Some(nearest.to_string())
}

/// Returns how many letters must be replaced, removed, added, or swapped with their neighbour (the restricted
/// Damerau-Levenshtein distance).
fn changes(one: &str, other: &str) -> usize {
    let fold = |text: &str| text.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect();
    let (one, other): (Vec<char>, Vec<char>) = (fold(one), fold(other));
    // Rows of the distance matrix: the one before the last, the last, and the one that is being computed.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = Vec::with_capacity(last.len());
        row.push(i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = last[j] + usize::from(a != b);
            let mut least = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = core::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(one.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted() {
        for (one, other, count) in [
            ("", "", 0),
            ("", "abc", 3),
            ("device_ad", "device_add", 1),
            ("device-add", "device_add", 0),
            ("Quit", "quit", 0),
            ("qiut", "quit", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 1),
        ] {
            assert_eq!((changes(one, other), changes(other, one)), (count, count), "{one} {other}");
        }
    }

    #[test]
    fn a_name_that_is_too_different_is_not_suggested() {
        let known = ["query-block", "query-status", "quit"];
        assert_eq!(nearest("query-stats", known).as_deref(), Some("query-status"));
        assert_eq!(nearest("qit", known).as_deref(), Some("quit"));
        assert_eq!(nearest("launch", known), None);
        assert_eq!(nearest("", known), None);
    }
}
