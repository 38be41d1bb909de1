//! What a probe or a hook asks: parsed from the pod's spec, or refused in words.

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    HttpGet {
        path: String,
        port: u16,
        headers: Vec<(String, String)>,
    },
    TcpSocket {
        port: u16,
    },
    /// A command beside the container; healthy when it ends with 0.
    Exec {
        command: Vec<String>,
    },
}

/// Why a question cannot be asked here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0}: `exec.command` is empty")]
    Exec(&'static str),
    #[error("{0}: `grpc` is not implemented; use httpGet, tcpSocket or exec")]
    Grpc(&'static str),
    #[error("{0}: `httpGet.host` is not implemented; the probe always goes to the pod itself")]
    Host(&'static str),
    #[error("{0}: `scheme: HTTPS` is not implemented")]
    Https(&'static str),
    #[error("{0}: names no action")]
    Empty(&'static str),
    #[error("{0}: the container has no port named `{1}`")]
    Port(&'static str, String),
}

pub(super) fn action(
    kind: &'static str,
    probe: &Probe,
    container: &Container,
) -> Result<Action, Error> {
    if let Some(exec) = &probe.exec {
        return exec_action(kind, exec);
    }
    if probe.grpc.is_some() {
        return Err(Error::Grpc(kind));
    }
    if let Some(tcp) = &probe.tcp_socket {
        let port = port(kind, &tcp.port, container)?;
        return match tcp.host.as_deref() {
            None | Some("" | "127.0.0.1" | "localhost") => Ok(Action::TcpSocket { port }),
            Some(_) => Err(Error::Host(kind)),
        };
    }
    let http = probe.http_get.as_ref().ok_or(Error::Empty(kind))?;
    http_action(kind, http, container)
}

/// A command to run.
pub(in crate::worker) fn exec_action(
    kind: &'static str,
    exec: &ExecAction,
) -> Result<Action, Error> {
    let command = exec.command.clone().unwrap_or_default();
    if command.is_empty() {
        return Err(Error::Exec(kind));
    }
    Ok(Action::Exec { command })
}

/// A request to the pod itself.
pub(in crate::worker) fn http_action(
    kind: &'static str,
    http: &HTTPGetAction,
    container: &Container,
) -> Result<Action, Error> {
    if !matches!(
        http.host.as_deref(),
        None | Some("" | "127.0.0.1" | "localhost")
    ) {
        return Err(Error::Host(kind));
    }
    if http
        .scheme
        .as_deref()
        .is_some_and(|scheme| scheme == "HTTPS")
    {
        return Err(Error::Https(kind));
    }
    let path = http.path.as_deref().unwrap_or("/");
    Ok(Action::HttpGet {
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
        port: port(kind, &http.port, container)?,
        headers: http
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    })
}

fn port(kind: &'static str, port: &IntOrString, container: &Container) -> Result<u16, Error> {
    let named = |name: &str| {
        let ports = container.ports.iter().flatten();
        let found = ports
            .filter(|port| port.name.as_deref() == Some(name))
            .find_map(|port| u16::try_from(port.container_port).ok());
        found.ok_or_else(|| Error::Port(kind, name.to_owned()))
    };
    match port {
        IntOrString::Int(number) => {
            u16::try_from(*number).map_err(|_| Error::Port(kind, number.to_string()))
        }
        IntOrString::String(name) => name.parse().or_else(|_| named(name)),
    }
}
