//! Opens streams to pods through their workers.
//!
//! Between processes of one machine the stream is plain; to any other address it is TLS, verified
//! with the cluster's CA, or it is not opened: the secret never crosses a network in the clear.
//! Nothing is sent to the pod before the worker's answer, so whatever fails here may always be
//! tried elsewhere.

mod stream;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

pub use stream::Stream;

use super::tunnel::{self, Answer, Preamble, Source, WireProtocol};

/// How long opening may take, the worker's answer included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a stream did not open. Nothing has reached the pod in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cluster's wire secret is not known yet")]
    NoSecret,
    #[error("no worker says that it runs the pod {0}")]
    NoWorker(SocketAddr),
    #[error("the worker at {0} is not on this machine, and no CA to speak TLS with is configured")]
    NeedsTls(SocketAddr),
    #[error("connect to the worker at {wire}")]
    Connect {
        wire: String,
        #[source]
        source: io::Error,
    },
    #[error("the worker at {0} did not answer in time")]
    Timeout(String),
    #[error("the worker at {wire} answered {answer:?} for {target}")]
    Answered {
        wire: String,
        target: SocketAddr,
        answer: Answer,
    },
}

/// See the module. Shared by all who open streams.
pub struct Dialer {
    secret: ArcSwapOption<Vec<u8>>,
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// Without `tls` only workers of this machine are reached.
    pub fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            secret: ArcSwapOption::empty(),
            tls,
        }
    }

    /// Sets the cluster's wire secret, from now on.
    pub fn set_secret(&self, secret: Vec<u8>) {
        self.secret.store(Some(Arc::new(secret)));
    }

    /// Opens a stream to a pod through the worker at `wire`, in the name of `source`.
    pub async fn open(
        &self,
        wire: &str,
        source: Source,
        target: SocketAddr,
    ) -> Result<Stream, Error> {
        self.open_for(wire, WireProtocol::Tcp, source, target).await
    }

    /// Opens a stream for datagrams from one pod to another.
    pub async fn open_datagrams(
        &self,
        wire: &str,
        from: IpAddr,
        pod: IpAddr,
    ) -> Result<Stream, Error> {
        let source = Source::Peer(SocketAddr::new(from, 0));
        let target = SocketAddr::new(pod, 0);
        self.open_for(wire, WireProtocol::Udp, source, target).await
    }

    async fn open_for(
        &self,
        wire: &str,
        protocol: WireProtocol,
        source: Source,
        target: SocketAddr,
    ) -> Result<Stream, Error> {
        let secret = self.secret.load_full().ok_or(Error::NoSecret)?;
        let preamble = tunnel::encode(&Preamble {
            protocol,
            secret: secret.to_vec(),
            target,
            source,
        });
        let opening = self.greet(wire, target, &preamble);
        match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Timeout(wire.to_owned())),
        }
    }

    async fn greet(
        &self,
        wire: &str,
        target: SocketAddr,
        preamble: &[u8],
    ) -> Result<Stream, Error> {
        let failed = |source| Error::Connect {
            wire: wire.to_owned(),
            source,
        };
        let tcp = connect(wire).await.map_err(failed)?;
        let peer = tcp.peer_addr().map_err(failed)?;
        let mut stream = match &self.tls {
            _ if peer.ip().to_canonical().is_loopback() => Stream::Plain(tcp),
            Some(config) => {
                let name = ServerName::from(peer.ip().to_canonical());
                let connector = TlsConnector::from(Arc::clone(config));
                let tls = connector.connect(name, tcp).await.map_err(failed)?;
                Stream::Tls(Box::new(tls))
            }
            None => return Err(Error::NeedsTls(peer)),
        };
        stream.write_all(preamble).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        let byte = stream.read_u8().await.map_err(failed)?;
        match Answer::from_code(byte) {
            Some(Answer::Ok) => Ok(stream),
            Some(answer) => Err(Error::Answered {
                wire: wire.to_owned(),
                target,
                answer,
            }),
            None => Err(failed(io::ErrorKind::InvalidData.into())),
        }
    }
}

async fn connect(wire: &str) -> io::Result<TcpStream> {
    // The usual form needs no resolver, which would take a thread.
    let stream = match wire.parse::<SocketAddr>() {
        Ok(addr) => TcpStream::connect(addr).await?,
        Err(_) => TcpStream::connect(wire).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::tasks::TaskGroup;

    #[tokio::test]
    async fn a_stream_opens_for_those_who_know_the_secret() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = listener.local_addr().unwrap().to_string();
        let here: SocketAddr = "10.64.32.1:80".parse().unwrap();
        let tasks = TaskGroup::new();
        tasks.spawn("worker", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let preamble = tunnel::read(&mut stream).await.unwrap();
                let answer = match preamble.target {
                    _ if preamble.secret != b"right" => Answer::Unauthorized,
                    target if target == here => Answer::Ok,
                    _ => Answer::NoSuchPod,
                };
                stream.write_all(&[answer.code()]).await.unwrap();
                stream.write_all(b"hello").await.unwrap();
            }
        });
        let dialer = Dialer::new(None);
        let client = Source::Peer("10.64.0.9:1".parse().unwrap());
        let answer = |error: Error| match error {
            Error::Answered { answer, .. } => answer,
            other => panic!("{other}"),
        };
        let opened = dialer.open(&wire, client, here).await;
        assert!(matches!(opened, Err(Error::NoSecret)));
        dialer.set_secret(b"wrong".to_vec());
        let refused = dialer.open(&wire, client, here).await.err().unwrap();
        assert_eq!(answer(refused), Answer::Unauthorized);
        dialer.set_secret(b"right".to_vec());
        let elsewhere = "10.64.32.2:80".parse().unwrap();
        let refused = dialer.open(&wire, client, elsewhere).await.err().unwrap();
        assert_eq!(answer(refused), Answer::NoSuchPod);
        let mut stream = dialer.open(&wire, client, here).await.unwrap();
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hello");
    }
}
