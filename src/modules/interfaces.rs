//! The interfaces that wasmorch provides to guests: the table that inspection refuses by.
//!
//! It must say what `runtime` links, no more and no less. WASI 0.2 is one semver track: a guest
//! built against any patch up to the host's own (0.2.12) links. WASI 0.3 is provided at 0.3.0, and
//! its release candidates were other interfaces under the same names. Interfaces that WASI still
//! marks unstable (`wasi:clocks/timezone`) are not provided.

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
        &["types", "client", "handler"],
    ),
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

/// Checks one import of a component: `Err` says why nobody provides it.
pub fn check_import(import: &str) -> Result<(), String> {
    let Some(interface) = Interface::parse(import) else {
        return Err(
            "not an interface: wasmorch provides WASI only, no functions of its own".to_owned(),
        );
    };
    let Some((_, of_0_2, of_0_3)) = PROVIDED
        .iter()
        .find(|(package, _, _)| *package == interface.package)
    else {
        return Err(if interface.package.starts_with("wasi:") {
            "a WASI proposal that wasmorch does not implement".to_owned()
        } else {
            "not a WASI interface: link the component that exports it first".to_owned()
        });
    };
    let ours = match interface.wasi() {
        Some(Wasi::V0_2) => of_0_2,
        Some(Wasi::V0_3) => of_0_3,
        Some(Wasi::V0_1) | None => {
            return Err("this server has 0.2.12 and 0.3.0".to_owned());
        }
    };
    if !interface.is_released() {
        return Err(match interface.wasi() {
            Some(Wasi::V0_2) => "this server has 0.2.12: built with a newer SDK".to_owned(),
            _ => "this server has 0.3.0: built with another SDK".to_owned(),
        });
    }
    if ours.contains(&interface.name) {
        Ok(())
    } else {
        Err("not among the interfaces that wasmorch implements".to_owned())
    }
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
            ("wasi:keyvalue/store@0.2.0-draft", "a WASI proposal"),
            ("wasi:clocks/timezone@0.2.6", "not among"),
            ("wasi:cli/environment", "this server has"),
            ("acme:billing/ledger@1.0.0", "not a WASI interface"),
            ("log", "not an interface"),
        ];
        for (import, because) in refused {
            let error = check_import(import).unwrap_err();
            assert!(error.contains(because), "{import}: {error}");
        }
    }
}
