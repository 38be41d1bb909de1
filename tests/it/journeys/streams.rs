//! Streams through the API server with two kubectls that share no protocol, with the own command line,
//! and by plain HTTP: commands, files, forwarded ports, proxies.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::with_hello;
use crate::cluster::{Cluster, Kubectl, PATIENCE, until};

/// Whichever of the two is here.
fn kubectls(cluster: &Cluster) -> Vec<Kubectl> {
    let known = [Kubectl::Old, Kubectl::New];
    let is_here = |version: &Kubectl| {
        let ran = cluster.try_kubectl_of(*version, &["version", "--client"]);
        let is_here = ran.is_some();
        if !is_here {
            eprintln!("no {version:?} kubectl here; its journey is not made");
        }
        is_here
    };
    known.into_iter().filter(is_here).collect()
}

/// Runs a program to its end with some input; its code, output and errors.
fn run(mut command: Command, input: &[u8]) -> (i32, Vec<u8>, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that reads nothing is none of a test's problems.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    });
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), output.stdout, errors)
}

/// Bytes that do not repeat and do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(next).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_run_commands_and_copy_files() {
    let cluster = with_hello(1).await;
    let pods = cluster.pods("app=hello").await;
    let pod = pods[0].metadata.name.as_deref().unwrap();
    let files = tempfile::tempdir().unwrap();
    let large = noise(3_000_000);
    std::fs::create_dir(files.path().join("tree")).unwrap();
    std::fs::write(files.path().join("tree/large"), &large).unwrap();
    let long = "n".repeat(150);
    std::fs::write(files.path().join("tree").join(&long), "long").unwrap();
    for version in kubectls(&cluster) {
        let kubectl = |arguments: &[&str], input: &[u8]| {
            let mut command = cluster.kubectl_of(version).unwrap();
            command.args(arguments).current_dir(files.path());
            run(command, input)
        };
        let script = "echo out; nothing-like-this; exit 3";
        let (code, out, errors) = kubectl(&["exec", pod, "--", "sh", "-c", script], b"");
        assert_eq!((code, &out[..]), (3, &b"out\n"[..]), "{version:?}");
        assert!(errors.contains("exit code 3"), "{version:?}: {errors}");
        assert!(errors.contains("nothing-like-this: not found"), "{errors}");
        let (code, out, errors) = kubectl(&["exec", "-i", pod, "--", "cat"], &large);
        assert!(code == 0 && out == large, "{version:?}: {errors}");
        let (code, _, errors) = kubectl(&["exec", pod, "-c", "none", "--", "true"], b"");
        assert!(
            code != 0 && errors.contains("container none is not valid"),
            "{errors}"
        );
        let there = format!("{pod}:/tmp/{version:?}");
        let (code, _, errors) = kubectl(&["cp", "tree", &there], b"");
        assert_eq!(code, 0, "{version:?}: {errors}");
        let back = format!("back-{version:?}");
        let (code, _, errors) = kubectl(&["cp", &there, &back], b"");
        assert_eq!(code, 0, "{version:?}: {errors}");
        assert!(std::fs::read(files.path().join(&back).join("large")).unwrap() == large);
        let text = std::fs::read_to_string(files.path().join(&back).join(&long)).unwrap();
        assert_eq!(text, "long");
    }
    let _ = cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kubectls_attach() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    for version in kubectls(&cluster) {
        let name = format!("reads-{version:?}").to_lowercase();
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name} }}\nspec:\n  restartPolicy: Never\n  containers:\n    - {{ name: main, image: toolbox, command: [cat], stdin: true, stdinOnce: true }}\n"
        ));
        until("the program to run", async || {
            let phase = cluster.wasmorch(&["get", "pod", &name, "-o", "jsonpath={.status.phase}"]);
            (phase == "Running").then_some(())
        })
        .await;
        let mut command = cluster.kubectl_of(version).unwrap();
        command.args(["attach", "-i", &name]);
        let (code, out, errors) = run(command, b"hello\n");
        assert_eq!(code, 0, "{version:?}: {errors}");
        let out = String::from_utf8_lossy(&out).into_owned();
        assert!(out.contains("hello"), "{version:?}: {out} {errors}");
        until("its input to have ended", async || {
            let phase = cluster.wasmorch(&["get", "pod", &name, "-o", "jsonpath={.status.phase}"]);
            (phase == "Succeeded").then_some(())
        })
        .await;
    }
    let _ = cluster.stop();
}

/// A `port-forward` that runs, and where its ports are here.
struct Forwarded {
    child: Child,
    said: tempfile::NamedTempFile,
    ports: Vec<SocketAddr>,
}

impl Forwarded {
    async fn start(mut command: Command, pod: &str, remote: &[u16]) -> Self {
        let said = tempfile::NamedTempFile::new().unwrap();
        // One place in the file for both streams.
        let file = said.reopen().unwrap();
        let ports = remote.iter().map(|port| format!(":{port}"));
        let child = command
            .arg("port-forward")
            .arg(pod)
            .args(ports)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut forwarded = Self {
            child,
            said,
            ports: Vec::new(),
        };
        forwarded.ports = until("the ports to be forwarded", async || {
            let said = forwarded.said();
            let address = |port: &u16| {
                let end = format!(" -> {port}");
                let mut lines = said.lines().filter(|line| line.ends_with(&end));
                let line = lines.find(|line| line.contains("127.0.0.1"))?;
                line.split(' ').nth(2)?.parse::<SocketAddr>().ok()
            };
            remote.iter().map(address).collect::<Option<Vec<_>>>()
        })
        .await;
        forwarded
    }

    /// What it has said.
    fn said(&self) -> String {
        let bytes = std::fs::read(self.said.path()).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: { name: ledger, labels: { app: ledger } }
spec:
  containers:
    - { name: server, image: ledger, volumeMounts: [{ name: data, mountPath: /data }] }
    - { name: hello, image: hello, ports: [{ containerPort: 8080 }] }
  volumes: [{ name: data, emptyDir: {} }]
";

async fn echo(address: SocketAddr, body: Vec<u8>) -> reqwest::Result<bytes::Bytes> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let url = format!("http://{address}/echo");
    client.post(url).body(body).send().await?.bytes().await
}

/// Three megabytes, many connections at once, a listener on loopback only, and nobody.
async fn forwards(cluster: &Cluster, what: &str, start: impl Fn() -> Command) {
    let forwarded = Forwarded::start(start(), "pod/ledger", &[8080, 7000]).await;
    let [http, loopback] = forwarded.ports[..] else {
        panic!("two ports");
    };
    let large = noise(3_000_000);
    assert!(echo(http, large.clone()).await.unwrap() == large, "{what}");
    let many = (0..24_u8).map(|at| async move {
        let body = vec![at; 100_000];
        assert!(echo(http, body.clone()).await.unwrap() == body);
    });
    futures::future::join_all(many).await;
    let mut stream = TcpStream::connect(loopback).await.unwrap();
    stream.write_all(b"sold\n").await.unwrap();
    let mut answer = [0; 8];
    let answered = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await;
    answered.unwrap().unwrap();
    assert_eq!(&answer, b"ok sold\n", "{what}");
    drop(stream);
    drop(forwarded);

    let forwarded = Forwarded::start(start(), "pod/ledger", &[9]).await;
    let mut stream = TcpStream::connect(forwarded.ports[0]).await.unwrap();
    let mut nothing = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut nothing)).await;
    assert!(ended.is_ok() && nothing.is_empty(), "{what}");
    until("the refusal to be told", async || {
        let said = forwarded.said();
        said.contains("failed to connect to localhost:9 inside the pod: connection refused")
            .then_some(())
    })
    .await;
    let _ = cluster;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_by_both_kubectls_and_the_own_command() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    cluster.push("hello-http", "hello");
    cluster.push("ledger-server", "ledger");
    cluster.apply(PODS);
    until("both programs to run", async || {
        let phase = cluster.wasmorch(&["get", "pod", "ledger", "-o", "jsonpath={.status.phase}"]);
        let log = cluster.logs(&["ledger", "-c", "server"]);
        (phase == "Running" && log.contains("listening")).then_some(())
    })
    .await;
    for version in kubectls(&cluster) {
        let start = || cluster.kubectl_of(version).unwrap();
        forwards(&cluster, &format!("{version:?}"), start).await;
    }
    let own = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasmorch"));
        command
            .arg("--kubeconfig")
            .arg(cluster.root().join("kubeconfig"));
        command
    };
    forwards(&cluster, "wasmorch", own).await;
    let _ = cluster.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_services_and_nodes_are_reached_through_the_server() {
    let cluster = with_hello(2).await;
    let pods = cluster.pods("app=hello").await;
    let pod = pods[0].metadata.name.as_deref().unwrap();
    for version in kubectls(&cluster) {
        let raw = |path: &str| {
            let mut command = cluster.kubectl_of(version).unwrap();
            command.args(["get", "--raw", path]);
            run(command, b"")
        };
        let base = "/api/v1/namespaces/default";
        let (code, out, errors) = raw(&format!("{base}/pods/{pod}:8080/proxy/"));
        assert_eq!(code, 0, "{errors}");
        assert!(
            String::from_utf8_lossy(&out).contains(pod),
            "the pod that is named answers"
        );
        for service in ["hello:80", "hello:http", "http:hello:http"] {
            let (code, out, errors) = raw(&format!("{base}/services/{service}/proxy/env?a=b"));
            assert_eq!(code, 0, "{service}: {errors}");
            assert!(String::from_utf8_lossy(&out).contains("POD_NAME"));
        }
        let (code, _, errors) = raw(&format!("{base}/services/hello:81/proxy/"));
        assert!(
            code != 0 && errors.contains("no service port 81 found"),
            "{errors}"
        );
        let (code, _, errors) = raw(&format!("{base}/pods/{pod}:9/proxy/"));
        assert!(
            code != 0 && errors.contains("connection refused"),
            "{errors}"
        );
        let (code, out, errors) = raw("/api/v1/nodes/dev-1/proxy/healthz");
        assert_eq!((code, &out[..]), (0, &b"ok"[..]), "{errors}");
        let (code, out, _) = raw("/healthz");
        assert_eq!((code, &out[..]), (0, &b"ok"[..]));
        by_kubectl_proxy(&cluster, version, pod).await;
    }
    let _ = cluster.stop();
}

/// `kubectl proxy`, and through it a body that streams both ways.
async fn by_kubectl_proxy(cluster: &Cluster, version: Kubectl, pod: &str) {
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut command = cluster.kubectl_of(version).unwrap();
    let child = command
        .args(["proxy", "--port", "0"])
        .stdout(said.reopen().unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = until("the proxy to listen", async || {
        let text = std::fs::read_to_string(said.path()).unwrap();
        let address = text.trim().rsplit(' ').next()?.parse::<SocketAddr>();
        address.ok()
    })
    .await;
    let _proxy = Forwarded {
        child,
        said,
        ports: vec![address],
    };
    let path = format!("api/v1/namespaces/default/pods/{pod}:8080/proxy/echo");
    let body = noise(1_000_000);
    let answer = reqwest::Client::new().post(format!("http://{address}/{path}"));
    let answer = answer.body(body.clone()).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{version:?}");
    assert!(answer.bytes().await.unwrap() == body, "{version:?}");
}
