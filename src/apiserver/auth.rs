//! The tokens that the server keeps itself: users, and the join secret of workers.
//!
//! `tokens.json` is made at the first start and readable by its owner alone. Each entry is a token
//! with its user and groups; the **join secret** stands for no fixed user: a worker sends it with
//! `X-Wasmorch-Node: <name>` and is `system:node:<name>` in `system:nodes`; so whoever has the secret
//! can be any node, until certificates are issued at join. What operators hand out
//! is the join token `wo1.<sha256 of the CA certificate>.<secret>`: the hash lets a worker check,
//! before it sends the secret anywhere, that it talks to the cluster it was invited to.
//!
//! Whoever edits the file adds and removes users at once: each look-up asks the disk whether it is
//! another, which costs about as much as hashing the token. A file that cannot be read changes nothing,
//! and so does one that is gone: to revoke tokens, take them out of it.
//!
//! A browser cannot set headers on a WebSocket, so there a token may come as the subprotocol
//! `base64url.bearer.authorization.k8s.io.<token>`. Tokens are compared as SHA-256 hashes, all of
//! them, without an early end: neither length nor position leaks.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::api::image::Digest;
use crate::api::names;
use crate::errors::chain;
use crate::ids;
use crate::registry::Caller;

/// The header in which a worker names its node.
pub const NODE_HEADER: &str = "x-wasmorch-node";
const WEBSOCKET_TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// What can go wrong with `tokens.json`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation} `{path}`")]
    Io {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read `{path}` as a list of tokens")]
    Decode {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    join_secret: String,
    tokens: Vec<Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    token: String,
    user: String,
    groups: Vec<String>,
}

/// Everyone whom the server knows.
pub struct Identities {
    path: PathBuf,
    known: ArcSwap<Known>,
    /// The file that was looked at last, whether it could be read or not.
    seen: ArcSwap<Stamp>,
}

/// What tells a file from what it was: when it was written, which some disks know only roughly, and
/// how long it is. `None` without a file.
type Stamp = Option<(SystemTime, u64)>;

/// `tokens.json` as it was read last.
struct Known {
    file: File,
    hashes: Vec<[u8; 32]>,
    join_hash: [u8; 32],
    stamp: Stamp,
}

/// The tokens that the first start made.
pub const ADMIN: &str = "admin";
pub const ROUTER: &str = "system:router";

impl Identities {
    /// Reads `tokens.json` in `directory`, or makes it.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("tokens.json");
        if !path.exists() {
            write_private(&path, &encode(&File::generate()))?;
        }
        let known = Known::read(&path)?;
        Ok(Self {
            path,
            seen: ArcSwap::from_pointee(known.stamp),
            known: ArcSwap::from_pointee(known),
        })
    }

    /// Reads the file again if it is another one now: whoever adds a user need not restart the
    /// server. A file that cannot be read changes nothing.
    fn look_again(&self) -> bool {
        let now = stamp(&self.path);
        if now == **self.seen.load() {
            return false;
        }
        let is_new = match Known::read(&self.path) {
            Ok(known) => {
                tracing::info!(path = %self.path.display(), "the tokens have changed");
                self.known.store(Arc::new(known));
                true
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the tokens stay as they were");
                false
            }
        };
        // Afterwards: who comes meanwhile reads it, too, rather than miss it.
        self.seen.store(Arc::new(now));
        is_new
    }

    /// The token of a user that the first start made.
    pub fn token_of(&self, user: &str) -> Option<String> {
        let known = self.known.load();
        let mut tokens = known.file.tokens.iter();
        let entry = tokens.find(|entry| entry.user == user)?;
        Some(entry.token.clone())
    }

    /// What a machine needs to join, beside the server's URL.
    pub fn join_token(&self, ca_certificate: &[u8]) -> String {
        let ca = Digest::of(ca_certificate);
        format!("wo1.{}.{}", ca.hex(), self.known.load().file.join_secret)
    }

    /// The user whose token this is.
    pub(crate) fn owner(&self, token: &str) -> Option<Caller> {
        // Asked each time, so that a token that was taken out is worth nothing any more.
        self.look_again();
        self.known.load().owner(token)
    }

    /// The user whose token this is, or the node that has the join secret and names itself.
    pub(crate) fn authenticate(&self, token: &str, headers: &HeaderMap) -> Result<Caller, Unknown> {
        if let Some(owner) = self.owner(token) {
            return Ok(owner);
        }
        if !is_equal(&self.known.load().join_hash, &hash(token)) {
            return Err(Unknown);
        }
        let node = headers
            .get(NODE_HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(|node| names::is_dns_subdomain(node))
            .ok_or(Unknown)?;
        Ok(caller(
            &format!("system:node:{node}"),
            vec!["system:nodes".to_owned()],
        ))
    }
}

/// A token was presented, and nobody has it.
#[derive(Debug)]
pub(crate) struct Unknown;

impl Known {
    fn read(path: &Path) -> Result<Self, Error> {
        let stamp = stamp(path);
        let bytes = std::fs::read(path).map_err(|source| Error::Io {
            operation: "read",
            path: path.to_owned(),
            source,
        })?;
        let file: File = serde_json::from_slice(&bytes).map_err(|source| Error::Decode {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            hashes: file.tokens.iter().map(|entry| hash(&entry.token)).collect(),
            join_hash: hash(&file.join_secret),
            file,
            stamp,
        })
    }

    fn owner(&self, token: &str) -> Option<Caller> {
        let presented = hash(token);
        let mut found = None;
        for (entry, known) in self.file.tokens.iter().zip(&self.hashes) {
            if is_equal(known, &presented) {
                found = Some(entry);
            }
        }
        found.map(|entry| caller(&entry.user, entry.groups.clone()))
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

impl File {
    fn generate() -> Self {
        let entry = |user: &str, group: &str| Entry {
            token: ids::secret(),
            user: user.to_owned(),
            groups: vec![group.to_owned()],
        };
        Self {
            join_secret: ids::secret(),
            tokens: vec![
                entry(ADMIN, "system:masters"),
                entry(ROUTER, "system:routers"),
            ],
        }
    }
}

fn encode(file: &File) -> Vec<u8> {
    serde_json::to_vec_pretty(file).expect("plain strings always encode")
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        use io::Write as _;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| Error::Io {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

pub(super) fn caller(user: &str, mut groups: Vec<String>) -> Caller {
    groups.push("system:authenticated".to_owned());
    Caller {
        user: user.to_owned(),
        groups,
        ..Caller::default()
    }
}

/// The token in the headers, wherever it may stand.
pub(crate) fn presented(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
    {
        let (scheme, token) = value.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().to_owned());
    }
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = offered
        .split(',')
        .find_map(|offer| offer.trim().strip_prefix(WEBSOCKET_TOKEN))?;
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .or_else(|_| URL_SAFE.decode(encoded))
        .ok()?;
    String::from_utf8(bytes).ok()
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Compares without an early end.
fn is_equal(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.iter()
        .zip(right)
        .fold(0, |difference, (one, other)| difference | (one ^ other))
        == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn tokens_name_users_and_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let identities = Identities::open(directory.path()).unwrap();
        let token = identities.token_of(ADMIN).unwrap();
        let again = Identities::open(directory.path()).unwrap();
        let sent = headers(&[("authorization", format!("Bearer {token}"))]);
        let caller = again.owner(&presented(&sent).unwrap()).unwrap();
        assert_eq!(caller.user, "admin");
        assert!(caller.groups.contains(&"system:masters".to_owned()));
        assert!(presented(&HeaderMap::new()).is_none());
        assert!(again.authenticate("nobody", &HeaderMap::new()).is_err());

        // A user is added, and the administrator's token changed, while the server runs.
        let path = directory.path().join("tokens.json");
        let mut file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let jane = serde_json::json!({"token": "t", "user": "jane", "groups": ["dev"]});
        file["tokens"].as_array_mut().unwrap().push(jane);
        std::fs::write(&path, file.to_string()).unwrap();
        let later = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
        let opened = std::fs::File::options().write(true).open(&path).unwrap();
        opened.set_modified(later).unwrap();
        let jane = again.owner("t").unwrap();
        assert_eq!(jane.groups, ["dev", "system:authenticated"]);

        // One that is broken, or gone, changes nothing and is read once.
        std::fs::write(&path, "{").unwrap();
        assert!(again.owner("t").is_some());
        assert_eq!(**again.seen.load(), stamp(&path));
        assert_ne!(again.known.load().stamp, stamp(&path));
        std::fs::remove_file(&path).unwrap();
        assert!(again.owner("t").is_some());
        assert_eq!(**again.seen.load(), None);

        let protocol = format!(
            "{WEBSOCKET_TOKEN}{}, base64.binary.k8s.io",
            URL_SAFE_NO_PAD.encode(&token)
        );
        let sent = headers(&[("sec-websocket-protocol", protocol)]);
        let token = presented(&sent).unwrap();
        assert_eq!(again.authenticate(&token, &sent).unwrap().user, "admin");
    }

    #[test]
    fn a_join_secret_is_the_node_that_it_names() {
        let directory = tempfile::tempdir().unwrap();
        let identities = Identities::open(directory.path()).unwrap();
        let token = identities.join_token(b"certificate");
        let secret = token.rsplit('.').next().unwrap();
        let with_node = |node: &str| {
            identities.authenticate(secret, &headers(&[(NODE_HEADER, node.to_owned())]))
        };
        assert_eq!(with_node("dev-1").unwrap().user, "system:node:dev-1");
        assert!(with_node("Dev 1").is_err());
        assert!(identities.authenticate(secret, &HeaderMap::new()).is_err());
        assert!(identities.owner(secret).is_none());
    }
}
