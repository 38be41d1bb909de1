//! `port-forward`: ports of this machine that lead into a pod, until Ctrl-C.
//!
//! Each local connection is a WebSocket of its own with one port in it, for a channel of
//! `v4.channel.k8s.io` cannot end and another's end must not be waited for. A connection that fails is
//! told and the others go on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::Message;

use super::console;
use super::discovery::Catalog;
use super::failure::{Failure, Result};
use super::remote::{self, Socket};
use super::session::Session;
use super::target;
use crate::tasks::TaskGroup;

const EXAMPLES: &str = "\
Examples:
  wasmorch port-forward hello-x2k4 8080            # localhost:8080 is the pod's 8080
  wasmorch port-forward deploy/hello 3000:8080 :9090
  wasmorch port-forward svc/hello 8000:80          # a service's port, through one of its pods
";

const PROTOCOL: &str = "v4.channel.k8s.io";
/// Connections at once; further ones wait.
const CONNECTIONS: usize = 256;
const BUFFER: usize = 16 << 10;

const DATA: u8 = 0;
const ERROR: u8 = 1;

/// Listen on ports of this machine and lead their connections into a pod
#[derive(clap::Args, Clone, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// POD, or TYPE/NAME of what has pods
    #[arg(value_name = "POD")]
    pod: String,
    /// [LOCAL:]REMOTE; without LOCAL the same port here, with an empty one any free port
    #[arg(value_name = "PORT", required = true)]
    ports: Vec<Pair>,
}

/// A port here and a port there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    /// 0 is any.
    local: u16,
    remote: u16,
}

impl std::str::FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let port = |text: &str| {
            let port = text.parse::<u16>().ok().filter(|port| *port != 0);
            port.ok_or_else(|| format!("`{text}` is no port"))
        };
        let (local, remote) = match text.split_once(':') {
            None => (port(text)?, port(text)?),
            Some(("" | "0", remote)) => (0, port(remote)?),
            Some((local, remote)) => (port(local)?, port(remote)?),
        };
        Ok(Self { local, remote })
    }
}

pub(super) async fn run(session: Session, args: Args) -> Result {
    let pod = remote::pod(&session, &args.pod).await?;
    let pairs = behind_service(&session, &args, &pod).await?;
    let mut listeners = Vec::new();
    for pair in pairs {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, pair.local));
        let failed = |error: std::io::Error| {
            Failure::failed("Listen", format!("listen on {address}")).because(error.to_string())
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        console::print(&format!("Forwarding from {address} -> {}\n", pair.remote))?;
        listeners.push((listener, pair.remote));
    }
    let tasks = TaskGroup::new();
    let session = Arc::new(session);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let accepting = listeners.iter().map(|(listener, port)| {
        let path = remote::pod_path(&session, &pod);
        let path = format!("{path}/portforward?ports={port}");
        let session = Arc::clone(&session);
        let serve = move |stream, _| {
            let (session, path, port) = (Arc::clone(&session), path.clone(), *port);
            async move {
                if let Err(failure) = connection(&session, &path, stream).await {
                    console::note(&format!("port {port}: {}", failure.render().trim_end()));
                }
            }
        };
        tasks.accept("forwarded connection", listener, &places, serve)
    });
    futures::future::join_all(accepting).await;
    Ok(())
}

/// The pod's ports behind those of a service; what is no service has them itself.
async fn behind_service(session: &Session, args: &Args, pod: &str) -> Result<Vec<Pair>> {
    if !args.pod.contains('/') {
        return Ok(args.ports.clone());
    }
    let (kind, name) = target::one(std::slice::from_ref(&args.pod))?;
    let catalog = Catalog::read(session).await?;
    let resource = catalog.resolve(&kind)?;
    if resource.plural != "services" {
        return Ok(args.ports.clone());
    }
    let service = session
        .get(&resource.path(session.namespace(), &name))
        .await?;
    let pod = session.get(&remote::pod_path(session, pod)).await?;
    let pairs = args.ports.iter().map(|pair| {
        let remote = target_port(&service, &pod, pair.remote);
        let remote = remote.ok_or_else(|| {
            let text = format!("{} has no port {}", resource.display(&name), pair.remote);
            Failure::usage(text)
        });
        Ok(Pair {
            remote: remote?,
            ..*pair
        })
    });
    pairs.collect()
}

/// The port of a pod that a service's port leads to.
fn target_port(service: &Value, pod: &Value, port: u16) -> Option<u16> {
    let mut ports = service["spec"]["ports"].as_array()?.iter();
    let found = ports.find(|it| it["port"] == port)?;
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    match &found["targetPort"] {
        Value::Null => Some(port),
        Value::String(name) => {
            let containers = pod["spec"]["containers"].as_array()?.iter();
            let ports = containers.flat_map(|it| it["ports"].as_array().into_iter().flatten());
            let mut named = ports.filter(|it| it["name"] == name.as_str());
            number(&named.next()?["containerPort"])
        }
        target => number(target),
    }
}

async fn connection(session: &Session, path: &str, stream: TcpStream) -> Result {
    let socket = remote::connect(session, path, PROTOCOL).await?;
    let (sink, messages) = socket.split();
    let (reader, writer) = stream.into_split();
    // The pod's end is the connection's: a channel cannot say that only one half has ended.
    tokio::select! {
        result = back(messages, writer) => result,
        () = there(reader, sink) => Ok(()),
    }
}

/// From here to the pod. When this side ends, the pod may still have something to say.
async fn there(mut reader: OwnedReadHalf, mut sink: SplitSink<Socket, Message>) {
    let mut buffer = vec![DATA; BUFFER];
    while let Ok(read @ 1..) = reader.read(&mut buffer[1..]).await {
        let message = buffer[..=read].to_vec();
        if sink.send(Message::Binary(message.into())).await.is_err() {
            return;
        }
    }
    std::future::pending().await
}

/// From the pod to here.
async fn back(mut messages: SplitStream<Socket>, mut writer: OwnedWriteHalf) -> Result {
    // Each channel begins with its port.
    let mut greetings = [true; 2];
    while let Some(Ok(message)) = messages.next().await {
        let Message::Binary(bytes) = message else {
            continue;
        };
        let Some((channel @ (&DATA | &ERROR), rest)) = bytes.split_first() else {
            continue;
        };
        if std::mem::take(&mut greetings[usize::from(*channel)]) {
            continue;
        }
        if *channel == ERROR {
            let text = String::from_utf8_lossy(rest).into_owned();
            return Err(Failure::failed("PortForward", text));
        }
        if writer.write_all(rest).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_pairs() {
        let check = |text: &str| {
            let pair = text.parse::<Pair>().ok();
            pair.map(|pair| (pair.local, pair.remote))
        };
        assert_eq!(check("8080"), Some((8080, 8080)));
        assert_eq!(check("3000:80"), Some((3000, 80)));
        assert_eq!(check(":80"), Some((0, 80)));
        assert_eq!(check("0:80"), Some((0, 80)));
        for wrong in ["", "0", "80:", "http", "1:2:3", "65536"] {
            assert_eq!(check(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_services_port_leads_to_its_pods() {
        let service = json!({"spec": {"ports": [
            {"port": 80, "targetPort": 8080}, {"port": 81, "targetPort": "web"}, {"port": 82}]}});
        let ports = json!([{"name": "web", "containerPort": 9090}]);
        let pod = json!({"spec": {"containers": [{"name": "a"}, {"ports": ports}]}});
        let port = |port| target_port(&service, &pod, port);
        assert_eq!((port(80), port(81)), (Some(8080), Some(9090)));
        assert_eq!((port(82), port(83)), (Some(82), None));
    }
}
