//! Commands on the pod's network: http (also named curl), nc, netstat, nslookup.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, ToSocketAddrs};

use crate::io::{Io, words};
use crate::{Result, about, flags};

struct Request {
    method: Option<String>,
    headers: Vec<String>,
    body: Option<Vec<u8>>,
    shows_head: bool,
    fails: bool,
    url: String,
}

fn request(io: &mut Io, args: &[String]) -> Result<Request> {
    let mut request = Request {
        method: None,
        headers: Vec::new(),
        body: None,
        shows_head: false,
        fails: false,
        url: String::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or(format!("{arg} of what?"));
        match arg.as_str() {
            "-X" => request.method = Some(value()?),
            "-H" => request.headers.push(value()?),
            "-d" => {
                let text = value()?;
                let mut body = Vec::new();
                match text.strip_prefix('@') {
                    Some(path) => {
                        let mut from = io.open(Some(path))?;
                        from.read_to_end(&mut body).map_err(about(path))?;
                    }
                    None => body = text.into_bytes(),
                }
                request.body = Some(body);
            }
            "-i" => request.shows_head = true,
            "-f" => request.fails = true,
            "-s" | "-S" | "-sS" => {}
            "-fsS" | "-sf" | "-fs" => request.fails = true,
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
            url => request.url = url.to_owned(),
        }
    }
    if request.url.is_empty() {
        return Err("which URL?".to_owned());
    }
    Ok(request)
}

/// One request in HTTP/1.1, its answer's body on standard output.
pub fn http(io: &mut Io, args: &[String]) -> Result {
    let request = request(io, args)?;
    let rest = match request.url.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(format!("{scheme} is not spoken here, only http")),
        None => &request.url,
    };
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let is_plain = !host.rsplit(']').next().unwrap_or(host).contains(':');
    let address = if is_plain {
        format!("{host}:80")
    } else {
        host.to_owned()
    };
    let mut stream = TcpStream::connect(&address).map_err(about(&address))?;
    let broken = |error: std::io::Error| format!("{address}: {}", words(&error));
    let body = request.body.unwrap_or_default();
    let method = request.method.unwrap_or_else(|| {
        let is_empty = body.is_empty();
        if is_empty { "GET" } else { "POST" }.to_owned()
    });
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    head.push_str("user-agent: toolbox\r\naccept: */*\r\n");
    if !body.is_empty() || method != "GET" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for header in request.headers {
        head.push_str(&format!("{header}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).map_err(broken)?;
    stream.write_all(&body).map_err(broken)?;
    let mut answer = BufReader::new(stream);
    let head = read_head(&mut answer).map_err(broken)?;
    if request.shows_head {
        io.print(&head);
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| format!("{address}: no HTTP answer"))?;
    copy_body(io, &head, &mut answer).map_err(broken)?;
    if request.fails && status >= 400 {
        return Err(format!("{address} answered {status}"));
    }
    Ok(0)
}

fn read_head(answer: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if answer.read_line(&mut head)? == 0 || head.len() - before <= 2 {
            return Ok(head);
        }
    }
}

fn copy_body(io: &mut Io, head: &str, answer: &mut impl BufRead) -> std::io::Result<()> {
    let head = head.to_ascii_lowercase();
    let header = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            let mut size = String::new();
            answer.read_line(&mut size)?;
            let size = size.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(std::io::Error::other)?;
            if size == 0 {
                return Ok(());
            }
            io.copy(&mut answer.by_ref().take(size))?;
            answer.read_line(&mut String::new())?;
        }
    }
    match header("content-length").and_then(|length| length.parse().ok()) {
        Some(length) => io.copy(&mut answer.take(length)).map(drop),
        None => io.copy(answer).map(drop),
    }
}

/// `nc HOST PORT`: standard input there, then the answer here. `-l PORT`: the other end, once.
/// `-z`: only whether somebody listens.
pub fn nc(io: &mut Io, args: &[String]) -> Result {
    let (flags, words_given) = flags(args, "lzvp")?;
    let mut stream = match words_given[..] {
        [port] if flags.contains('l') => {
            let address = format!("0.0.0.0:{port}");
            let listener = TcpListener::bind(&address).map_err(about(&address))?;
            let (stream, peer) = listener.accept().map_err(about(&address))?;
            if flags.contains('v') {
                io.complain(&format!("nc: connection from {peer}"));
            }
            stream
        }
        [host, port] if !flags.contains('l') => {
            let address = format!("{host}:{port}");
            TcpStream::connect(&address).map_err(about(&address))?
        }
        _ => return Err("nc HOST PORT, or nc -l PORT".to_owned()),
    };
    if flags.contains('z') {
        return Ok(0);
    }
    let failed = |error: std::io::Error| words(&error);
    if flags.contains('l') {
        io.copy(&mut stream).map_err(failed)?;
        return Ok(0);
    }
    let mut input = io.open(None)?;
    std::io::copy(&mut input, &mut stream).map_err(failed)?;
    stream.shutdown(std::net::Shutdown::Write).map_err(failed)?;
    io.copy(&mut stream).map_err(failed)?;
    Ok(0)
}

pub fn nslookup(io: &mut Io, args: &[String]) -> Result {
    let name = args.first().ok_or("which name?")?;
    let found = (name.as_str(), 0).to_socket_addrs().map_err(about(name))?;
    for address in found {
        io.print(&format!("{name}\t{}\n", address.ip()));
    }
    Ok(0)
}

/// The sockets of the pod, from the tables below `/proc/net`.
pub fn netstat(io: &mut Io, args: &[String]) -> Result {
    flags(args, "lntuap")?;
    io.print(&format!(
        "{:<6} {:<28} {:<28} STATE\n",
        "PROTO", "LOCAL", "PEER"
    ));
    let mut is_shown = false;
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        let Ok(table) = fs::read_to_string(format!("/proc/net/{protocol}")) else {
            continue;
        };
        is_shown = true;
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, peer, state, ..] = fields[..] else {
                continue;
            };
            let state = match (protocol, state) {
                ("udp" | "udp6", _) => "",
                (_, "0A") => "LISTEN",
                (_, "01") => "ESTABLISHED",
                (_, other) => other,
            };
            let (local, peer) = (endpoint(local), endpoint(peer));
            let line = format!("{protocol:<6} {local:<28} {peer:<28} {state}");
            io.print(line.trim_end());
            io.print("\n");
        }
    }
    if is_shown {
        Ok(0)
    } else {
        Err("the worker shows no /proc/net here".to_owned())
    }
}

/// `0100007F:1F90` is 127.0.0.1:8080: words of four bytes in the machine's order.
fn endpoint(text: &str) -> String {
    let (address, port) = text.split_once(':').unwrap_or((text, "0"));
    let port = u16::from_str_radix(port, 16).unwrap_or(0);
    let port = if port == 0 {
        "*".to_owned()
    } else {
        port.to_string()
    };
    let words: Vec<u32> = (0..address.len() / 8)
        .filter_map(|at| u32::from_str_radix(&address[at * 8..at * 8 + 8], 16).ok())
        .map(u32::swap_bytes)
        .collect();
    match words[..] {
        [word] => format!("{}:{port}", IpAddr::from(Ipv4Addr::from(word))),
        [a, b, c, d] => {
            let bits = [a, b, c, d]
                .iter()
                .fold(0_u128, |bits, word| bits << 32 | u128::from(*word));
            format!("[{}]:{port}", Ipv6Addr::from(bits))
        }
        _ => text.to_owned(),
    }
}
