//! A real cluster for journeys: the built binary's `dev`, with real processes to kill, and steady load
//! whose failures are counted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::runtime::conditions::Condition;
use kube::runtime::wait::await_condition;
use serde_json::Value;

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
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(directory.path().join("dev.out")).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_wasmorch"))
            .args([
                "dev",
                "--port",
                "0",
                "--https-port",
                "0",
                "--ingress-port",
                "0",
                "--dir",
            ])
            .arg(directory.path().join("cluster"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let said = directory.path().join("dev.out");
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
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid(name)).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Waits until `dev` has put another process in the killed one's place.
    pub(crate) async fn wait_for_restart(&self, name: &str, killed: u64) {
        until(&format!("{name} to be back"), async || {
            let pid = self.pid(name);
            (pid != 0 && pid != killed).then_some(())
        })
        .await;
    }

    /// The CLI on this cluster; gives its standard output.
    pub(crate) fn wasmorch(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_wasmorch"))
            .arg("--kubeconfig")
            .arg(self.root().join("kubeconfig"))
            .args(arguments)
            .output()
            .unwrap();
        succeeded("wasmorch", arguments, &output)
    }

    /// The real kubectl; `None` where there is none.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Option<String> {
        let kubectl = std::env::var_os("WASMORCH_TEST_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let output = Command::new(kubectl)
            .arg("--kubeconfig")
            .arg(self.root().join("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.directory.path().join("kubectl-cache"))
            .args(arguments)
            .output();
        match output {
            Ok(output) => Some(succeeded("kubectl", arguments, &output)),
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && std::env::var_os("CI").is_none() =>
            {
                None
            }
            Err(error) => panic!("kubectl: {error}"),
        }
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
        self.wait_within(
            PATIENCE,
            &format!("deployment {name} to be rolled out"),
            Box::pin(await_condition(api, name, IsRolledOut)),
        )
        .await
        .unwrap();
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
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
        if std::thread::panicking() {
            for name in ["server", "router", "dev-1", "dev-2", "dev-3"] {
                let log = std::fs::read_to_string(self.root().join(format!("logs/{name}.log")))
                    .unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("--- {name}");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
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

/// Steady load on one host name through the front door.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    workers: Vec<tokio::task::JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    served: AtomicU64,
    failures: std::sync::Mutex<Vec<String>>,
}

impl Load {
    /// Starts `connections` clients that each GET as fast as they are answered, at most every 2 ms.
    pub(crate) fn start(ingress: SocketAddr, host: &str, connections: usize) -> Self {
        let (stop, counts) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Counts::default()),
        );
        let workers = (0..connections)
            .map(|_| {
                let (stop, counts, host) =
                    (Arc::clone(&stop), Arc::clone(&counts), host.to_owned());
                #[expect(clippy::disallowed_methods, reason = "the test owns the handle")]
                tokio::spawn(async move {
                    let client = reqwest::Client::builder()
                        .timeout(Duration::from_secs(10))
                        .build()
                        .unwrap();
                    let mut pace = tokio::time::interval(Duration::from_millis(2));
                    while !stop.load(Ordering::Relaxed) {
                        pace.tick().await;
                        let answer = client
                            .get(format!("http://{ingress}/"))
                            .header("host", &host)
                            .send()
                            .await;
                        let failure = match answer {
                            Ok(response) if response.status() == 200 => response
                                .text()
                                .await
                                .err()
                                .map(|error| format!("{error:?}")),
                            Ok(response) => Some(format!(
                                "{} {}",
                                response.status(),
                                response.text().await.unwrap_or_default()
                            )),
                            Err(error) => Some(format!("{error:?}")),
                        };
                        match failure {
                            None => drop(counts.served.fetch_add(1, Ordering::Relaxed)),
                            Some(failure) => counts.failures.lock().unwrap().push(failure),
                        }
                    }
                })
            })
            .collect();
        Self {
            stop,
            counts,
            workers,
        }
    }

    /// Waits until so many more requests have been served.
    pub(crate) async fn serve(&self, more: u64) {
        let from = self.counts.served.load(Ordering::Relaxed);
        until("requests to be served", async || {
            (self.counts.served.load(Ordering::Relaxed) >= from + more).then_some(())
        })
        .await;
    }

    /// Stops, and fails if any request did; gives how many were served.
    pub(crate) async fn stop_without_failures(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await.unwrap();
        }
        let failures = self.counts.failures.lock().unwrap();
        let served = self.counts.served.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {} requests failed: {:?}",
            failures.len(),
            served,
            &failures[..failures.len().min(5)]
        );
        served
    }
}
