//! What may wait for a disk of the host, done where nobody else waits with it (`disk`).
//!
//! A container whose pod's volume is a directory of the host is started there and its program polled
//! there; others are not. A program that a pod brings along is read and hashed there in any case: it
//! may have megabytes.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{ContainerHandle, PodSandbox};
use crate::runtime::Error;
use crate::runtime::artifact::Artifact;
use crate::runtime::disk::Lane;
use crate::runtime::fs::Root;
use crate::runtime::spec::{ContainerSpec, LogSink, MountSpec, PodSandboxSpec, VolumeSource};

impl PodSandboxSpec {
    /// Whether the volume is a directory of the host.
    fn is_on_host(&self, name: &str) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.any(|it| it.name == name && matches!(it.source, VolumeSource::HostDir { .. }))
    }

    /// Whether its sandbox is not to be made on a thread that others wait for.
    pub fn waits_for_disk(&self) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.any(|it| matches!(it.source, VolumeSource::HostDir { .. }))
    }
}

impl PodSandbox {
    /// Where programs with those mounts are polled, if not at home.
    pub(super) fn disk(&self, mounts: &[MountSpec]) -> Option<Arc<Lane>> {
        let mounted = mounts.iter().map(|mount| mount.volume.as_str());
        let mut volumes = mounted.chain(self.spec.keyvalue_volume.as_deref());
        let waits = volumes.any(|name| self.spec.is_on_host(name));
        waits.then(|| Arc::clone(&self.lane))
    }

    /// Whether the container is to be started by [`PodSandbox::start_on_disk`].
    pub fn waits_for_disk(&self, spec: &ContainerSpec) -> bool {
        self.disk(&spec.mounts).is_some()
    }

    /// [`PodSandbox::start`], for who must not wait for a disk.
    pub async fn start_on_disk(
        self: Arc<Self>,
        spec: ContainerSpec,
        artifact: Arc<Artifact>,
        log: Arc<dyn LogSink>,
    ) -> Result<ContainerHandle, Error> {
        let (lane, home) = (Arc::clone(&self.lane), Handle::current());
        let starting = lane.run(move || {
            let _inside = home.enter();
            self.start(spec, artifact, log)
        });
        starting.await.ok_or(Error::Closed)?
    }

    /// What `read` makes of a file as a running container sees it. It is called where it may wait for
    /// a disk and compute for a while.
    pub async fn file_of<T: Send + 'static>(
        &self,
        container: &str,
        path: &str,
        read: impl FnOnce(&Arc<Root>, &str) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (_, scene) = self.scene(container)?;
        let path = match (&scene.spec.working_dir, path.starts_with('/')) {
            (Some(directory), false) => format!("{directory}/{path}"),
            _ => path.to_owned(),
        };
        let reading = self.lane.run(move || read(&scene.root, &path));
        reading.await.ok_or(Error::Closed)
    }
}
