//! The wire plane's preamble: how a connection to a worker names the pod it is for.
//!
//! ```text
//!  "WOW2" | protocol u8 | secret length u8 | secret | target | source
//!  target, source: family u8 (4, 6) | address | port u16 BE; a source may be the one byte 0
//!  ◀── one byte: 0 ok, 1 refused, 2 unauthorized, 3 no such pod, 4 denied, 5 isolated
//! ```
//!
//! The source is who is let in by the pod's rules: a pod's address, or that of the router's client.
//! The workers believe it of whoever knows the secret. A router that keeps its connection for the
//! requests of many clients says 0, and each request names its client (`x-forwarded-for`). Where a
//! byte stream is all there is and the pod is isolated, that is not enough, and the answer says so.
//!
//! Then the connection is the pod's: raw bytes to its virtual socket, HTTP/1.1 to its handler, or frames
//! of datagrams.
//! The reader takes exactly the preamble's bytes, so a client may send its first request behind it
//! without waiting for the answer. Everything is bounded; whoever sends something else is cut off.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MAGIC: [u8; 4] = *b"WOW2";
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the bytes behind the preamble are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireProtocol {
    /// A byte stream to a TCP port of the pod.
    Tcp,
    /// Frames of datagrams to the pod's UDP ports; the target's port means nothing.
    Udp,
}

impl WireProtocol {
    fn code(self) -> u8 {
        match self {
            Self::Tcp => 1,
            Self::Udp => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp]
            .into_iter()
            .find(|protocol| protocol.code() == code)
    }
}

/// Who asks for which pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    pub protocol: WireProtocol,
    /// The cluster's wire secret, at most 255 bytes.
    pub secret: Vec<u8>,
    pub target: SocketAddr,
    pub source: Source,
}

/// In whose name a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Peer(SocketAddr),
    /// Of many clients, each of which is named by its requests.
    Requests,
}

/// The worker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    /// The pod is there, and nobody listens on that port.
    Refused,
    Unauthorized,
    NoSuchPod,
    /// The pod's network policies do not let the source in.
    Denied,
    /// The pod's network policies want to know for whom this is.
    Isolated,
}

impl Answer {
    /// The byte on the wire.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Refused => 1,
            Self::Unauthorized => 2,
            Self::NoSuchPod => 3,
            Self::Denied => 4,
            Self::Isolated => 5,
        }
    }

    /// What a byte on the wire means.
    pub fn from_code(code: u8) -> Option<Self> {
        [
            Self::Ok,
            Self::Refused,
            Self::Unauthorized,
            Self::NoSuchPod,
            Self::Denied,
            Self::Isolated,
        ]
        .into_iter()
        .find(|answer| answer.code() == code)
    }
}

/// Why there is no connection to the pod.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connect to worker {wire}")]
    Connect {
        wire: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("worker {0} did not answer within 5 s")]
    Timeout(SocketAddr),
    #[error("worker {wire} answered {answer:?} for {target}")]
    Answered {
        wire: SocketAddr,
        target: SocketAddr,
        answer: Answer,
    },
    #[error("not a wire preamble")]
    Malformed,
    #[error("read the wire preamble")]
    Read(#[source] io::Error),
}

/// The preamble's bytes.
pub fn encode(preamble: &Preamble) -> Vec<u8> {
    let secret = &preamble.secret[..preamble.secret.len().min(255)];
    let mut bytes = Vec::with_capacity(48 + secret.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(preamble.protocol.code());
    bytes.push(secret.len() as u8);
    bytes.extend_from_slice(secret);
    push_address(&mut bytes, preamble.target);
    match preamble.source {
        Source::Peer(address) => push_address(&mut bytes, address),
        Source::Requests => bytes.push(0),
    }
    bytes
}

fn push_address(bytes: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.push(4);
            bytes.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    bytes.extend_from_slice(&address.port().to_be_bytes());
}

/// Reads a preamble, and not a byte more.
pub async fn read(reader: &mut (impl AsyncRead + Unpin)) -> Result<Preamble, Error> {
    let mut head = [0; 6];
    reader.read_exact(&mut head).await.map_err(Error::Read)?;
    if head[..4] != MAGIC {
        return Err(Error::Malformed);
    }
    let protocol = WireProtocol::from_code(head[4]).ok_or(Error::Malformed)?;
    let mut secret = vec![0; usize::from(head[5])];
    reader.read_exact(&mut secret).await.map_err(Error::Read)?;
    let target = read_address(reader).await?;
    let source = read_address(reader).await?;
    Ok(Preamble {
        protocol,
        secret,
        target: target.ok_or(Error::Malformed)?,
        source: source.map_or(Source::Requests, Source::Peer),
    })
}

async fn read_address(reader: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, Error> {
    let [family] = read_array::<1>(reader).await?;
    let ip = match family {
        0 => return Ok(None),
        4 => IpAddr::V4(Ipv4Addr::from(read_array::<4>(reader).await?)),
        6 => IpAddr::V6(Ipv6Addr::from(read_array::<16>(reader).await?)),
        _ => return Err(Error::Malformed),
    };
    let port = u16::from_be_bytes(read_array::<2>(reader).await?);
    Ok(Some(SocketAddr::new(ip, port)))
}

async fn read_array<const N: usize>(
    reader: &mut (impl AsyncRead + Unpin),
) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).await.map_err(Error::Read)?;
    Ok(bytes)
}

/// Opens a connection to a pod through its worker.
pub async fn connect(wire: SocketAddr, preamble: &Preamble) -> Result<TcpStream, Error> {
    let opening = async {
        let failed = |source| Error::Connect { wire, source };
        let mut stream = TcpStream::connect(wire).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let bytes = encode(preamble);
        stream.write_all(&bytes).await.map_err(failed)?;
        let answer = stream.read_u8().await.map_err(failed)?;
        match Answer::from_code(answer).ok_or(Error::Malformed)? {
            Answer::Ok => Ok(stream),
            answer @ (Answer::Refused
            | Answer::Unauthorized
            | Answer::NoSuchPod
            | Answer::Denied
            | Answer::Isolated) => Err(Error::Answered {
                wire,
                target: preamble.target,
                answer,
            }),
        }
    };
    let opened = tokio::time::timeout(TIMEOUT, opening).await;
    opened.unwrap_or(Err(Error::Timeout(wire)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preamble(target: &str) -> Preamble {
        Preamble {
            protocol: WireProtocol::Tcp,
            secret: b"secret".to_vec(),
            target: target.parse().unwrap(),
            source: Source::Peer("10.64.32.3:40000".parse().unwrap()),
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_back_and_nothing_more() {
        for target in ["10.64.0.2:8080", "[fd00::1]:1"] {
            let mut bytes = encode(&preamble(target));
            bytes.extend_from_slice(b"GET / HTTP/1.1");
            let mut reader = bytes.as_slice();
            assert_eq!(read(&mut reader).await.unwrap(), preamble(target));
            assert_eq!(reader, b"GET / HTTP/1.1");
        }
        let datagrams = Preamble {
            protocol: WireProtocol::Udp,
            ..preamble("10.64.0.2:0")
        };
        let bytes = encode(&datagrams);
        assert_eq!(read(&mut bytes.as_slice()).await.unwrap(), datagrams);
        let shared = Preamble {
            source: Source::Requests,
            ..preamble("10.64.0.2:80")
        };
        let bytes = encode(&shared);
        assert_eq!(read(&mut bytes.as_slice()).await.unwrap(), shared);
    }

    #[tokio::test]
    async fn garbage_and_halves_are_refused() {
        let whole = encode(&preamble("10.64.0.2:8080"));
        for end in 0..whole.len() {
            assert!(read(&mut &whole[..end]).await.is_err(), "{end}");
        }
        for (at, byte) in [(0, b'X'), (4, 9), (12, 5), (12, 0), (19, 5)] {
            let mut wrong = whole.clone();
            wrong[at] = byte;
            assert!(
                matches!(read(&mut wrong.as_slice()).await, Err(Error::Malformed)),
                "{at}"
            );
        }
    }
}
