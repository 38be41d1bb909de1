//! `/proc` for commands that look into a pod: its programs and its sockets, in Linux' formats so
//! that tools which know them work.
//!
//! It is a projected volume, made anew when a command begins, and mounted for commands and
//! ephemeral containers alone: others see an empty directory at most. The name has a colon, so no volume of a pod can have
//! it. Connections are not listed, only who listens.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::PodSandbox;
use crate::runtime::spec::{MountSpec, ProjectedFile, Protocol, VolumeSource, VolumeSpec};

pub(super) const VOLUME: &str = "wasmorch:proc";

pub(super) fn volume() -> VolumeSpec {
    VolumeSpec {
        name: VOLUME.to_owned(),
        source: VolumeSource::Files(Vec::new()),
    }
}

pub(super) fn mount() -> MountSpec {
    MountSpec {
        volume: VOLUME.to_owned(),
        path: "/proc".to_owned(),
        sub_path: None,
        read_only: true,
    }
}

pub(super) fn files(
    sandbox: &PodSandbox,
    processes: &[(String, Vec<String>)],
) -> Vec<ProjectedFile> {
    let listening = sandbox.listening();
    let mut files = vec![file(
        "sys/kernel/hostname".to_owned(),
        format!("{}\n", sandbox.spec.hostname),
    )];
    for (name, protocol, is_v6) in [
        ("tcp", Protocol::Tcp, false),
        ("tcp6", Protocol::Tcp, true),
        ("udp", Protocol::Udp, false),
        ("udp6", Protocol::Udp, true),
    ] {
        let found = listening
            .iter()
            .filter(|(address, of)| *of == protocol && address.is_ipv6() == is_v6);
        let addresses: Vec<SocketAddr> = found.map(|(address, _)| *address).collect();
        files.push(file(format!("net/{name}"), table(protocol, &addresses)));
    }
    for (at, (container, args)) in processes.iter().enumerate() {
        let pid = at + 1;
        files.push(file(format!("{pid}/comm"), format!("{container}\n")));
        let mut line = args.join("\0");
        line.push('\0');
        files.push(file(format!("{pid}/cmdline"), line));
    }
    files
}

fn file(path: String, contents: String) -> ProjectedFile {
    ProjectedFile {
        path,
        contents: contents.into(),
        mode: 0o444,
    }
}

fn table(protocol: Protocol, addresses: &[SocketAddr]) -> String {
    let mut table = String::from("  sl  local_address rem_address   st tx_queue rx_queue\n");
    let state = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    for (line, address) in addresses.iter().enumerate() {
        let local = hex(address.ip());
        let none = "0".repeat(local.len());
        let port = address.port();
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "{line:4}: {local}:{port:04X} {none}:0000 {state} 00000000:00000000"
        );
    }
    table
}

/// Words of four bytes, each in the order of a little-endian machine.
fn hex(ip: IpAddr) -> String {
    let bytes = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = bytes.chunks_exact(4);
    words
        .flat_map(|word| word.iter().rev())
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02X}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_shown_as_linux_shows_them() {
        let text = table(Protocol::Tcp, &["127.0.0.1:8080".parse().unwrap()]);
        let line = text.lines().nth(1).unwrap();
        assert!(
            line.starts_with("   0: 0100007F:1F90 00000000:0000 0A"),
            "{line}"
        );
        assert_eq!(
            hex("::1".parse().unwrap()),
            "00000000000000000000000001000000"
        );
    }
}
