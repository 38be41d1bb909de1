//! What the operator may decide about the control plane, as flags and as plain data.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::flags;
use crate::apiserver::Limits;
use crate::{controllers, registry};

/// `wasmorch server`.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Where the store, the modules and the certificates live
    #[arg(long, env = "WASMORCH_DATA", default_value = "./wasmorch-data")]
    pub data_dir: PathBuf,
    /// Address of the HTTPS API; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:6443")]
    pub bind: SocketAddr,
    /// Loopback address of the plain http API and the dashboard; `off` for none
    #[arg(long, default_value = "127.0.0.1:7070", value_parser = optional_address)]
    pub http_bind: OptionalAddress,
    /// Write a kubeconfig for the administrator here, beside `admin.kubeconfig` in the data directory
    #[arg(long)]
    pub write_kubeconfig: Option<PathBuf>,
    /// Address under which others reach the API, published as the endpoint of Service `kubernetes`
    /// [default: that of --bind, or 127.0.0.1 if it is bound to all]
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    /// Further names or addresses for the server's certificate
    #[arg(long = "tls-san")]
    pub tls_san: Vec<String>,
    /// Addresses of services
    #[arg(long, default_value = "10.43.0.0/16")]
    pub service_cidr: String,
    /// Ports of NodePort services
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub node_port_range: PortRange,
    /// The largest module that is taken (`256Mi`)
    #[arg(long, default_value = "256Mi", value_parser = flags::size)]
    pub max_module_size: u64,
    /// Addresses of pods; every node gets a block of them
    #[arg(long, default_value = "10.64.0.0/10")]
    pub pod_cidr: String,
    /// Address that Services of type LoadBalancer get: the router's
    #[arg(long, default_value = "127.0.0.1")]
    pub load_balancer_address: IpAddr,
    /// Timings for a cluster on one machine: a silent node is dead after 2 s, its pods are replaced
    /// at once
    #[arg(long)]
    pub local: bool,
    /// A node whose lease is older than this is not ready [default: 40s, 2s with --local]
    #[arg(long, value_parser = flags::duration)]
    pub node_monitor_grace_period: Option<Duration>,
    /// Pods of a node that stays away are replaced after this [default: 300s, 0s with --local]
    #[arg(long, value_parser = flags::duration)]
    pub pod_eviction_timeout: Option<Duration>,
    /// Changes that are kept for watches and old lists
    #[arg(long, default_value_t = 20_000)]
    pub history: usize,
    /// Of the API server; no flag, as nobody should have to know them
    #[arg(skip)]
    pub limits: Limits,
}

/// An address, or none by choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<SocketAddr>);

/// First and last port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange(pub u16, pub u16);

impl ServerArgs {
    /// Everything at its default, in a directory, on free ports: for tests and `dev`.
    pub fn in_directory(data_dir: PathBuf) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data_dir,
            bind: any,
            http_bind: OptionalAddress(Some(any)),
            write_kubeconfig: None,
            advertise_address: None,
            tls_san: Vec::new(),
            service_cidr: "10.43.0.0/16".to_owned(),
            node_port_range: PortRange(30_000, 32_767),
            max_module_size: 256 << 20,
            pod_cidr: "10.64.0.0/10".to_owned(),
            load_balancer_address: [127, 0, 0, 1].into(),
            local: false,
            node_monitor_grace_period: None,
            pod_eviction_timeout: None,
            history: 20_000,
            limits: Limits::default(),
        }
    }
}

impl ServerArgs {
    /// What the registry is told.
    pub(crate) fn registry(&self) -> registry::Config {
        let usual = if self.local {
            Duration::ZERO
        } else {
            Duration::from_mins(5)
        };
        let toleration = self.pod_eviction_timeout.unwrap_or(usual);
        registry::Config {
            service_cidr: self.service_cidr.clone(),
            node_port_range: (self.node_port_range.0, self.node_port_range.1),
            default_toleration_seconds: i64::try_from(toleration.as_secs()).unwrap_or(i64::MAX),
        }
    }

    /// How often the workers are asked what their pods use; metrics-server's period, or what a
    /// person at the screen has patience for.
    pub(crate) fn usage_period(&self) -> Duration {
        Duration::from_secs(if self.local { 2 } else { 15 })
    }

    /// Where clients find the API that is bound to `bound`.
    pub(crate) fn advertised(&self, bound: SocketAddr) -> SocketAddr {
        let usual = match bound.ip() {
            ip if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(self.advertise_address.unwrap_or(usual), bound.port())
    }

    /// What the controllers are told.
    pub(crate) fn controllers(&self, ca_pem: &str, bound: SocketAddr) -> controllers::Config {
        let usual = if self.local {
            controllers::Config::dev()
        } else {
            controllers::Config::default()
        };
        controllers::Config {
            node_monitor_grace_period: self
                .node_monitor_grace_period
                .unwrap_or(usual.node_monitor_grace_period),
            pod_cidr: self.pod_cidr.clone(),
            api_server: Some(self.advertised(bound)),
            root_ca: Some(ca_pem.to_owned()),
            ..usual
        }
    }
}

fn optional_address(text: &str) -> Result<OptionalAddress, String> {
    if text == "off" {
        return Ok(OptionalAddress(None));
    }
    text.parse()
        .map(|address| OptionalAddress(Some(address)))
        .map_err(|_| format!("`{text}` is neither an address (127.0.0.1:7070) nor `off`"))
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let wrong = || format!("`{text}` is not a range of ports (30000-32767)");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let parse = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
    let (first, last) = (parse(first)?, parse(last)?);
    if first == 0 || first > last {
        return Err(wrong());
    }
    Ok(PortRange(first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_people_write_them() {
        assert_eq!(port_range("30000-32767"), Ok(PortRange(30_000, 32_767)));
        assert!(port_range("5-4").is_err());
        assert_eq!(optional_address("off"), Ok(OptionalAddress(None)));
        assert!(optional_address("7070").is_err());
    }
}
