//! The stop file: it appears when a container is asked to stop, and its name is in the container's
//! environment. It is in the pod's shared root, where every language can look for it.

use std::sync::Arc;

use crate::runtime::fs::Root;

/// The environment variable that names the stop file.
const VARIABLE: &str = "WASMORCH_TERM_FILE";

/// The environment variable that names a container's stop file to it. Whoever starts the container
/// adds it, so that a program's environment is exactly what its spec says.
pub fn term_file_variable(container: &str) -> (String, String) {
    (VARIABLE.to_owned(), path(container))
}

pub(super) fn path(container: &str) -> String {
    format!("/run/wasmorch/{container}.terminate")
}

/// A stop that was meant for an earlier run is none for this one.
pub(super) fn remove(root: &Arc<Root>, path: &str) {
    // Nearly always there is none.
    let _ = root.open().unlink_at(path.trim_start_matches('/'));
}

/// A guest that does not find it is killed when its time is over.
pub(super) fn write(root: &Arc<Root>, path: &str) {
    let directory = root.open();
    for parent in ["run", "run/wasmorch"] {
        // It may be there already; if it cannot be made, the file cannot either.
        let _ = directory.create_directory_at(parent);
    }
    if let Err(error) = root.write_file(path, b"") {
        tracing::debug!(path, ?error, "write the stop file");
    }
}
