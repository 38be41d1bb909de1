//! A range of addresses, `10.64.0.0/10`.

use std::net::IpAddr;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub ip: IpAddr,
    pub prefix: u8,
}

impl Subnet {
    /// Reads `10.64.0.0/10`; bits behind the prefix mean nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, prefix) = text.split_once('/')?;
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|it| is_number && *it <= most)?;
        Some(Self { ip, prefix })
    }

    /// Whether `ip` is inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32_u32.saturating_sub(self.prefix.into());
                u64::from(net.to_bits()) >> shift == u64::from(ip.to_bits()) >> shift
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128_u32.saturating_sub(self.prefix.into());
                shift == 128 || net.to_bits() >> shift == ip.to_bits() >> shift
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_asked() {
        let cases = [
            ("10.64.0.0/10", "10.127.255.255", true),
            ("10.64.0.0/10", "10.128.0.0", false),
            ("10.64.3.4/10", "10.64.0.1", true),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("10.0.0.1/32", "10.0.0.2", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ];
        for (range, ip, expected) in cases {
            let range = Subnet::parse(range).unwrap();
            assert_eq!(range.contains(ip.parse().unwrap()), expected, "{range:?}");
        }
        for wrong in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "a/8",
            "10.0.0.0/+8",
        ] {
            assert_eq!(Subnet::parse(wrong), None, "{wrong}");
        }
    }
}
