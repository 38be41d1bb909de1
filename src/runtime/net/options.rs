//! Socket options: what WASI lets a guest set, checked and bounded.
//!
//! Keep-alive and hop limit have no effect on a virtual connection, whose peer's death is always
//! noticed; they are kept and returned because programs set and read them. A socket that leads out
//! of the cluster has a real one behind it, which gets what is set ([`Options::apply`]). Buffer sizes are
//! real everywhere: they bound the rings, between [`MIN_BUFFER`] and [`MAX_BUFFER`], and are clamped
//! silently as the kernel does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

use super::error::Error;

const MIN_BUFFER: u64 = 4 << 10;
const MAX_BUFFER: u64 = 1 << 20;
const DEFAULT_BUFFER: u64 = 256 << 10;
const SECOND: u64 = 1_000_000_000;
/// Linux' maximum of the keep-alive times.
const MAX_KEEP_ALIVE: u64 = 32_767 * SECOND;
/// Linux' maximum of the keep-alive count.
const MAX_KEEP_ALIVE_COUNT: u32 = 127;

/// The two address families; IPv6 sockets are IPv6 only, as WASI demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The wildcard address with port zero.
    pub fn wildcard(self) -> SocketAddr {
        SocketAddr::new(self.unspecified(), 0)
    }

    /// The wildcard address.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// The loopback address.
    pub fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Whether a socket of this family may name `ip`: no IPv4 in disguise on an IPv6 socket.
    pub(super) fn takes(self, ip: IpAddr) -> bool {
        match (self, ip) {
            (Self::V4, IpAddr::V4(_)) => true,
            (Self::V6, IpAddr::V6(v6)) => {
                v6.to_ipv4_mapped().is_none() && !is_deprecated_ipv4_compatible(v6)
            }
            (Self::V4, IpAddr::V6(_)) | (Self::V6, IpAddr::V4(_)) => false,
        }
    }
}

fn is_deprecated_ipv4_compatible(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0, 0, 0, 0, 0, 0, _, _])
        && ip != Ipv6Addr::UNSPECIFIED
        && ip != Ipv6Addr::LOCALHOST
}

/// Neither multicast nor broadcast.
pub(super) fn is_unicast(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_multicast(),
    }
}

/// Something that can be connected to or sent to.
pub(super) fn is_remote(addr: SocketAddr) -> bool {
    !addr.ip().to_canonical().is_unspecified() && addr.port() != 0
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub keep_alive: bool,
    keep_alive_idle: u64,
    keep_alive_interval: u64,
    keep_alive_count: u32,
    hop_limit: u8,
    receive_buffer: u64,
    send_buffer: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_alive: false,
            keep_alive_idle: 7_200 * SECOND,
            keep_alive_interval: 75 * SECOND,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer: DEFAULT_BUFFER,
            send_buffer: DEFAULT_BUFFER,
        }
    }
}

impl Options {
    pub fn keep_alive_idle(&self) -> u64 {
        self.keep_alive_idle
    }

    pub fn set_keep_alive_idle(&mut self, nanoseconds: u64) -> Result<(), Error> {
        self.keep_alive_idle = not_zero(nanoseconds)?.clamp(SECOND, MAX_KEEP_ALIVE);
        Ok(())
    }

    pub fn keep_alive_interval(&self) -> u64 {
        self.keep_alive_interval
    }

    pub fn set_keep_alive_interval(&mut self, nanoseconds: u64) -> Result<(), Error> {
        self.keep_alive_interval = not_zero(nanoseconds)?.clamp(SECOND, MAX_KEEP_ALIVE);
        Ok(())
    }

    pub fn keep_alive_count(&self) -> u32 {
        self.keep_alive_count
    }

    pub fn set_keep_alive_count(&mut self, count: u32) -> Result<(), Error> {
        not_zero(count.into())?;
        self.keep_alive_count = count.min(MAX_KEEP_ALIVE_COUNT);
        Ok(())
    }

    pub fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    pub fn set_hop_limit(&mut self, hops: u8) -> Result<(), Error> {
        not_zero(hops.into())?;
        self.hop_limit = hops;
        Ok(())
    }

    pub fn receive_buffer(&self) -> u64 {
        self.receive_buffer
    }

    pub fn set_receive_buffer(&mut self, bytes: u64) -> Result<(), Error> {
        self.receive_buffer = not_zero(bytes)?.clamp(MIN_BUFFER, MAX_BUFFER);
        Ok(())
    }

    pub fn send_buffer(&self) -> u64 {
        self.send_buffer
    }

    pub fn set_send_buffer(&mut self, bytes: u64) -> Result<(), Error> {
        self.send_buffer = not_zero(bytes)?.clamp(MIN_BUFFER, MAX_BUFFER);
        Ok(())
    }

    /// Sets what a real socket of the host shall do; keep-alive only where it is TCP's.
    pub(super) fn apply(
        &self,
        socket: &impl AsFd,
        family: Family,
        is_tcp: bool,
    ) -> rustix::io::Result<()> {
        match family {
            Family::V4 => sockopt::set_ip_ttl(socket, self.hop_limit.into())?,
            Family::V6 => sockopt::set_ipv6_unicast_hops(socket, Some(self.hop_limit))?,
        }
        if !is_tcp || !self.keep_alive {
            return Ok(());
        }
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, Duration::from_nanos(self.keep_alive_idle))?;
        sockopt::set_tcp_keepintvl(socket, Duration::from_nanos(self.keep_alive_interval))?;
        sockopt::set_tcp_keepcnt(socket, self.keep_alive_count)
    }

    /// The bytes that may wait on the way from a socket with these options to one with `to`'s.
    pub(super) fn ring_limit(&self, to: &Self) -> usize {
        self.send_buffer.min(to.receive_buffer) as usize
    }
}

fn not_zero(value: u64) -> Result<u64, Error> {
    if value == 0 {
        return Err(Error::InvalidArgument);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bounded_and_zero_is_refused() {
        let mut options = Options::default();
        assert_eq!(options.set_receive_buffer(0), Err(Error::InvalidArgument));
        assert_eq!(options.set_hop_limit(0), Err(Error::InvalidArgument));
        options.set_receive_buffer(u64::MAX).unwrap();
        options.set_send_buffer(1).unwrap();
        options.set_keep_alive_idle(1).unwrap();
        options.set_keep_alive_count(u32::MAX).unwrap();
        assert_eq!(options.receive_buffer(), MAX_BUFFER);
        assert_eq!(options.send_buffer(), MIN_BUFFER);
        assert_eq!(options.keep_alive_idle(), SECOND);
        assert_eq!(options.keep_alive_count(), MAX_KEEP_ALIVE_COUNT);
    }

    #[test]
    fn a_real_socket_gets_what_was_set() {
        let mut options = Options {
            keep_alive: true,
            ..Options::default()
        };
        options.set_keep_alive_idle(60 * SECOND).unwrap();
        options.set_keep_alive_interval(5 * SECOND).unwrap();
        options.set_keep_alive_count(3).unwrap();
        options.set_hop_limit(9).unwrap();
        let any = Family::V4.wildcard();
        let socket = std::net::TcpListener::bind(any).unwrap();
        options.apply(&socket, Family::V4, true).unwrap();
        assert_eq!(socket.ttl().unwrap(), 9);
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        let seconds = Duration::from_secs;
        assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), seconds(60));
        assert_eq!(sockopt::tcp_keepintvl(&socket).unwrap(), seconds(5));
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), 3);
        let socket = std::net::UdpSocket::bind(any).unwrap();
        options.apply(&socket, Family::V4, false).unwrap();
        assert_eq!(socket.ttl().unwrap(), 9);
    }

    #[test]
    fn ipv4_in_disguise_is_not_ipv6() {
        let cases = [
            ("::1", true),
            ("::", true),
            ("fd00::1", true),
            ("::ffff:127.0.0.1", false),
            ("::10.0.0.1", false),
            ("10.0.0.1", false),
        ];
        for (ip, taken) in cases {
            assert_eq!(Family::V6.takes(ip.parse().unwrap()), taken, "{ip}");
        }
    }
}
