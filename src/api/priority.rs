//! The words of pod priority.

/// The highest value that a user's class may have.
pub const HIGHEST_OF_USERS: i32 = 1_000_000_000;
/// What a pod or class that says nothing about preemption means.
pub const DEFAULT_PREEMPTION: &str = "PreemptLowerPriority";
/// All there is.
pub const PREEMPTION_POLICIES: &[&str] = &["Never", DEFAULT_PREEMPTION];
/// The classes that every cluster has.
pub const SYSTEM_CLASSES: [(&str, i32, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// The value of a class that every cluster has.
pub fn system_class(name: &str) -> Option<i32> {
    let mut classes = SYSTEM_CLASSES.iter();
    classes
        .find(|(class, ..)| *class == name)
        .map(|(_, value, _)| *value)
}
