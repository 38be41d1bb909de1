//! Removes the directories of volumes that were deleted.
//!
//! The only sign is a PersistentVolume of this node that is marked as deleted and that no claim
//! holds any more; a volume that is not in a list removes nothing. The directory is renamed before it
//! is emptied, so a crash in between leaves rubbish that the next start removes, never half a
//! volume; then the finalizer goes, and with it the object.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use serde_json::json;

use super::claims::{Places, directory_name};
use crate::api::storage;
use crate::backoff::Backoff;
use crate::client;
use crate::errors::chain;
use crate::ids;
use crate::tasks::TaskGroup;

/// Why a volume is still there.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("remove its directory")]
    Remove(#[source] std::io::Error),
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer within {TIMEOUT:?}")]
    Timeout(#[from] tokio::time::error::Elapsed),
}

const GONE: &str = ".gone-";
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
/// A directory may be large.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Follows the volumes until the group is cancelled.
pub(super) fn start(client: Client, places: Places, tasks: &TaskGroup) {
    let places = Arc::new(places);
    let cancelled = tasks.cancelled();
    tasks.spawn("volume ends", async move {
        tokio::select! {
            () = follow(client, places) => {}
            () = cancelled.cancelled() => {}
        }
    });
}

async fn follow(client: Client, places: Arc<Places>) {
    sweep(&places).await;
    let api: Api<PersistentVolume> = Api::all(client);
    let mut events = client::watch(api.clone(), Config::default()).boxed();
    let mut endings = FuturesUnordered::new();
    let mut under_way = HashSet::new();
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Some(name) = endings.next(), if !endings.is_empty() => {
                under_way.remove(&name);
                continue;
            }
        };
        match event {
            None => return,
            Some(Ok(Event::InitApply(volume) | Event::Apply(volume)))
                if is_ending(&volume, &places) =>
            {
                let name = volume.metadata.name.unwrap_or_default();
                if under_way.insert(name.clone()) {
                    endings.push(end(&api, name, &places));
                }
            }
            Some(Ok(
                Event::Init
                | Event::InitApply(_)
                | Event::InitDone
                | Event::Apply(_)
                | Event::Delete(_),
            )) => {}
            Some(Err(error)) => tracing::debug!(error = %chain(&error), "watch volumes"),
        }
    }
}

fn is_ending(volume: &PersistentVolume, places: &Places) -> bool {
    let has = |name: &str| {
        let finalizers = volume.metadata.finalizers.iter().flatten();
        finalizers.into_iter().any(|found| found == name)
    };
    volume.metadata.deletion_timestamp.is_some()
        && storage::is_on(volume, &places.node)
        && has(storage::DIRECTORY)
        && !has(storage::VOLUME_PROTECTION)
}

/// Tries until the volume is gone, or is not ending any more; answers with its name.
async fn end(api: &Api<PersistentVolume>, name: String, places: &Places) -> String {
    let mut failures = 0;
    loop {
        let ending = tokio::time::timeout(TIMEOUT, try_end(api, &name, places));
        let Err(error) = ending.await.map_err(Error::from).flatten() else {
            return name;
        };
        tracing::warn!(volume = name, error = %chain(&error), "end a volume; trying again");
        failures += 1;
        tokio::time::sleep(RETRY.delay_with_jitter(failures, ids::jitter())).await;
    }
}

/// Removes the directory and lets the object go, as the volume is now.
async fn try_end(api: &Api<PersistentVolume>, name: &str, places: &Places) -> Result<(), Error> {
    let volume = api.get_opt(name).await?;
    let Some(volume) = volume.filter(|volume| is_ending(volume, places)) else {
        return Ok(());
    };
    let Some(directory) = directory_name(&volume) else {
        return Ok(());
    };
    let removed = remove(&places.volumes, directory).await;
    removed.map_err(Error::Remove)?;
    let finalizers = volume.metadata.finalizers.iter().flatten();
    let left: Vec<&String> = finalizers
        .filter(|name| *name != storage::DIRECTORY)
        .collect();
    let patch = json!({"metadata": {
        "resourceVersion": volume.metadata.resource_version,
        "finalizers": left,
    }});
    let patch = Patch::Merge(&patch);
    api.patch(name, &PatchParams::default(), &patch).await?;
    tracing::info!(volume = name, "removed");
    Ok(())
}

async fn remove(volumes: &Path, directory: &Path) -> Result<(), std::io::Error> {
    let from = volumes.join(directory);
    let to = volumes.join(format!("{GONE}{}", directory.display()));
    blocking(move || {
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        match std::fs::remove_dir_all(&to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    })
    .await
}

/// Removes what an earlier process had begun to remove.
async fn sweep(places: &Places) {
    let volumes = places.volumes.clone();
    let swept = blocking(move || {
        let entries = match std::fs::read_dir(&volumes) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(GONE) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    });
    if let Err(error) = swept.await {
        tracing::warn!(error = %chain(&error), "remove what is left of volumes");
    }
}

async fn blocking(
    work: impl FnOnce() -> Result<(), std::io::Error> + Send + 'static,
) -> Result<(), std::io::Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_goes_whole_and_only_that() {
        let root = tempfile::tempdir().unwrap();
        for path in ["pvc-1/a/b", "pvc-2", ".gone-pvc-0/x"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let names = || {
            let entries = std::fs::read_dir(root.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        remove(root.path(), Path::new("pvc-1")).await.unwrap();
        remove(root.path(), Path::new("pvc-1")).await.unwrap();
        assert_eq!(names(), [".gone-pvc-0", "pvc-2"]);
        let places = Places {
            node: "n".into(),
            volumes: root.path().to_owned(),
            allowed: Vec::new(),
        };
        sweep(&places).await;
        assert_eq!(names(), ["pvc-2"]);
    }

    #[test]
    fn only_what_is_deleted_free_and_here_ends() {
        let places = Places {
            node: "dev-1".into(),
            volumes: "/".into(),
            allowed: Vec::new(),
        };
        let check = |node: &str, is_deleted: bool, finalizers: &[&str]| {
            let volume = json!({
                "metadata": {"name": "v", "finalizers": finalizers, "deletionTimestamp": is_deleted.then_some("2026-01-01T00:00:00Z")},
                "spec": {"csi": {"driver": storage::PROVISIONER, "volumeHandle": "v"},
                    "nodeAffinity": serde_json::to_value(storage::only_on(node)).unwrap()}});
            is_ending(&serde_json::from_value(volume).unwrap(), &places)
        };
        assert!(check("dev-1", true, &[storage::DIRECTORY]));
        assert!(!check("dev-2", true, &[storage::DIRECTORY]));
        assert!(!check("dev-1", false, &[storage::DIRECTORY]));
        assert!(!check(
            "dev-1",
            true,
            &[storage::DIRECTORY, storage::VOLUME_PROTECTION]
        ));
        assert!(!check("dev-1", true, &[]));
    }
}
