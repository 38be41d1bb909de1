//! What to use in place of an interface that wasmorch does not have.
//!
//! A refusal that only says no sends its reader to a search engine. These are the interfaces that
//! people do import, with the shortest way to the same end here. Nothing is listed that is not true
//! today.

/// Package, interface (`*` for all of the package), what would do instead.
const INSTEAD: &[(&str, &str, &str)] = &[
    (
        "wasi:http",
        "handler",
        "compose the middleware with the handler behind it: wac plug",
    ),
    (
        "wasi:keyvalue",
        "watcher",
        "nobody calls it: poll the bucket instead",
    ),
    (
        "wasi:keyvalue",
        "cas",
        "`atomics.increment` is the only atomic operation",
    ),
    (
        "wasi:blobstore",
        "*",
        "mount a volume and use wasi:filesystem, or call an object store by wasi:http",
    ),
    (
        "wasi:messaging",
        "*",
        "call a broker by wasi:http or wasi:sockets",
    ),
    ("wasi:sql", "*", "call a database by wasi:sockets"),
    (
        "wasi:tls",
        "*",
        "wasi:http does TLS for https URLs; for other protocols link a TLS library",
    ),
    (
        "wasi:nn",
        "*",
        "compile the model into the component, or call an inference server by wasi:http",
    ),
    (
        "wasi:crypto",
        "*",
        "link a library: wasi:random gives entropy",
    ),
    (
        "wasi:clocks",
        "timezone",
        "bring a time zone database along and read TZ from the environment",
    ),
    (
        "wasi:threads",
        "*",
        "build without threads; more replicas use more cores",
    ),
    ("wasi:webgpu", "*", "workers have no graphics device"),
    ("wasi:graphics-context", "*", "workers have no display"),
    ("wasi:surface", "*", "workers have no display"),
    ("wasi:i2c", "*", "workers have no such bus"),
    ("wasi:gpio", "*", "workers have no such pins"),
    ("wasi:usb", "*", "workers have no such bus"),
    (
        "wasi:snapshots",
        "*",
        "wrap the component for WASI 0.2 first: wasm-tools component new --adapt",
    ),
    (
        "fermyon:spin",
        "*",
        "it is Spin's own: use wasi:keyvalue, wasi:config, wasi:http",
    ),
    (
        "spin:postgres",
        "*",
        "it is Spin's own: call the database by wasi:sockets",
    ),
    (
        "wasmcloud:messaging",
        "*",
        "it is wasmCloud's own: call a broker by wasi:http or wasi:sockets",
    ),
    (
        "wasmcloud:postgres",
        "*",
        "it is wasmCloud's own: call the database by wasi:sockets",
    ),
    (
        "wasmcloud:secrets",
        "*",
        "it is wasmCloud's own: take a Secret as environment or volume",
    ),
    (
        "wasmcloud:bus",
        "*",
        "it is wasmCloud's own: call services by wasi:http",
    ),
];

/// What would do instead of an interface that is not provided, if there is anything to say.
pub fn instead(package: &str, interface: &str) -> Option<&'static str> {
    let of_package = INSTEAD.iter().filter(|(known, _, _)| *known == package);
    of_package
        .filter(|(_, known, _)| *known == "*" || *known == interface)
        .map(|(_, _, instead)| *instead)
        .next()
}
