//! A pod's PersistentVolumeClaims, as directories of this worker.
//!
//! The scheduler sends no pod before its claims are bound, so what is not bound here is refused and
//! tried again with the pod's next attempt. A provisioned volume is a directory of its own under
//! the worker's data directory, made at its first use and removed by `volume_ends`; `local` and
//! `hostPath` volumes are the operator's, under what the worker was started to allow. Opening may
//! count what is there (for the quota), so it is done where nobody waits.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{Api, Client};

use super::volumes;
use crate::api::{quantity, storage};
use crate::errors::chain;
use crate::runtime::fs::errno::Errno;
use crate::runtime::spec::{HostDirectory, HostDirectoryType};
use crate::runtime::{OpenDirectory, Runtime};

/// Where this worker has directories for volumes.
#[derive(Clone, Debug)]
pub struct Places {
    pub node: String,
    /// The directories of provisioned volumes, by the volume's name.
    pub volumes: PathBuf,
    /// What the operator allows.
    pub allowed: Vec<PathBuf>,
}

/// A claim's directory.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub directory: HostDirectory,
    pub read_only: bool,
    /// Keeps what opening found out until the sandbox takes it.
    _open: Option<OpenDirectory>,
}

/// The claims of one pod, by name.
pub type Claims = BTreeMap<String, Claimed>;

/// Why a claim has no directory here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("get {kind} {name:?}: {cause}")]
    Get {
        kind: &'static str,
        name: String,
        cause: String,
    },
    #[error("persistentvolumeclaim {0:?} not found")]
    Missing(String),
    #[error("persistentvolumeclaim {0:?} is not bound to a volume yet")]
    Unbound(String),
    #[error("persistentvolume {volume:?} is bound to another claim than {claim:?}")]
    NotOurs { volume: String, claim: String },
    #[error("persistentvolume {volume:?} is a directory of node {node:?}")]
    Elsewhere { volume: String, node: String },
    #[error(
        "persistentvolume {volume:?}: {path} is not allowed on this worker (start it with --allow-host-path)"
    )]
    NotAllowed { volume: String, path: String },
    #[error("persistentvolume {0:?} is of a kind that wasmorch workers cannot mount")]
    Unsupported(String),
    #[error("open {} for persistentvolume {volume:?}", path.display())]
    Open {
        volume: String,
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("make the directory of volumes {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the worker is ending")]
    Ending,
}

/// Finds and opens the directories of all claims of a pod.
pub async fn resolve(
    client: &Client,
    runtime: &Runtime,
    places: &Places,
    pod: &Pod,
) -> Result<Claims, Error> {
    let mut found = Claims::new();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for name in storage::claims_of(pod) {
        if found.contains_key(name) {
            continue;
        }
        let (claim, volume) = fetch(client, namespace, name).await?;
        let claimed = directory(&claim, &volume, places)?;
        let claimed = open(runtime, places, &volume, claimed).await?;
        found.insert(name.to_owned(), claimed);
    }
    Ok(found)
}

async fn fetch(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(PersistentVolumeClaim, PersistentVolume), Error> {
    let failed = |kind, name: &str| {
        let name = name.to_owned();
        move |error: kube::Error| Error::Get {
            kind,
            name,
            cause: chain(&error).to_string(),
        }
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = claims.get_opt(name).await;
    let claim = claim.map_err(failed("persistentvolumeclaim", name))?;
    let claim = claim.ok_or_else(|| Error::Missing(name.to_owned()))?;
    let volume = storage::volume_name(&claim).filter(|_| storage::is_bound(&claim));
    let volume = volume.ok_or_else(|| Error::Unbound(name.to_owned()))?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let found = volumes.get_opt(volume).await;
    let found = found.map_err(failed("persistentvolume", volume))?;
    let found = found.ok_or_else(|| Error::Missing(name.to_owned()))?;
    Ok((claim, found))
}

/// Where a bound volume is on this worker. Pure.
fn directory(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    places: &Places,
) -> Result<Claimed, Error> {
    let name = volume.metadata.name.clone().unwrap_or_default();
    let Some(spec) = &volume.spec else {
        return Err(Error::Unsupported(name));
    };
    let reference = spec.claim_ref.as_ref();
    if reference.and_then(|it| it.uid.as_ref()) != claim.metadata.uid.as_ref() {
        return Err(Error::NotOurs {
            volume: name,
            claim: claim.metadata.name.clone().unwrap_or_default(),
        });
    }
    let capacity = spec.capacity.as_ref().and_then(|it| it.get("storage"));
    let capacity = capacity.map(quantity::units_or_zero);
    let (root, path, expected) = if storage::is_provisioned(volume) {
        if !storage::is_on(volume, &places.node) {
            let node = storage::node_of(volume).unwrap_or_default().to_owned();
            return Err(Error::Elsewhere { volume: name, node });
        }
        let directory = directory_name(volume).ok_or(Error::Unsupported(name))?;
        let made = HostDirectoryType::DirectoryOrCreate;
        (places.volumes.clone(), directory.to_owned(), made)
    } else {
        let (path, expected) = match (&spec.local, &spec.host_path) {
            (Some(source), _) => (&source.path, Some(HostDirectoryType::Directory)),
            (None, Some(source)) => (&source.path, volumes::host_type(source.type_.as_deref())),
            (None, None) => return Err(Error::Unsupported(name)),
        };
        let Some((root, below)) = volumes::allowed(Path::new(path), &places.allowed) else {
            return Err(Error::NotAllowed {
                volume: name,
                path: path.clone(),
            });
        };
        (root, below, expected.ok_or(Error::Unsupported(name))?)
    };
    let modes = spec.access_modes.iter().flatten();
    Ok(Claimed {
        directory: HostDirectory {
            root,
            path,
            expected,
            capacity,
        },
        read_only: modes.clone().count() > 0 && modes.clone().all(|mode| mode == "ReadOnlyMany"),
        _open: None,
    })
}

/// The directory of a provisioned volume: one plain name.
pub(super) fn directory_name(volume: &PersistentVolume) -> Option<&Path> {
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    let path = Path::new(source.volume_handle.as_str());
    let mut parts = path.components();
    let is_plain = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
    (is_plain && !source.volume_handle.starts_with('.')).then_some(path)
}

async fn open(
    runtime: &Runtime,
    places: &Places,
    volume: &PersistentVolume,
    mut claimed: Claimed,
) -> Result<Claimed, Error> {
    let (runtime, directory) = (runtime.clone(), claimed.directory.clone());
    let volumes = storage::is_provisioned(volume).then(|| places.volumes.clone());
    let name = volume.metadata.name.clone().unwrap_or_default();
    let opening = tokio::task::spawn_blocking(move || {
        if let Some(path) = volumes {
            let made = std::fs::create_dir_all(&path);
            made.map_err(|source| Error::Make { path, source })?;
        }
        let opened = runtime.open_directory(&directory);
        opened.map_err(|source| Error::Open {
            volume: name,
            path: directory.root.join(&directory.path),
            source,
        })
    });
    claimed._open = Some(opening.await.map_err(|_| Error::Ending)??);
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim() -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "data", "uid": "u1"}})).unwrap()
    }

    fn volume(change: Value) -> PersistentVolume {
        let mut base = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Ki"},
            "accessModes": ["ReadWriteOnce"], "claimRef": {"name": "data", "uid": "u1"}}});
        json_patch::merge(&mut base, &change);
        serde_json::from_value(base).unwrap()
    }

    fn provisioned(handle: &str, node: &str) -> PersistentVolume {
        let affinity = serde_json::to_value(storage::only_on(node)).unwrap();
        volume(
            json!({"spec": {"csi": {"driver": storage::PROVISIONER, "volumeHandle": handle}, "nodeAffinity": affinity}}),
        )
    }

    fn check(volume: &PersistentVolume) -> Result<(String, bool), String> {
        let places = Places {
            node: "dev-1".into(),
            volumes: "/data/volumes".into(),
            allowed: vec!["/srv".into()],
        };
        let found = directory(&claim(), volume, &places).map_err(|error| error.to_string())?;
        assert_eq!(found.directory.capacity, Some(1024));
        let path = found.directory.root.join(found.directory.path);
        Ok((path.display().to_string(), found.read_only))
    }

    #[test]
    fn volumes_have_their_place() {
        let good = [
            (provisioned("pvc-1", "dev-1"), "/data/volumes/pvc-1", false),
            (
                volume(json!({"spec": {"local": {"path": "/srv/a"}}})),
                "/srv/a",
                false,
            ),
            (
                volume(
                    json!({"spec": {"hostPath": {"path": "/srv/b"}, "accessModes": ["ReadOnlyMany"]}}),
                ),
                "/srv/b",
                true,
            ),
        ];
        for (volume, path, read_only) in good {
            assert_eq!(check(&volume), Ok((path.to_owned(), read_only)));
        }
        let bad = [
            (
                provisioned("pvc-1", "dev-2"),
                "persistentvolume \"v\" is a directory of node \"dev-2\"",
            ),
            (
                provisioned("../x", "dev-1"),
                "persistentvolume \"v\" is of a kind that wasmorch workers cannot mount",
            ),
            (
                provisioned(".gone", "dev-1"),
                "persistentvolume \"v\" is of a kind that wasmorch workers cannot mount",
            ),
            (
                volume(json!({"spec": {"local": {"path": "/etc"}}})),
                "persistentvolume \"v\": /etc is not allowed on this worker (start it with --allow-host-path)",
            ),
            (
                volume(json!({"spec": {"claimRef": {"uid": "u2"}, "local": {"path": "/srv"}}})),
                "persistentvolume \"v\" is bound to another claim than \"data\"",
            ),
            (
                volume(json!({})),
                "persistentvolume \"v\" is of a kind that wasmorch workers cannot mount",
            ),
        ];
        for (volume, words) in bad {
            assert_eq!(check(&volume).unwrap_err(), words);
        }
    }
}
