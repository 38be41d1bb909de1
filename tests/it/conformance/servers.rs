//! The servers that a test asks for: host code that answers on ports of a pod of its own.
//!
//! Written by hand on the byte stream, because HTTP libraries send trailers only to clients that
//! ask for them, and these tests do not ask.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use wasmorch::runtime::PodSandbox;
use wasmorch::runtime::net::{Conn, ConnService, Incarnation, ServiceBinding};
use wasmorch::tasks::TaskGroup;

use super::manifest::{Endpoint, Manifest, Mode, Response, Server, ServerKind};
use super::pod::{Machine, object};

pub(super) struct Servers {
    pod: Option<Arc<PodSandbox>>,
    variables: Vec<(String, String)>,
    /// Held: dropping one closes its port.
    bindings: Vec<ServiceBinding>,
    incarnation: Incarnation,
}

impl Servers {
    pub(super) fn start(machine: &Machine, servers: &[Server]) -> Self {
        let incarnation = Incarnation::new();
        let mut this = Self {
            pod: None,
            variables: Vec::new(),
            bindings: Vec::new(),
            incarnation,
        };
        if servers.is_empty() {
            return this;
        }
        let pod = machine.pod(&object(&[], &Manifest::default()), &[]);
        for (index, server) in servers.iter().enumerate() {
            let port = 8000 + index as u16;
            let address = SocketAddr::new(pod.net().ip(), port);
            this.variables
                .push((server.variable(), address.to_string()));
            if server.kind != ServerKind::Closed {
                let service = Service {
                    kind: server.kind,
                    endpoints: Arc::new(server.endpoints.clone()),
                    tasks: machine.tasks.clone(),
                };
                let owner = this.incarnation.owner();
                let binding = pod.net().bind_service(port, owner, Arc::new(service));
                this.bindings.push(binding.unwrap());
            }
        }
        this.pod = Some(pod);
        this
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        self.variables.iter().cloned()
    }

    pub(super) async fn close(&self) {
        if let Some(pod) = &self.pod {
            pod.close().await;
        }
    }
}

struct Service {
    kind: ServerKind,
    endpoints: Arc<Vec<Endpoint>>,
    tasks: TaskGroup,
}

impl ConnService for Service {
    fn accept(&self, conn: Conn) {
        let (kind, endpoints) = (self.kind, Arc::clone(&self.endpoints));
        self.tasks.spawn_contained("server", async move {
            // A client that goes away is part of some tests.
            let _ = match kind {
                ServerKind::Http2 => greet(conn).await,
                ServerKind::Listening | ServerKind::Closed => answer(conn, &endpoints).await,
            };
        });
    }
}

/// The first frame of HTTP/2, empty settings, at which a client of HTTP/1 gives up.
async fn greet(mut conn: Conn) -> std::io::Result<()> {
    conn.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    conn.read_u8().await.map(|_| ())
}

struct Asked {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

/// Answers one request; the connection ends with it.
async fn answer(conn: Conn, endpoints: &[Endpoint]) -> std::io::Result<()> {
    let mut stream = BufReader::new(conn);
    let asked = read_request(&mut stream).await?;
    let is = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    let endpoint = endpoints
        .iter()
        .find(|endpoint| is(&endpoint.method, &asked.method) && is(&endpoint.path, &asked.path));
    let bytes = match endpoint {
        None => encode(
            &asked,
            &Response {
                status: 404,
                ..Response::default()
            },
            &[],
        ),
        Some(endpoint) if endpoint.mode == Mode::Static => encode(&asked, &endpoint.response, &[]),
        Some(endpoint) => {
            let echo = echo(&asked, endpoint);
            let body = if endpoint.mode == Mode::EchoBody {
                &*asked.body
            } else {
                &[]
            };
            let mut bytes = head(200, &echo, Some(body.len()));
            bytes.extend_from_slice(body);
            bytes
        }
    };
    stream.get_mut().write_all(&bytes).await?;
    stream.get_mut().shutdown().await
}

fn echo(asked: &Asked, endpoint: &Endpoint) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    let mut tell = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    if let Some(name) = &endpoint.method_header {
        tell(name, &asked.method);
    }
    if let Some(name) = &endpoint.target_header {
        tell(name, &asked.path);
    }
    if endpoint.mode == Mode::EchoHeaders {
        tell("x-request-method", &asked.method);
        tell("x-request-path", &asked.path);
        for (name, value) in &asked.headers {
            tell(&format!("x-echo-{name}"), value);
        }
        for (name, value) in &asked.trailers {
            tell(&format!("x-trailer-{name}"), value);
        }
    }
    headers
}

type Stream = BufReader<Conn>;

async fn line(stream: &mut Stream) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

async fn fields(stream: &mut Stream) -> std::io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(stream).await?;
        let Some((name, value)) = line.split_once(':') else {
            return Ok(fields);
        };
        fields.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

async fn read_request(stream: &mut Stream) -> std::io::Result<Asked> {
    let first = line(stream).await?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let headers = fields(stream).await?;
    let header = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    if header("transfer-encoding").is_some_and(|it| it.contains("chunked")) {
        loop {
            let size = line(stream).await?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16);
            let size = size.unwrap_or(0);
            if size == 0 {
                break;
            }
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..]).await?;
            line(stream).await?;
        }
        trailers = fields(stream).await?;
    } else if let Some(length) = header("content-length").and_then(|it| it.parse().ok()) {
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
    }
    Ok(Asked {
        method: method.unwrap_or_default(),
        path: path.unwrap_or_default(),
        headers,
        body,
        trailers,
    })
}

fn head(status: u16, headers: &[(String, String)], length: Option<usize>) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} status\r\nconnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if let Some(length) = length {
        let _ = write!(head, "content-length: {length}\r\n\r\n");
    }
    head.into_bytes()
}

fn encode(asked: &Asked, response: &Response, more: &[(String, String)]) -> Vec<u8> {
    let mut headers: Vec<(String, String)> = response.headers.clone().into_iter().collect();
    headers.extend_from_slice(more);
    let Some(chunks) = &response.chunks else {
        let body = response.body.as_deref().unwrap_or_default();
        let mut bytes = head(response.status, &headers, Some(body.len()));
        if asked.method != "HEAD" {
            bytes.extend_from_slice(body.as_bytes());
        }
        return bytes;
    };
    let mut text = String::from_utf8_lossy(&head(response.status, &headers, None)).into_owned();
    text += "transfer-encoding: chunked\r\n";
    text += &trailer_names(&response.trailers);
    text += "\r\n";
    if asked.method != "HEAD" {
        for chunk in chunks {
            let _ = write!(text, "{:x}\r\n{chunk}\r\n", chunk.len());
        }
        text += "0\r\n";
        for (name, value) in &response.trailers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text += "\r\n";
    }
    text.into_bytes()
}

fn trailer_names(trailers: &BTreeMap<String, String>) -> String {
    if trailers.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = trailers.keys().map(String::as_str).collect();
    format!("trailer: {}\r\n", names.join(", "))
}
