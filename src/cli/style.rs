//! The few styles of the terminal, and what a status word is worth.
//!
//! Colour repeats what the words say and never says it alone. Style codes are written always; the
//! streams of [`super::console`] strip them where they would be noise.

use anstyle::{AnsiColor, Style};

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const WAITING: Style = AnsiColor::Yellow.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default();
pub(super) const QUIET: Style = Style::new().dimmed();

/// The style of a word in a table's cell, if it is a status word.
pub(super) fn of_status(word: &str) -> Option<Style> {
    match word {
        "Running" | "Ready" | "Active" | "Available" | "Completed" | "Succeeded" | "Bound"
        | "Complete" => Some(GOOD),
        "Pending"
        | "ContainerCreating"
        | "PodInitializing"
        | "Terminating"
        | "NotReady"
        | "Ready,SchedulingDisabled"
        | "Warning"
        | "Unknown" => Some(WAITING),
        _ if is_bad(word) => Some(BAD),
        _ => None,
    }
}

fn is_bad(word: &str) -> bool {
    matches!(
        word,
        "Failed" | "Evicted" | "OOMKilled" | "DeadlineExceeded"
    ) || (word.ends_with("Error") || word.ends_with("BackOff") || word.starts_with("Err"))
        && !word.contains([' ', '-'])
}
