//! The wire: how a byte stream reaches a pod through its worker.
//!
//! One TCP connection per client and pod address. It begins with a preamble, which names the pod
//! and proves by the cluster's wire secret that the caller belongs to the cluster; the worker
//! answers with one status byte; from then on the bytes are the pod's. Nothing is sent to the pod
//! before the status is read, so a failure to open may always be tried elsewhere.
//!
//! Between processes of one machine the stream is plain; to any other address it is TLS, verified
//! with the cluster's CA, or it is not opened: the secret never crosses a network in the clear.

mod preamble;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

pub use preamble::{Preamble, Status, Traffic};
pub use stream::Stream;

/// How long opening may take, the worker's answer included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a stream did not open. Nothing has reached the pod in any of these cases.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cluster's wire secret is not known yet")]
    NoSecret,
    #[error("{0} is not on this machine, and no CA to speak TLS with is configured")]
    NeedsTls(SocketAddr),
    #[error("connect to the worker at {wire}")]
    Connect {
        wire: String,
        #[source]
        source: io::Error,
    },
    #[error("the worker at {0} did not answer in time")]
    Timeout(String),
    #[error("{0}")]
    Refused(Status),
}

/// Opens streams; shared by all who do.
pub struct Wire {
    secret: ArcSwapOption<String>,
    tls: Option<Arc<ClientConfig>>,
}

impl Wire {
    /// Without `tls` only workers of this machine are reached.
    pub fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            secret: ArcSwapOption::empty(),
            tls,
        }
    }

    /// Sets the cluster's secret, from now on.
    pub fn set_secret(&self, secret: String) {
        self.secret.store(Some(Arc::new(secret)));
    }

    /// Opens a stream to a pod through the worker at `wire`.
    pub async fn open(
        &self,
        wire: &str,
        traffic: Traffic,
        source: SocketAddr,
        target: SocketAddr,
    ) -> Result<Stream, Error> {
        let secret = self.secret.load_full().ok_or(Error::NoSecret)?;
        let preamble = Preamble::new(traffic, source, target, &secret);
        match tokio::time::timeout(OPEN_TIMEOUT, self.greet(wire, &preamble)).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Timeout(wire.to_owned())),
        }
    }

    async fn greet(&self, wire: &str, preamble: &Preamble) -> Result<Stream, Error> {
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
                Stream::Tls(Box::new(
                    connector.connect(name, tcp).await.map_err(failed)?,
                ))
            }
            None => return Err(Error::NeedsTls(peer)),
        };
        stream.write_all(&preamble.encode()).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        match Status::from(stream.read_u8().await.map_err(failed)?) {
            Status::Open => Ok(stream),
            refused => Err(Error::Refused(refused)),
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

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_stream_opens_for_those_who_know_the_secret() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire_address = listener.local_addr().unwrap().to_string();
        let tasks = TaskGroup::new();
        tasks.spawn("worker", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let preamble = Preamble::read(&mut stream).await.unwrap();
                assert_eq!(preamble.source(), addr("10.64.0.1:4000"));
                let status = match preamble.target() {
                    _ if !preamble.is_signed_with("right") => Status::WrongSecret,
                    target if target == addr("10.64.32.1:80") => Status::Open,
                    _ => Status::NoSuchPod,
                };
                stream.write_all(&[status as u8]).await.unwrap();
                stream.write_all(b"hello").await.unwrap();
            }
        });
        let wire = Wire::new(None);
        let open = |target| {
            wire.open(
                &wire_address,
                Traffic::Raw,
                addr("10.64.0.1:4000"),
                addr(target),
            )
        };
        assert!(matches!(open("10.64.32.1:80").await, Err(Error::NoSecret)));
        wire.set_secret("wrong".to_owned());
        let refused = open("10.64.32.1:80").await.err().unwrap();
        assert!(
            matches!(refused, Error::Refused(Status::WrongSecret)),
            "{refused}"
        );
        wire.set_secret("right".to_owned());
        let refused = open("10.64.32.2:80").await.err().unwrap();
        assert!(
            matches!(refused, Error::Refused(Status::NoSuchPod)),
            "{refused}"
        );
        let mut stream = open("10.64.32.1:80").await.unwrap();
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hello");
    }
}
