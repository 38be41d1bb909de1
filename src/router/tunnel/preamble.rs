//! The first bytes of a wire connection, and the one byte that answers them.
//!
//! ```text
//!  "WOW1" | traffic u8 | source: ip 16, port u16 | target: ip 16, port u16 | length u8 | secret
//! ```
//!
//! IPv4 addresses are written in their IPv6-mapped form; numbers are big-endian.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

const MAGIC: [u8; 4] = *b"WOW1";
const FIXED: usize = 4 + 1 + 18 + 18 + 1;

/// What the bytes after the preamble are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Anything; the pod's listener gets them as they are.
    Raw,
    /// HTTP/1.1; the worker may serve them with the pod's handler directly.
    Http,
}

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct Preamble {
    traffic: Traffic,
    source: SocketAddr,
    target: SocketAddr,
    secret: Vec<u8>,
}

impl Preamble {
    /// A secret of more than 255 bytes is cut, and so matches nothing.
    pub fn new(traffic: Traffic, source: SocketAddr, target: SocketAddr, secret: &str) -> Self {
        let secret = secret.as_bytes();
        Self {
            traffic,
            source,
            target,
            secret: secret[..secret.len().min(255)].to_vec(),
        }
    }

    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Who connects, as the pod should see it.
    pub fn source(&self) -> SocketAddr {
        self.source
    }

    /// The pod's address and port.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Whether the caller knows the secret; takes the same time for every wrong one.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let (ours, theirs) = (
            Sha256::digest(secret.as_bytes()),
            Sha256::digest(&self.secret),
        );
        let difference = ours
            .iter()
            .zip(theirs.iter())
            .fold(0, |all, (one, other)| all | (one ^ other));
        difference == 0 && !secret.is_empty()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + self.secret.len());
        bytes.extend(MAGIC);
        bytes.push(match self.traffic {
            Traffic::Raw => 0,
            Traffic::Http => 1,
        });
        for addr in [self.source, self.target] {
            let ip = match addr.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            bytes.extend(ip.octets());
            bytes.extend(addr.port().to_be_bytes());
        }
        bytes.push(self.secret.len() as u8);
        bytes.extend(&self.secret);
        bytes
    }

    /// Reads one; the caller bounds the time. An unknown form is `InvalidData`.
    pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Self> {
        let unknown = || io::Error::from(io::ErrorKind::InvalidData);
        let mut fixed = [0; FIXED];
        stream.read_exact(&mut fixed).await?;
        let (magic, rest) = fixed.split_at(4);
        if magic != MAGIC {
            return Err(unknown());
        }
        let traffic = match rest[0] {
            0 => Traffic::Raw,
            1 => Traffic::Http,
            _ => return Err(unknown()),
        };
        let source = read_addr(&rest[1..19]).ok_or_else(unknown)?;
        let target = read_addr(&rest[19..37]).ok_or_else(unknown)?;
        let mut secret = vec![0; rest[37].into()];
        stream.read_exact(&mut secret).await?;
        Ok(Self {
            traffic,
            source,
            target,
            secret,
        })
    }
}

fn read_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_first_chunk::<16>()?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some(SocketAddr::new(Ipv6Addr::from(*ip).to_canonical(), port))
}

impl fmt::Debug for Preamble {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preamble")
            .field("traffic", &self.traffic)
            .field("source", &self.source)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// The worker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The bytes that follow are the pod's.
    Open = 0,
    WrongSecret = 1,
    NoSuchPod = 2,
    /// Nothing listens on the pod's port.
    Refused = 3,
    /// The pod or the worker takes no more connections now.
    Busy = 4,
    /// The worker does not know this form of preamble.
    UnknownForm = 5,
}

impl From<u8> for Status {
    fn from(byte: u8) -> Self {
        match byte {
            0 => Self::Open,
            1 => Self::WrongSecret,
            2 => Self::NoSuchPod,
            3 => Self::Refused,
            4 => Self::Busy,
            _ => Self::UnknownForm,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "the stream is open",
            Self::WrongSecret => "the worker does not accept the cluster's wire secret",
            Self::NoSuchPod => "the pod is not on that worker",
            Self::Refused => "nothing listens on the pod's port",
            Self::Busy => "the pod takes no more connections now",
            Self::UnknownForm => "the worker speaks another version of the wire",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read() {
        let cases = [
            (Traffic::Raw, "10.64.0.1:4000", "10.64.32.9:80", "s"),
            (Traffic::Http, "[fd00::1]:1", "[fd00::2]:65535", ""),
            (Traffic::Http, "127.0.0.1:0", "0.0.0.0:0", &"x".repeat(255)),
        ];
        for (traffic, source, target, secret) in cases {
            let (source, target) = (source.parse().unwrap(), target.parse().unwrap());
            let preamble = Preamble::new(traffic, source, target, secret);
            let bytes = preamble.encode();
            let read = Preamble::read(&mut bytes.as_slice()).await.unwrap();
            assert_eq!(read, preamble);
            assert_eq!(read.is_signed_with(secret), !secret.is_empty());
            assert!(!read.is_signed_with("other"));
            for length in 0..bytes.len() {
                assert!(Preamble::read(&mut &bytes[..length]).await.is_err());
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_preamble_is_refused() {
        let request = b"GET / HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n";
        let error = Preamble::read(&mut request.as_slice()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
