//! Unified diffs of text files, as plans show them.

use similar::TextDiff;

/// The difference between what is there (`None`: nothing) and what will be, in the form of `diff -u`.
pub fn unified(path: &str, before: Option<&str>, after: &str) -> String {
    let from = if before.is_some() { path } else { "/dev/null" };
    TextDiff::from_lines(before.unwrap_or_default(), after)
        .unified_diff()
        .context_radius(3)
        .header(from, path)
        .to_string()
}
