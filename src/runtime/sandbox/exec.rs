//! A further program beside a running container: `exec`, probes and hooks.
//!
//! It sees what the container sees (its mounts, its environment, its termination file) and `/proc`
//! as well, opens sockets of its own on the pod's network, and charges its memory to the pod, at
//! most as much as the container may take. It ends with the container. Its CPU has the container's
//! ceiling once more, so that a busy container can still be looked into; what it takes and what is refused
//! to it is in the container's figures.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{PodSandbox, procfs};
use crate::runtime::Error;
use crate::runtime::artifact::{Artifact, Role};
use crate::runtime::budget::Budget;
use crate::runtime::container::{
    Beside, Container, ContainerHandle, Counted, Ends, Held, Scene, run_command,
};
use crate::runtime::cpu::Cpu;
use crate::runtime::host::{Environment, Launch};
use crate::runtime::limits::{MAX_DESCRIPTORS, Memory};
use crate::runtime::net::Incarnation;
use crate::runtime::spec::{ExecSpec, LogSink};
use crate::runtime::stdio::Stdin;

/// Commands of users in one pod at a time; probes and hooks do not count.
const MAX_EXECS: usize = 16;

/// One of the places.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PodSandbox {
    /// Runs a command beside a running container.
    pub fn exec(
        &self,
        spec: ExecSpec,
        artifact: Arc<Artifact>,
        output: Arc<dyn LogSink>,
    ) -> Result<ContainerHandle, Error> {
        if artifact.role() != Role::Command {
            return Err(Error::NotACommand(
                spec.args.into_iter().next().unwrap_or_default(),
            ));
        }
        let (beside, scene) = self.scene(&spec.container)?;
        let place = spec.is_counted.then(|| self.place()).transpose()?;
        let incarnation = Incarnation::new();
        let command = Arc::new(self.command(&spec, &scene, &beside));
        self.refresh_proc()?;
        let root = if scene.spec.shows_proc {
            Arc::clone(&scene.root)
        } else {
            self.fs.extended(&scene.root, &procfs::mount())?
        };
        let mut env = scene.spec.env.clone();
        env.retain(|(name, _)| !spec.env.iter().any(|(added, _)| added == name));
        env.extend(spec.env);
        let launch = Arc::new(Launch {
            environment: Environment {
                args: spec.args,
                env,
                working_dir: scene.spec.working_dir.clone(),
            },
            root,
            net: Arc::clone(&self.net),
            owner: incarnation.owner().clone(),
            listeners: Mutex::default(),
            memory: Arc::clone(&command.memory),
            descriptors: Arc::clone(&command.descriptors),
            cpu: Arc::clone(&command.cpu),
            log: output,
            stopped: command.stopped.clone(),
            stdin: command.stdin.clone(),
            is_terminal: spec.tty,
            client: self.client(&incarnation),
            keyvalue: self.keyvalue.clone(),
            disk: self.disk(&scene.spec.mounts),
            clock: self.shared.clock.clone(),
        });
        let held = Held {
            incarnation,
            slot: Some(self.shared.slot()?),
        };
        let guests = self.shared.guests.clone();
        let running = run_command(Arc::clone(&command), launch, artifact, held, guests);
        let counted = Counted::new(beside, ContainerHandle(Arc::clone(&command)));
        self.shared.guests.spawn("exec", async move {
            running.await;
            drop((counted, place));
        });
        Ok(ContainerHandle(command))
    }

    /// The program that a running container runs.
    pub fn program_of(&self, container: &str) -> Result<Arc<Artifact>, Error> {
        Ok(self.scene(container)?.1.artifact)
    }

    /// The last run of a container.
    pub fn container_named(&self, name: &str) -> Option<ContainerHandle> {
        self.containers().get(name).cloned()
    }

    pub(super) fn scene(&self, container: &str) -> Result<(ContainerHandle, Scene), Error> {
        let handle = self.container_named(container);
        let scene = handle.and_then(|handle| Some((handle.clone(), handle.0.scene()?)));
        scene.ok_or_else(|| Error::NotRunning(container.to_owned()))
    }

    fn place(&self) -> Result<Place, Error> {
        let taken = self.execs.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.execs));
        if taken >= MAX_EXECS {
            return Err(Error::TooManyExecs(MAX_EXECS));
        }
        Ok(place)
    }

    fn command(&self, spec: &ExecSpec, scene: &Scene, beside: &ContainerHandle) -> Container {
        let limit = scene.spec.memory_bytes;
        let limit = limit.unwrap_or(self.spec.limits.memory_bytes);
        let (ceiling, shares) = (scene.spec.cpu_limit_millis, scene.spec.cpu_shares);
        Container {
            name: spec.container.clone(),
            cpu: Cpu::new(ceiling, shares, Instant::now(), &self.limited),
            memory: Memory::new(Budget::watched(limit, Some(&self.budget), &self.limited)),
            descriptors: Budget::watched(MAX_DESCRIPTORS, None, &self.limited),
            requests: Budget::new(0),
            log_dropped: Arc::default(),
            ends: Ends::new(&self.limited),
            beside: Beside::default(),
            stopped: CancellationToken::new(),
            killed: beside.0.ended.child_token(),
            ended: CancellationToken::new(),
            handler: OnceLock::new(),
            scene: Mutex::default(),
            stdin: spec.stdin.then(Stdin::default),
            term_file: Box::new(|| {}),
            exit: tokio::sync::watch::Sender::new(None),
        }
    }

    /// Shows in `/proc` what is there now.
    pub(super) fn refresh_proc(&self) -> Result<(), Error> {
        let files = procfs::files(self, &self.processes());
        Ok(self.fs.update_volume(procfs::VOLUME, &files)?)
    }

    /// What runs, for `ps`: container and command line.
    fn processes(&self) -> Vec<(String, Vec<String>)> {
        let containers = self.containers();
        let running = containers.values().filter_map(|handle| {
            let scene = handle.0.scene()?;
            Some((scene.spec.name, scene.spec.args))
        });
        running.collect()
    }
}
