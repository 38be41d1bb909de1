//! `wasmorch worker`: flags, client, worker, drain.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject as _};

use super::flags;
use super::login::{LoginArgs, NoLogin};
use crate::api::names;
use crate::client;
use crate::clock::Clock;
use crate::tasks::TaskGroup;
use crate::worker::node::{EVICTION_HARD, LeaseTiming, Thresholds};
use crate::worker::{self, Config, Worker, images, logs};

/// `wasmorch worker`.
#[derive(Args, Clone, Debug)]
pub struct WorkerArgs {
    #[command(flatten)]
    pub login: LoginArgs,
    /// Name of the node; the machine's host name if not given
    #[arg(long = "name", env = "WASMORCH_NODE_NAME")]
    pub node_name: Option<String>,
    /// Where modules, compiled code, logs and checkpoints live
    #[arg(long, env = "WASMORCH_DATA", default_value = "./wasmorch-worker")]
    pub data_dir: PathBuf,
    /// Where compiled code is kept, `compiled` in the data directory if not given; workers of the
    /// same user on one machine may share it
    #[arg(long, env = "WASMORCH_COMPILED")]
    pub compiled_dir: Option<PathBuf>,
    /// Address for routers, other workers and the API server
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Port of the wire (connections to pods); 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub wire_port: u16,
    /// Port of the worker's own API (logs, statistics); 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Threads that serve the wire; one per core if not given
    #[arg(long)]
    pub wire_threads: Option<usize>,
    /// Cores to offer (`2`, `500m`); the machine's if not given
    #[arg(long, value_parser = flags::cores)]
    pub cpu: Option<u64>,
    /// Memory to offer (`4Gi`); the machine's if not given
    #[arg(long, value_parser = flags::size)]
    pub memory: Option<u64>,
    /// Pods to offer
    #[arg(long, default_value_t = 4000)]
    pub max_pods: u64,
    /// Long-running programs at a time
    #[arg(long, default_value_t = 8000)]
    pub max_instances: usize,
    /// Labels of the node (`zone=a`), may be repeated
    #[arg(long = "label", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// How often the node's lease is renewed (`10s`, `500ms`)
    #[arg(long, default_value = "10s", value_parser = flags::duration)]
    pub lease_renew: Duration,
    /// How long the lease is good; a worker that stood still for longer asks before it serves again
    #[arg(long = "node-lease-duration", default_value = "40s", value_parser = flags::duration)]
    pub lease_duration: Duration,
    /// How long a terminating pod goes on serving, so that routers see it is leaving
    #[arg(long, default_value = "300ms", value_parser = flags::duration)]
    pub drain_delay: Duration,
    /// How often volumes are compared with their ConfigMaps and Secrets
    #[arg(long, default_value = "15s", value_parser = flags::duration)]
    pub volume_refresh: Duration,
    /// What must be left of memory and disk (a number, a size or a share) for the node to take new pods;
    /// replaces the usual list, empty for none
    #[arg(
        long,
        value_name = "SIGNAL<LEAST,…",
        default_value = EVICTION_HARD
    )]
    pub eviction_hard: Thresholds,
    /// Percent of the disk in use from which on modules that no pod uses are removed; 100 is never
    #[arg(long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_high_threshold: u8,
    /// Percent of the disk in use down to which they are removed; at most the other
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_low_threshold: u8,
    /// How long an unused module is kept at least
    #[arg(long, default_value = "2m", value_parser = flags::duration)]
    pub minimum_image_ttl_duration: Duration,
    /// Directory that pods may mount by hostPath, may be repeated
    #[arg(long = "allow-host-path")]
    pub allow_host_path: Vec<PathBuf>,
    /// PEM file with certificate authorities to trust when guests call by https, besides the
    /// machine's own; may be repeated
    #[arg(long = "extra-ca")]
    pub extra_ca: Vec<PathBuf>,
}

/// Why `wasmorch worker` ends at once.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    NoLogin(#[from] NoLogin),
    #[error("`{0}` cannot name a node; give one with --name")]
    Name(String),
    #[error("--image-gc-low-threshold {low} is above --image-gc-high-threshold {high}")]
    ImageGc { high: u8, low: u8 },
    #[error("read the certificate authorities in {}", path.display())]
    Authorities {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Worker(#[from] worker::Error),
}

/// Builds the worker and runs it until `tasks` is cancelled.
pub async fn run(args: WorkerArgs, tasks: TaskGroup) -> Result<(), Error> {
    let mut config = config(&args)?;
    let login = args.login.login(Some(&config.node))?;
    let (client, server) = client::open(&login).await?;
    // Guests reach the API by `https://kubernetes.default.svc`, whose certificate is the cluster's.
    config.extra_authorities.extend(server.authorities);
    config.api_server = server.address;
    let worker = Worker::new(config, client, Clock::system(), tasks).await?;
    tracing::info!(
        wire = %worker.wire_address(),
        api = %worker.api_address(),
        "worker listens"
    );
    Ok(worker.run().await?)
}

/// Flags into plain data; what is not given comes from the machine.
pub fn config(args: &WorkerArgs) -> Result<Config, Error> {
    let node = args.node_name.clone().unwrap_or_else(host_name);
    if !names::is_dns_subdomain(&node) {
        return Err(Error::Name(node));
    }
    let (high, low) = (args.image_gc_high_threshold, args.image_gc_low_threshold);
    if low > high {
        return Err(Error::ImageGc { high, low });
    }
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    Ok(Config {
        node,
        labels: args.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        data_dir: args.data_dir.clone(),
        compiled_dir: args
            .compiled_dir
            .clone()
            .unwrap_or_else(|| args.data_dir.join("compiled")),
        address: args.address,
        wire_port: args.wire_port,
        api_port: args.port,
        wire_threads: args.wire_threads.unwrap_or(threads),
        cpu_millis: args.cpu.unwrap_or(threads as u64 * 1000),
        memory_bytes: args.memory.unwrap_or_else(machine_memory),
        max_pods: args.max_pods,
        max_instances: args.max_instances,
        lease: LeaseTiming {
            renew: args.lease_renew.max(Duration::from_millis(50)),
            duration: args.lease_duration.max(args.lease_renew),
        },
        drain_delay: args.drain_delay,
        volume_refresh: args.volume_refresh.max(Duration::from_millis(100)),
        log_limits: logs::Limits::default(),
        thresholds: args.eviction_hard.clone(),
        image_gc: images::Policy {
            high,
            low,
            minimum_age: args.minimum_image_ttl_duration,
        },
        allowed_host_paths: args.allow_host_path.clone(),
        extra_authorities: authorities(&args.extra_ca)?,
        api_server: None,
    })
}

fn authorities(files: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut all = Vec::new();
    for path in files {
        let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let found: Vec<CertificateDer<'static>> = found.map_err(|source| Error::Authorities {
            path: path.clone(),
            source,
        })?;
        if found.is_empty() {
            let (path, source) = (path.clone(), pem::Error::NoItemsFound);
            return Err(Error::Authorities { path, source });
        }
        all.extend(found);
    }
    Ok(all)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_ascii_lowercase()
}

/// What the machine has, less a tenth for the worker and the system.
fn machine_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kibibytes = number.and_then(|number| number.parse::<u64>().ok());
    kibibytes.unwrap_or(1 << 20) / 10 * 9 * 1024
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if names::is_qualified_name(key) && names::is_label_value(value) {
        Ok((key.to_owned(), value.to_owned()))
    } else {
        Err(format!("`{text}` is not a label (zone=a)"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::client::Login;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: WorkerArgs,
    }

    fn parse(flags: &str) -> Result<WorkerArgs, clap::Error> {
        let words = std::iter::once("worker").chain(flags.split_whitespace());
        Command::try_parse_from(words).map(|command| command.args)
    }

    #[test]
    fn flags_become_a_config() {
        let args = parse("--server https://127.0.0.1:6443 --token wo1.x.y --name dev-1 --cpu 500m --memory 1Gi --lease-renew 500ms --label zone=a").unwrap();
        let config = config(&args).unwrap();
        assert_eq!((config.cpu_millis, config.memory_bytes), (500, 1 << 30));
        assert_eq!(config.lease.renew, Duration::from_millis(500));
        assert_eq!(config.labels["zone"], "a");
        let login = args.login.login(Some("dev-1"));
        assert!(matches!(login, Ok(Login::Join { node: Some(node), .. }) if node == "dev-1"));
    }

    #[test]
    fn wrong_flags_are_refused() {
        for flags in [
            "--cpu x",
            "--memory 0",
            "--lease-renew soon",
            "--label =",
            "--server https://x",
            "--kubeconfig a --token b",
        ] {
            assert!(parse(flags).is_err(), "{flags}");
        }
        assert!(parse("--name a").unwrap().login.login(None).is_err());
        assert!(matches!(
            config(&parse("--name A_B").unwrap()),
            Err(Error::Name(_))
        ));
        for file in ["/nowhere", "/dev/null"] {
            let args = parse(&format!("--name a --extra-ca {file}")).unwrap();
            assert!(
                matches!(config(&args), Err(Error::Authorities { .. })),
                "{file}"
            );
        }
    }
}
