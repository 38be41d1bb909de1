//! Performing a test: its operations one after the other, on the pod's own surfaces.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use wasmorch::runtime::net::{Conn, Family, Incarnation, TcpSocket};
use wasmorch::runtime::spec::LogStream;
use wasmorch::runtime::{Artifact, ContainerHandle, PodSandbox};

use super::manifest::{Manifest, Operation, Request};
use super::pod::{Files, Log, Machine, object, start};
use super::servers::Servers;

/// How long a program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(2);

/// One test in its pod.
pub(super) struct Run<'a> {
    machine: &'a Machine,
    manifest: &'a Manifest,
    artifact: Arc<Artifact>,
    log: Arc<Log>,
    /// How much of each stream the test has read.
    read: [usize; 2],
    pod: Option<Arc<PodSandbox>>,
    container: Option<ContainerHandle>,
    servers: Option<Servers>,
    /// The test's side of its connections, as another container of the pod.
    peer: Incarnation,
    connections: HashMap<String, (TcpSocket, Arc<Conn>)>,
}

type Outcome = Result<(), String>;

impl<'a> Run<'a> {
    pub(super) fn new(
        machine: &'a Machine,
        manifest: &'a Manifest,
        artifact: Arc<Artifact>,
    ) -> Self {
        Self {
            machine,
            manifest,
            artifact,
            log: Arc::default(),
            read: [0; 2],
            pod: None,
            container: None,
            servers: None,
            peer: Incarnation::new(),
            connections: HashMap::new(),
        }
    }

    pub(super) async fn perform(&mut self) -> Outcome {
        for operation in &self.manifest.operations {
            match operation {
                Operation::Run { args, env, root } => {
                    let env = env.clone().into_iter().collect();
                    self.run(args, env, root.as_deref()).await?;
                }
                Operation::Wait { exit_code } => self.wait(*exit_code).await?,
                Operation::Read { id, payload } => self.read(id, payload).await?,
                Operation::Connect { id, protocol_type } => self.connect(id, protocol_type).await?,
                Operation::Send { id, payload } => self.send(id, payload).await?,
                Operation::Recv { id, payload } => self.receive(id, payload).await?,
                Operation::Request(request) => self.request(request).await?,
                Operation::Kill {} => self.kill().await?,
                Operation::Write { payload } => self.write(payload).await?,
                Operation::Close { id } => self.end(id)?,
            }
        }
        Ok(())
    }

    async fn run(
        &mut self,
        args: &[String],
        mut env: Vec<(String, String)>,
        root: Option<&str>,
    ) -> Outcome {
        let manifest = self.manifest;
        let servers = Servers::start(self.machine, &manifest.servers);
        env.extend(servers.variables());
        self.servers = Some(servers);
        let object = object(args, manifest);
        let pod = self.machine.pod(&object, &manifest.dirs);
        self.pod = Some(Arc::clone(&pod));
        self.fill(&pod, &object, root).await?;
        let started = start(
            &pod,
            &object,
            (false, &manifest.argv0),
            env,
            &self.artifact,
            &self.log,
        );
        self.container = Some(started.map_err(|error| format!("start: {error}"))?);
        Ok(())
    }

    /// The init container.
    async fn fill(&self, pod: &PodSandbox, object: &Pod, root: Option<&str>) -> Outcome {
        let manifest = self.manifest;
        let mut files = Files::default();
        if root.is_some() || !manifest.files.is_empty() {
            files.remove_directory("tmp");
        }
        if let Some(root) = root {
            files.tree(&manifest.home.join(root), "");
        }
        for name in &manifest.dirs {
            let from = manifest.home.join(name);
            if from.is_dir() {
                files.tree(&from, name);
            }
        }
        for (path, contents) in &manifest.files {
            if let Some(parent) = Path::new(path).parent().filter(|it| it.parent().is_some()) {
                files.directory(&parent.to_string_lossy());
            }
            files.file(path, contents.as_bytes());
        }
        if files.is_empty() {
            return Ok(());
        }
        let wasm = wat::parse_str(files.program()).unwrap();
        let program = self.machine.load(&wasm).await.unwrap();
        let log = Arc::default();
        let started = start(pod, object, (true, "files"), Vec::new(), &program, &log);
        let exit = started
            .map_err(|error| format!("start files: {error}"))?
            .wait()
            .await;
        if exit.code != 0 {
            return Err(format!(
                "the init container could not make the files: {exit:?}"
            ));
        }
        Ok(())
    }

    fn container(&self) -> Result<&ContainerHandle, String> {
        self.container
            .as_ref()
            .ok_or_else(|| "does not run".to_owned())
    }

    fn pod(&self) -> Result<&Arc<PodSandbox>, String> {
        self.pod.as_ref().ok_or_else(|| "does not run".to_owned())
    }

    async fn wait(&mut self, code: i32) -> Outcome {
        let exit = self.container()?.wait().await;
        if exit.code == code {
            return Ok(());
        }
        Err(format!(
            "exit code {} and not {code}: {}",
            exit.code, exit.message
        ))
    }

    /// Asks it to end, and makes it when it does not listen.
    async fn kill(&self) -> Outcome {
        let container = self.container()?;
        container.stop();
        if tokio::time::timeout(GRACE, container.wait()).await.is_err() {
            container.kill();
        }
        Ok(())
    }

    /// What a stream has said since it was last read; waits until there is `enough`, or no more.
    async fn next(&mut self, id: &str, enough: impl Fn(&str) -> bool) -> Result<String, String> {
        let (stream, index) = match id {
            "stdout" => (LogStream::Stdout, 0),
            "stderr" => (LogStream::Stderr, 1),
            other => return Err(format!("there is no stream {other}")),
        };
        let container = self.container()?.clone();
        loop {
            let has_ended = container.exit().is_some();
            let text = self.log.text(stream);
            let news = text[self.read[index]..].to_owned();
            if enough(&news) || has_ended {
                return Ok(news);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn read(&mut self, id: &str, payload: &str) -> Outcome {
        let news = self.next(id, |news| news.len() >= payload.len()).await?;
        self.read[usize::from(id == "stderr")] += payload.len().min(news.len());
        if news.starts_with(payload) {
            return Ok(());
        }
        Err(format!("{id} is {news:?} and not {payload:?}"))
    }

    /// As a client that attached would.
    async fn write(&self, payload: &str) -> Outcome {
        let stdin = self
            .container()?
            .stdin()
            .ok_or("the program has no stdin")?;
        // A program that has ended reads no more, and its exit code is asked for afterwards.
        stdin.send(payload.as_bytes()).await;
        Ok(())
    }

    fn end(&mut self, id: &str) -> Outcome {
        if id == "stdin" {
            let stdin = self
                .container()?
                .stdin()
                .ok_or("the program has no stdin")?;
            stdin.close();
            return Ok(());
        }
        let closed = self.connections.remove(id);
        closed
            .map(drop)
            .ok_or_else(|| format!("there is no connection {id}"))
    }

    /// As another program of the pod, for servers listen on its loopback.
    async fn connect(&mut self, id: &str, protocol: &str) -> Outcome {
        if protocol != "tcp" {
            return Err(format!("connects by {protocol}"));
        }
        let line = self.next("stdout", |news| news.contains('\n')).await?;
        let line = line.lines().next().unwrap_or_default().to_owned();
        self.read[0] += line.len() + 1;
        let to: SocketAddr = line
            .parse()
            .map_err(|_| format!("{line:?} is no address"))?;
        let net = self.pod()?.net();
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let connected = async {
            let mut socket = TcpSocket::new(net, self.peer.owner(), family)?;
            socket.start_connect(to)?;
            std::future::poll_fn(|cx| socket.poll_connected(cx)).await?;
            let conn = Arc::clone(socket.conn()?);
            Ok::<_, wasmorch::runtime::net::Error>((socket, conn))
        };
        let connected = connected.await.map_err(|error| format!("{to}: {error}"))?;
        self.connections.insert(id.to_owned(), connected);
        Ok(())
    }

    fn connection(&self, id: &str) -> Result<&Conn, String> {
        let found = self.connections.get(id).map(|(_, conn)| &**conn);
        found.ok_or_else(|| format!("there is no connection {id}"))
    }

    async fn send(&self, id: &str, payload: &str) -> Outcome {
        let conn = self.connection(id)?;
        let mut rest = payload.as_bytes();
        while !rest.is_empty() {
            std::future::poll_fn(|cx| conn.poll_writable(cx)).await;
            let sent = conn.try_write(rest).map_err(|error| error.to_string())?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    async fn receive(&self, id: &str, payload: &str) -> Outcome {
        let conn = self.connection(id)?;
        std::future::poll_fn(|cx| conn.poll_readable(cx)).await;
        let received = conn.try_read_vec(payload.len());
        let received = received.map_err(|error| error.to_string())?;
        if received == payload.as_bytes() {
            return Ok(());
        }
        let received = String::from_utf8_lossy(&received).into_owned();
        Err(format!("received {received:?} and not {payload:?}"))
    }

    /// From outside the pod, as a router would.
    async fn request(&self, request: &Request) -> Outcome {
        let failed =
            |error: &dyn std::error::Error| format!("{} {}: {error}", request.method, request.path);
        let conn = self.pod()?.dial(8080).map_err(|error| failed(&error))?;
        let handshake = hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(conn));
        let (mut sender, connection) = handshake.await.map_err(|error| failed(&error))?;
        let serving = async {
            let _ = connection.await;
        };
        self.machine.tasks.spawn_contained("client", serving);
        let mut sent = http::Request::builder()
            .method(&*request.method)
            .uri(&request.path);
        if !request.headers.contains_key("host") {
            sent = sent.header("host", "localhost:8080");
        }
        for (name, value) in &request.headers {
            sent = sent.header(name, self.expand(value));
        }
        let sent = sent.body(Full::from(request.body.clone())).unwrap();
        let response = sender
            .send_request(sent)
            .await
            .map_err(|error| failed(&error))?;
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| failed(&error))?
            .to_bytes();
        let body = String::from_utf8_lossy(&body);
        let wanted = &request.response;
        let found = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        for (name, value) in &wanted.headers {
            if found(name) != Some(value) {
                return Err(format!("{} is {:?} and not {value:?}", name, found(name)));
            }
        }
        let is_body = wanted.body.as_ref().is_none_or(|wanted| *wanted == body);
        if head.status.as_u16() != wanted.status || !is_body {
            return Err(format!(
                "{} {}: {} {body:?} and not {} {:?}",
                request.method, request.path, head.status, wanted.status, wanted.body
            ));
        }
        Ok(())
    }

    /// `$(VARIABLE)` is the address of a server.
    fn expand(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.servers.iter().flat_map(Servers::variables) {
            text = text.replace(&format!("$({name})"), &value);
        }
        text
    }

    /// What the program said, for the report of a failure.
    pub(super) fn output(&self) -> String {
        let mut output = String::new();
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            for line in self.log.text(stream).lines().take(12) {
                output.push_str("\n          | ");
                output.push_str(&line.chars().take(200).collect::<String>());
            }
        }
        output
    }

    pub(super) async fn close(self) {
        if let Some(servers) = &self.servers {
            servers.close().await;
        }
        if let Some(pod) = &self.pod {
            pod.close().await;
        }
    }
}
