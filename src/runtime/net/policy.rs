//! Which addresses outside the cluster a guest may reach with a real socket of the host.
//!
//! The check is made on the address that is then connected to, never on a name, so a resolver that
//! changes its mind changes nothing. Always refused: loopback, unspecified, link-local (where clouds
//! keep instance metadata), multicast, broadcast, reserved ranges, whatever the operator denies, and every address of
//! the host itself, since behind those stand the control plane and the host's other services. An
//! IPv4 address hidden in an IPv6 one (mapped, NAT64, 6to4) is judged as what it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::api::subnet::Subnet;

/// The worker's rule for the host plane.
pub(super) struct Egress {
    denied: Vec<Subnet>,
    stand_ins: Vec<(SocketAddr, SocketAddr)>,
}

impl Egress {
    pub(super) fn new(denied: Vec<Subnet>, stand_ins: Vec<(SocketAddr, SocketAddr)>) -> Self {
        Self { denied, stand_ins }
    }

    /// Where a guest's connection or datagram to `to` goes, if it may go there at all.
    pub(super) fn way(&self, to: SocketAddr) -> Option<SocketAddr> {
        let stand_in = || self.stand_ins.iter().find(|(of, _)| *of == to);
        self.allows(to.ip())
            .then(|| stand_in().map_or(to, |(_, at)| *at))
    }

    /// Whether a guest may connect to `ip` with a socket of the host.
    fn allows(&self, ip: IpAddr) -> bool {
        let ip = unwrap_ipv4(ip);
        is_public_enough(ip)
            && !self.denied.iter().any(|subnet| subnet.contains(ip))
            && !is_own_address(ip)
    }
}

/// The address that a packet to `ip` ends at.
fn unwrap_ipv4(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else {
        return ip;
    };
    let embedded = match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some((high, low))
        }
        [0x2002, high, low, ..] => Some((high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if (high, low) != (0, 0) && (high, low) != (0, 1) => {
            Some((high, low))
        }
        _ => None,
    };
    match embedded {
        Some((high, low)) => Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into(),
        None => ip,
    }
}

fn is_public_enough(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || first == 0
                || first >= 240)
        }
        IpAddr::V6(v6) => {
            !(v6 == Ipv6Addr::UNSPECIFIED
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}

/// An address is the host's own exactly if a socket can be bound to it: always current, and no
/// list of interfaces to keep. On a host that binds to foreign addresses this refuses everything,
/// which is the safe side.
fn is_own_address(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_and_its_neighbourhood_are_out_of_reach() {
        let denied = vec![Subnet {
            ip: "203.0.113.0".parse().unwrap(),
            prefix: 24,
        }];
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 80);
        let stand_ins = ["198.51.100.2", "203.0.113.7"].map(|ip| (at(ip), at("127.0.0.1")));
        let egress = Egress::new(denied, stand_ins.to_vec());
        let cases = [
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("203.0.113.7", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::", false),
            ("::127.0.0.1", false),
            ("198.51.100.1", true),
            ("::ffff:198.51.100.1", true),
            ("2001:db8::1", true),
        ];
        for (ip, allowed) in cases {
            assert_eq!(egress.allows(ip.parse().unwrap()), allowed, "{ip}");
        }
        // Whoever stands in for somebody outside is found there alone.
        assert_eq!(egress.way(at("198.51.100.2")), Some(at("127.0.0.1")));
        assert_eq!(egress.way(at("198.51.100.1")), Some(at("198.51.100.1")));
        for ip in ["127.0.0.1", "203.0.113.7"] {
            assert_eq!(egress.way(at(ip)), None, "{ip}");
        }
    }
}
