//! The interfaces that wasmorch provides to guests: the one table of them.
//!
//! Upload refuses by it, workers explain a failed link by it, and a test holds it against what
//! `runtime` links. WASI 0.2 is one semver track: a guest built against any patch up to the host's
//! own (0.2.12) links. WASI 0.3 is provided at 0.3.0, and its release candidates were other
//! interfaces under the same names. Proposals that are still drafts ([`DRAFTS`]) have no track: each
//! version is an interface of its own. Interfaces that WASI still marks unstable
//! (`wasi:clocks/timezone`) are not provided. What nobody provides is answered with what would
//! ([`elsewhere`]).

mod elsewhere;

pub use elsewhere::instead;

/// The newest patch of WASI 0.2 that the host has.
const NEWEST_0_2: u64 = 12;

/// Which WASI a guest was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wasi {
    /// `wasi_snapshot_preview1`.
    V0_1,
    V0_2,
    V0_3,
}

impl Wasi {
    /// As it stands in `ModuleVersion.wasi`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1 => "0.1",
            Self::V0_2 => "0.2",
            Self::V0_3 => "0.3",
        }
    }
}

/// package, interfaces of 0.2, interfaces of 0.3.
const PROVIDED: &[(&str, &[&str], &[&str])] = &[
    (
        "wasi:cli",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
            "types",
        ],
    ),
    (
        "wasi:clocks",
        &["monotonic-clock", "wall-clock"],
        &["monotonic-clock", "system-clock", "types"],
    ),
    (
        "wasi:filesystem",
        &["types", "preopens"],
        &["types", "preopens"],
    ),
    ("wasi:io", &["error", "poll", "streams"], &[]),
    (
        "wasi:random",
        &["random", "insecure", "insecure-seed"],
        &["random", "insecure", "insecure-seed"],
    ),
    (
        "wasi:sockets",
        &[
            "instance-network",
            "ip-name-lookup",
            "network",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
        &["ip-name-lookup", "types"],
    ),
    (
        "wasi:http",
        &["types", "outgoing-handler"],
        &["types", "client"],
    ),
];

/// Drafts of proposals: package, interface, every version that links.
const DRAFTS: &[(&str, &str, &[&str])] = &[
    ("wasi:config", "store", &["0.2.0-rc.1", "0.2.0-draft"]),
    ("wasi:config", "runtime", &["0.2.0-draft"]),
    ("wasi:keyvalue", "store", &["0.2.0-draft"]),
    ("wasi:keyvalue", "atomics", &["0.2.0-draft"]),
    ("wasi:keyvalue", "batch", &["0.2.0-draft"]),
    // Some SDKs leave the version of this one away.
    ("wasi:logging", "logging", &["0.1.0-draft", ""]),
    // Our own, for either WASI.
    ("wasmorch:lifecycle", "signals", &["0.2.0", "0.3.0"]),
];

/// The functions of `wasi_snapshot_preview1`.
const PREVIEW1: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// An interface's name in its parts: `wasi:http/types@0.2.6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    pub package: &'a str,
    pub name: &'a str,
    pub version: Option<&'a str>,
}

impl<'a> Interface<'a> {
    /// Takes a component's import or export name apart; `None` if it is a plain name.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (package, rest) = text.split_once('/')?;
        if !package.contains(':') {
            return None;
        }
        let (name, version) = match rest.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (rest, None),
        };
        Some(Self {
            package,
            name,
            version,
        })
    }

    /// The WASI version that this interface belongs to.
    pub fn wasi(&self) -> Option<Wasi> {
        if !self.package.starts_with("wasi:") {
            return None;
        }
        match self.version?.split('.').collect::<Vec<_>>()[..] {
            ["0", "2", ..] => Some(Wasi::V0_2),
            ["0", "3", ..] => Some(Wasi::V0_3),
            _ => None,
        }
    }

    /// Whether the version is one that wasmorch speaks.
    fn is_released(&self) -> bool {
        match self
            .version
            .unwrap_or_default()
            .split('.')
            .collect::<Vec<_>>()[..]
        {
            ["0", "2", patch] => patch.parse::<u64>().is_ok_and(|patch| patch <= NEWEST_0_2),
            ["0", "3", patch] => patch == "0",
            _ => false,
        }
    }
}

/// Every interface that is provided, with the newest version of each that links.
pub fn provided() -> impl Iterator<Item = String> {
    let tracks = PROVIDED.iter().flat_map(|(package, of_0_2, of_0_3)| {
        let old = of_0_2
            .iter()
            .map(move |name| format!("{package}/{name}@0.2.{NEWEST_0_2}"));
        old.chain(
            of_0_3
                .iter()
                .map(move |name| format!("{package}/{name}@0.3.0")),
        )
    });
    let drafts = DRAFTS.iter().flat_map(|(package, name, versions)| {
        versions.iter().map(move |version| match *version {
            "" => format!("{package}/{name}"),
            version => format!("{package}/{name}@{version}"),
        })
    });
    tracks.chain(drafts)
}

/// Checks one import of a component: `Err` says why nobody provides it, and what would.
pub fn check_import(import: &str) -> Result<(), String> {
    let Some(interface) = Interface::parse(import) else {
        return Err(
            "not an interface: wasmorch provides interfaces only, no functions beside them"
                .to_owned(),
        );
    };
    match why_not(&interface) {
        None => Ok(()),
        Some(why) => Err(match instead(interface.package, interface.name) {
            Some(instead) => format!("{why}; {instead}"),
            None => why,
        }),
    }
}

fn why_not(interface: &Interface<'_>) -> Option<String> {
    let drafts = DRAFTS
        .iter()
        .filter(|(package, _, _)| *package == interface.package);
    let mut is_draft = false;
    for (_, name, versions) in drafts {
        is_draft = true;
        if *name == interface.name {
            let version = interface.version.unwrap_or_default();
            let ours = versions.iter().find(|ours| !ours.is_empty());
            return (!versions.contains(&version))
                .then(|| format!("this server has {}", ours.unwrap_or(&"no version")));
        }
    }
    let not_ours = || Some("not among the interfaces that wasmorch implements".to_owned());
    if is_draft {
        return not_ours();
    }
    let Some((_, of_0_2, of_0_3)) = PROVIDED
        .iter()
        .find(|(package, _, _)| *package == interface.package)
    else {
        return Some(if interface.package.starts_with("wasi:") {
            "a WASI proposal that wasmorch does not implement".to_owned()
        } else {
            "not a WASI interface: link the component that exports it first".to_owned()
        });
    };
    let ours = match interface.wasi() {
        Some(Wasi::V0_2) => of_0_2,
        Some(Wasi::V0_3) => of_0_3,
        Some(Wasi::V0_1) | None => return Some("this server has 0.2.12 and 0.3.0".to_owned()),
    };
    if !interface.is_released() {
        return Some(match interface.wasi() {
            Some(Wasi::V0_2) => "this server has 0.2.12: built with a newer SDK".to_owned(),
            _ => "this server has 0.3.0: built with another SDK".to_owned(),
        });
    }
    if ours.contains(&interface.name) {
        None
    } else {
        not_ours()
    }
}

/// Checks one function that a core module imports from `wasi_snapshot_preview1`.
pub fn check_preview1(function: &str) -> Result<(), String> {
    if PREVIEW1.contains(&function) {
        return Ok(());
    }
    let words = "not a function of WASI 0.1";
    Err(if function.starts_with("sock_") {
        format!("{words} but WasmEdge's own: build for wasm32-wasip2, whose sockets are standard")
    } else {
        words.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provided_imports_pass_and_others_say_why() {
        let provided = [
            "wasi:http/types@0.2.0",
            "wasi:http/types@0.2.12",
            "wasi:io/streams@0.2.6",
            "wasi:sockets/tcp@0.2.3",
            "wasi:cli/environment@0.3.0",
            "wasi:http/client@0.3.0",
            "wasi:sockets/types@0.3.0",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:keyvalue/atomics@0.2.0-draft",
            "wasi:logging/logging",
            "wasmorch:lifecycle/signals@0.3.0",
        ];
        for import in provided {
            assert_eq!(check_import(import), Ok(()), "{import}");
        }
        let refused = [
            ("wasi:http/types@0.2.13", "built with a newer SDK"),
            (
                "wasi:http/types@0.3.0-rc-2026-01-06",
                "this server has 0.3.0",
            ),
            ("wasi:http/types@0.3.2", "this server has 0.3.0"),
            ("wasi:io/streams@0.3.0", "not among"),
            (
                "wasi:keyvalue/store@0.2.0-draft2",
                "this server has 0.2.0-draft",
            ),
            ("wasi:keyvalue/watcher@0.2.0-draft", "poll the bucket"),
            ("wasi:blobstore/blobstore@0.2.0-draft", "mount a volume"),
            ("fermyon:spin/key-value@2.0.0", "wasi:keyvalue"),
            ("wasi:clocks/timezone@0.2.6", "not among"),
            ("wasi:http/handler@0.3.0", "wac plug"),
            ("wasi:cli/environment", "this server has"),
            ("wasmorch:lifecycle/hooks@0.2.0", "not among"),
            ("acme:billing/ledger@1.0.0", "not a WASI interface"),
            ("log", "not an interface"),
        ];
        assert_eq!(check_preview1("sock_accept"), Ok(()));
        assert!(
            check_preview1("sock_open")
                .unwrap_err()
                .contains("WasmEdge")
        );
        for (import, because) in refused {
            let error = check_import(import).unwrap_err();
            assert!(error.contains(because), "{import}: {error}");
        }
    }
}
