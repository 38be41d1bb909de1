//! A real cluster for journeys: the built binary's `dev`, with real processes to kill, and steady load
//! whose failures are counted.

mod load;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::runtime::conditions::Condition;
use kube::runtime::wait::await_condition;
use rustix::process::Signal;
use serde_json::Value;

pub(crate) use self::load::Load;

/// How long anything may take here before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running dev cluster; it ends with this value.
pub(crate) struct Cluster {
    process: Child,
    directory: tempfile::TempDir,
    pub(crate) client: kube::Client,
}

impl Cluster {
    /// Starts one on free ports and waits until it says that it is up.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments).await
    }

    /// The same, in the directory of an earlier one.
    pub(crate) async fn start_in(directory: tempfile::TempDir, arguments: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let said = directory.path().join("dev.out");
        let log = std::fs::File::create(&said).unwrap();
        let mut process = dev(&directory.path().join("cluster"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        until("the cluster to be up", async || {
            let text = std::fs::read_to_string(&said).unwrap();
            assert!(process.try_wait().unwrap().is_none(), "dev ended:\n{text}");
            text.contains("Dashboard").then_some(())
        })
        .await;
        let kubeconfig =
            kube::config::Kubeconfig::read_from(directory.path().join("cluster/kubeconfig"))
                .unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        let client = kube::Client::try_from(config).unwrap();
        Self {
            process,
            directory,
            client,
        }
    }

    /// Ctrl-C; gives how long it took, what was said, and the directory.
    pub(crate) fn stop(mut self) -> (Duration, String, tempfile::TempDir) {
        let since = Instant::now();
        self.signal(Signal::INT);
        let status = self.process.wait().unwrap();
        let took = since.elapsed();
        let said = self.said();
        assert!(status.success(), "{status}\n{said}");
        let elsewhere = tempfile::tempdir().unwrap();
        (
            took,
            said,
            std::mem::replace(&mut self.directory, elsewhere),
        )
    }

    /// `kill -9` of `dev` itself; gives the directory.
    pub(crate) fn kill_dev(mut self) -> tempfile::TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::mem::replace(&mut self.directory, elsewhere)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id().cast_signed()) {
            rustix::process::kill_process(pid, signal).unwrap();
        }
    }

    /// A worker that `dev` does not know and so does not start again.
    pub(crate) async fn worker(&self, name: &str) -> Worker {
        let token = std::fs::read_to_string(self.root().join("server/join-token")).unwrap();
        let log = std::fs::File::create(self.root().join(format!("logs/{name}.log"))).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_wasmorch"))
            .args(["worker", "--name", name, "--lease-renew", "500ms"])
            .args(["--server", self.state()["https"].as_str().unwrap()])
            .args(["--eviction-hard", ""])
            .arg("--data-dir")
            .arg(self.root().join(name))
            .env("WASMORCH_TOKEN", token.trim())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let nodes: Api<Node> = Api::all(self.client.clone());
        let ready = |node: Option<&Node>| {
            let status = node.and_then(|node| node.status.as_ref());
            let conditions = status.and_then(|status| status.conditions.as_deref());
            wasmorch::api::condition::is_true(conditions.unwrap_or_default(), "Ready")
        };
        self.wait_within(PATIENCE, name, await_condition(nodes, name, ready))
            .await
            .unwrap();
        Worker(process)
    }

    /// Every process of the cluster, `dev` itself included.
    pub(crate) fn pids(&self) -> Vec<u64> {
        let state = self.state();
        let children = state["processes"].as_object().unwrap().values();
        let children = children.map(|pid| pid.as_u64().unwrap());
        children.chain([state["pid"].as_u64().unwrap()]).collect()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("cluster")
    }

    /// What `dev` has said so far.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("dev.out")).unwrap()
    }

    fn state(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.root().join("dev.json")).unwrap()).unwrap()
    }

    /// The front door.
    pub(crate) fn ingress(&self) -> SocketAddr {
        self.state()["ingress"]
            .as_str()
            .unwrap()
            .trim_start_matches("http://")
            .parse()
            .unwrap()
    }

    pub(crate) fn pid(&self, name: &str) -> u64 {
        self.state()["processes"][name].as_u64().unwrap()
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, name: &str) {
        self.signal_to(name, Signal::KILL);
    }

    /// Sends a signal to one of `dev`'s processes.
    pub(crate) fn signal_to(&self, name: &str, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid(name)).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until `dev` has put another process in the killed one's place.
    pub(crate) async fn wait_for_restart(&self, name: &str, killed: u64) {
        until(&format!("{name} to be back"), async || {
            let pid = self.pid(name);
            (pid != 0 && pid != killed).then_some(())
        })
        .await;
    }

    /// The CLI on this cluster, not yet started.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasmorch"));
        command
            .arg("--kubeconfig")
            .arg(self.root().join("kubeconfig"));
        command
    }

    /// The same; gives its standard output.
    pub(crate) fn wasmorch(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        succeeded("wasmorch", arguments, &output)
    }

    /// What `wasmorch logs` shows of a container; nothing before it has started, which is refused.
    pub(crate) fn logs(&self, of: &[&str]) -> String {
        let output = self.command().arg("logs").args(of).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The CLI, however it ends; gives what it said of errors.
    pub(crate) fn try_wasmorch(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The real kubectl; `None` where there is none.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Option<String> {
        let output = self.try_kubectl(arguments)?;
        Some(succeeded("kubectl", arguments, &output))
    }

    /// The same, however it ends.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> Option<std::process::Output> {
        self.try_kubectl_of(Kubectl::New, arguments)
    }

    /// The same with either version.
    pub(crate) fn try_kubectl_of(
        &self,
        version: Kubectl,
        arguments: &[&str],
    ) -> Option<std::process::Output> {
        run(self.kubectl_of(version)?.args(arguments))
    }

    /// A kubectl for this cluster, not yet started; `None` where that version is not named.
    pub(crate) fn kubectl_of(&self, version: Kubectl) -> Option<Command> {
        let (program, cache) = match version {
            Kubectl::New => {
                let named = std::env::var_os("WASMORCH_TEST_KUBECTL");
                (named.unwrap_or_else(|| "kubectl".into()), "kubectl-cache")
            }
            Kubectl::Old => {
                let named = std::env::var_os("WASMORCH_TEST_KUBECTL_OLD");
                let is_here = named.is_some() || std::env::var_os("CI").is_none();
                assert!(is_here, "WASMORCH_TEST_KUBECTL_OLD is not set");
                (named?, "old-kubectl-cache")
            }
        };
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(self.root().join("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.directory.path().join(cache));
        Some(command)
    }

    /// Pushes a prebuilt guest as a module.
    pub(crate) fn push(&self, guest: &str, image: &str) {
        self.wasmorch(&["push", guest_path(guest).to_str().unwrap(), "--name", image]);
    }

    pub(crate) fn apply(&self, manifest: &str) {
        let file = self.directory.path().join("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.wasmorch(&["apply", "-f", file.to_str().unwrap()]);
    }

    /// Waits until all replicas of a Deployment are updated and ready.
    pub(crate) async fn wait_for_rollout(&self, name: &str) {
        let api: Api<Deployment> = Api::default_namespaced(self.client.clone());
        // On a busy machine a watch may fall behind what the server remembers.
        let rolled_out = async {
            while await_condition(api.clone(), name, IsRolledOut)
                .await
                .is_err()
            {}
        };
        self.wait_within(
            PATIENCE,
            &format!("deployment {name} to be rolled out"),
            Box::pin(rolled_out),
        )
        .await;
    }

    /// Waits for a future with a bound; a failure shows the cluster's pods.
    pub(crate) async fn wait_within<T>(
        &self,
        bound: Duration,
        what: &str,
        future: impl Future<Output = T>,
    ) -> T {
        let Ok(value) = tokio::time::timeout(bound, future).await else {
            panic!(
                "no {what} within {bound:?}\n{}\n{}",
                self.wasmorch(&["get", "pods", "-A", "-o", "wide"]),
                self.said()
            );
        };
        value
    }

    pub(crate) async fn pods(&self, selector: &str) -> Vec<Pod> {
        let api: Api<Pod> = Api::default_namespaced(self.client.clone());
        api.list(&ListParams::default().labels(selector))
            .await
            .unwrap()
            .items
    }

    /// GET through the front door; the status, or 0 when the connection failed.
    pub(crate) async fn get(&self, host: &str, path: &str) -> (u16, String) {
        let client = reqwest::Client::new();
        let url = format!("http://{}{path}", self.ingress());
        match client.get(url).header("host", host).send().await {
            Ok(response) => (
                response.status().as_u16(),
                response.text().await.unwrap_or_default(),
            ),
            Err(_) => (0, String::new()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let events = Command::new(env!("CARGO_BIN_EXE_wasmorch"))
                .arg("--kubeconfig")
                .arg(self.root().join("kubeconfig"))
                .args(["get", "events", "--all-namespaces"])
                .output()
                .unwrap();
            eprintln!("--- events\n{}", String::from_utf8_lossy(&events.stdout));
        }
        if let Ok(None) = self.process.try_wait() {
            self.signal(Signal::TERM);
            let _ = self.process.wait();
        }
        if std::thread::panicking() {
            for name in ["server", "router", "dev-1", "dev-2", "dev-3", "spare"] {
                let log = std::fs::read_to_string(self.root().join(format!("logs/{name}.log")))
                    .unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(400).collect();
                eprintln!("--- {name}");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// A worker process of its own; it ends with this value.
pub(crate) struct Worker(Child);

impl Worker {
    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which kubectl: they differ in what they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kubectl {
    /// WebSocket, OpenAPI v3, protobuf.
    New,
    /// SPDY, OpenAPI v2, JSON: Debian bookworm's 1.20.
    Old,
}

/// Runs a program that may not be here.
fn run(command: &mut Command) -> Option<std::process::Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() =>
        {
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// `wasmorch dev` on free ports, not yet started.
pub(crate) fn dev(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmorch"));
    command
        .args(["dev", "--port", "0", "--https-port", "0"])
        .args(["--ingress-port", "0", "--dir"])
        .arg(directory);
    command
}

/// Whether there is such a process; one that has ended and was not collected yet is none.
pub(crate) fn is_alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !stat.is_empty() && !state.starts_with('Z')
}

/// User and system time that a process has used.
pub(crate) fn cpu_time(pid: u64) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|it| it.parse::<u64>().unwrap())
        .sum();
    // The kernel's unit for these is fixed at a hundredth of a second.
    Duration::from_millis(ticks * 10)
}

struct IsRolledOut;

impl Condition<Deployment> for IsRolledOut {
    fn matches_object(&self, deployment: Option<&Deployment>) -> bool {
        let Some(deployment) = deployment else {
            return false;
        };
        let wanted = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.replicas)
            .unwrap_or(1);
        deployment.status.as_ref().is_some_and(|status| {
            status.observed_generation == deployment.metadata.generation
                && status.updated_replicas.unwrap_or(0) == wanted
                && status.replicas.unwrap_or(0) == wanted
                && status.available_replicas.unwrap_or(0) == wanted
        })
    }
}

/// A file of the guest examples, such as the manifest of one.
pub(crate) fn example(path: &str) -> String {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples");
    std::fs::read_to_string(examples.join(path)).unwrap()
}

pub(crate) fn guest_path(guest: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("guest-examples/prebuilt/{guest}.wasm"))
}

fn succeeded(program: &str, arguments: &[&str], output: &std::process::Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {}\n{stdout}{stderr}",
        arguments.join(" "),
        output.status
    );
    stdout
}

/// Asks for a state until it is there; the pause only keeps the asking cheap.
pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        pause.tick().await;
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
    }
}
