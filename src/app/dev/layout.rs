//! Where a dev cluster keeps its things, and which addresses it takes.
//!
//! Everything lives under one directory (`./.wasmorch`), so that deleting it deletes the cluster.
//! A taken port is not an error: the next free one is used and said.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::DevArgs;
use super::child::Child;
use crate::client;

const LOCK: &str = "dev.lock";
const STATE: &str = "dev.json";

/// The directory of one dev cluster.
pub struct Layout {
    root: PathBuf,
}

/// The addresses that the cluster listens on.
pub struct Ports {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub ingress: SocketAddr,
    /// Wanted ports that were taken, and what was used instead.
    pub moved: Vec<(u16, u16)>,
}

impl Layout {
    /// Creates the directories and keeps a second `dev` out of them as long as the file lives; with
    /// `fresh` deletes what was there, but never under a cluster that runs.
    pub fn open(root: &Path, fresh: bool) -> anyhow::Result<(Self, File)> {
        if fresh && root.exists() {
            anyhow::ensure!(
                root.join(LOCK).exists(),
                "{} does not look like a dev cluster; --fresh deletes only what `wasmorch dev` made",
                root.display()
            );
        }
        fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
        let root = root
            .canonicalize()
            .with_context(|| format!("find {}", root.display()))?;
        let layout = Self { root };
        let lock = layout.lock()?;
        if fresh {
            layout.clear()?;
        }
        let logs = layout.root.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        Ok((layout, lock))
    }

    fn lock(&self) -> anyhow::Result<File> {
        let path = self.root.join(LOCK);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "a dev cluster already runs in {}{}\n  help: use it (`wasmorch get pods`), stop it with Ctrl-C in its terminal, or start another with --dir",
                self.root.display(),
                self.running_pid()
                    .map(|pid| format!(" (pid {pid})"))
                    .unwrap_or_default()
            );
        }
        Ok(file)
    }

    /// Who runs here, if that has been written down already.
    fn running_pid(&self) -> Option<u64> {
        let state = fs::read(self.root.join(STATE)).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&state).ok()?;
        state["pid"].as_u64()
    }

    /// Deletes everything but the lock, which is held.
    fn clear(&self) -> anyhow::Result<()> {
        let failed = |path: &Path| format!("delete {}", path.display());
        let entries = fs::read_dir(&self.root).with_context(|| failed(&self.root))?;
        for entry in entries {
            let entry = entry.with_context(|| failed(&self.root))?;
            let path = entry.path();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            match () {
                () if entry.file_name() == LOCK => Ok(()),
                () if is_directory => fs::remove_dir_all(&path),
                () => fs::remove_file(&path),
            }
            .with_context(|| failed(&path))?;
        }
        Ok(())
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// The bearer token out of the kubeconfig that the server wrote.
    pub fn admin_token(&self) -> anyhow::Result<String> {
        let kubeconfig = self.kubeconfig();
        let token = client::token_in(&kubeconfig)?;
        token.with_context(|| format!("{} holds no token", kubeconfig.display()))
    }

    pub fn write_state(&self, state: &serde_json::Value) -> anyhow::Result<()> {
        let path = self.root.join(STATE);
        let part = self.root.join("dev.json.part");
        fs::write(&part, serde_json::to_vec_pretty(state)?)
            .with_context(|| format!("write {}", part.display()))?;
        fs::rename(&part, &path).with_context(|| format!("write {}", path.display()))
    }

    pub fn server(&self, args: &DevArgs, ports: &Ports) -> Child {
        let mut child = self.child("server", args);
        child.arg("--data-dir", self.root.join("server"));
        child.arg("--bind", ports.https.to_string());
        child.arg("--http-bind", ports.http.to_string());
        child.arg("--write-kubeconfig", self.kubeconfig());
        child.flag("--local");
        child
    }

    pub fn router(&self, args: &DevArgs, ports: &Ports) -> Child {
        let mut child = self.child("router", args);
        child.arg("--data-dir", self.root.join("router"));
        child.arg("--kubeconfig", self.root.join("server/router.kubeconfig"));
        child.arg("--bind", ports.ingress.to_string());
        child
    }

    /// Workers join as any machine would: by URL and join token.
    pub fn worker(&self, args: &DevArgs, ports: &Ports, node: &str) -> anyhow::Result<Child> {
        let mut child = self.child(node, args);
        child.arg("--name", node);
        child.arg("--data-dir", self.root.join(node));
        // All workers are this user's: what one has compiled is good for the others.
        child.arg("--compiled-dir", self.root.join("compiled"));
        child.arg("--server", format!("https://{}", ports.https));
        let token = self.root.join("server/join-token");
        let token =
            fs::read_to_string(&token).with_context(|| format!("read {}", token.display()))?;
        child.env("WASMORCH_TOKEN", token.trim());
        child.arg("--address", args.address.to_string());
        child.arg("--lease-renew", "500ms");
        // The disk of somebody's own machine may be as full as it is; kind does the same.
        child.arg("--eviction-hard", "");
        child.arg("--image-gc-high-threshold", "100");
        if let Some(cpu) = &args.node_cpu {
            child.arg("--cpu", cpu);
        }
        if let Some(memory) = &args.node_memory {
            child.arg("--memory", memory);
        }
        for path in &args.allow_host_path {
            child.arg("--allow-host-path", path);
        }
        Ok(child)
    }

    fn child(&self, name: &str, args: &DevArgs) -> Child {
        let role = if name.starts_with("dev-") {
            "worker"
        } else {
            name
        };
        Child::new(name, role, self.log(name), args.verbose)
    }
}

impl Ports {
    /// Finds free ports, the wanted ones if possible.
    pub fn choose(args: &DevArgs) -> anyhow::Result<Self> {
        let mut moved = Vec::new();
        let mut free = |wanted: u16| -> anyhow::Result<SocketAddr> {
            let last = wanted.saturating_add(if wanted == 0 { 0 } else { 100 });
            for port in wanted..=last {
                // Kept open until all are chosen would be safer against others on the machine, but the
                // children must bind them; the window is milliseconds.
                if let Ok(listener) = TcpListener::bind((args.address, port)) {
                    let bound = listener.local_addr().context("read a bound address")?;
                    if wanted != 0 && port != wanted {
                        moved.push((wanted, port));
                    }
                    return Ok(bound);
                }
            }
            bail!(
                "no free port between {wanted} and {last} on {}",
                args.address
            )
        };
        let (http, https, ingress) = (
            free(args.port)?,
            free(args.https_port)?,
            free(args.ingress_port)?,
        );
        Ok(Self {
            http,
            https,
            ingress,
            moved,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_cluster_is_neither_joined_nor_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("cluster");
        let (layout, lock) = Layout::open(&root, false).unwrap();
        layout.write_state(&serde_json::json!({"pid": 7})).unwrap();
        for fresh in [false, true] {
            let refused = Layout::open(&root, fresh).err().unwrap().to_string();
            assert!(refused.contains("already runs in"), "{refused}");
            assert!(
                refused.contains("(pid 7)") && refused.contains("help:"),
                "{refused}"
            );
        }
        assert!(root.join(STATE).exists());
        drop(lock);
        Layout::open(&root, true).unwrap();
        assert!(!root.join(STATE).exists() && root.join("logs").exists());
    }

    #[test]
    fn fresh_deletes_only_what_dev_has_made() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis.tex"), "x").unwrap();
        assert!(Layout::open(directory.path(), true).is_err());
        assert!(directory.path().join("thesis.tex").exists());
    }
}
