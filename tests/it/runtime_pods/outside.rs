//! The way out of the cluster: sockets, datagrams, `http` and `https`, for a pod that has it and for one
//! that has not. Servers of this machine stand in for the outside.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, rustls};
use wasmorch::runtime::PodSandbox;
use wasmorch::runtime::net::{Error, Family, Incarnation, UdpSocket};
use wasmorch::tasks::TaskGroup;

use super::bench::{Bench, container, pod_spec, run, within};
use super::calls::{ONCE, caller};

/// Somebody in the world, by an address that is for documentation.
const SERVER: &str = "198.51.100.1";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nout\n";

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER.parse().unwrap(), port)
}

/// The outside, and who vouches for its server.
struct Outside {
    stand_ins: Vec<(SocketAddr, SocketAddr)>,
    authority: rustls_pki_types::CertificateDer<'static>,
    _tasks: TaskGroup,
}

impl Outside {
    async fn new() -> Self {
        let tasks = TaskGroup::new();
        let key = rcgen::generate_simple_self_signed([SERVER.to_owned()]).unwrap();
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let secure = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let datagrams = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stand_ins = vec![
            (at(80), plain.local_addr().unwrap()),
            (at(443), secure.local_addr().unwrap()),
            (at(53), datagrams.local_addr().unwrap()),
        ];
        let acceptor = acceptor(&key);
        tasks.spawn("http", async move {
            loop {
                answer(plain.accept().await.unwrap().0).await;
            }
        });
        tasks.spawn("https", async move {
            loop {
                let (stream, _) = secure.accept().await.unwrap();
                // Who does not trust the certificate goes.
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            }
        });
        tasks.spawn("datagrams", async move {
            let mut buffer = [0; 100];
            loop {
                let (length, from) = datagrams.recv_from(&mut buffer).await.unwrap();
                buffer[..length].reverse();
                datagrams.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        Self {
            stand_ins,
            authority: key.cert.der().clone(),
            _tasks: tasks,
        }
    }

    fn bench(&self, trusts: bool) -> Bench {
        Bench::tuned(|tuning| {
            tuning.stand_ins.clone_from(&self.stand_ins);
            tuning
                .extra_authorities
                .extend(trusts.then(|| self.authority.clone()));
        })
    }
}

fn acceptor(key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> TlsAcceptor {
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.unwrap());
    Arc::new(config.unwrap()).into()
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    // A client may have gone.
    let _ = stream.write_all(ANSWER).await;
    let _ = stream.shutdown().await;
}

fn pod(bench: &Bench, ip: &str, egress: bool) -> Arc<PodSandbox> {
    let mut spec = pod_spec(ip);
    spec.egress = egress;
    bench.runtime.create_sandbox(spec).unwrap()
}

/// How a call of the server by `wasi:http` ends.
async fn call(bench: &Bench, pod: &PodSandbox, is_secure: bool) -> i32 {
    let program = bench.wat(&caller(is_secure, SERVER, ONCE)).await;
    run(pod, container("app", &[]), &program).await.0.code
}

/// What the server makes of a datagram.
async fn ask(pod: &PodSandbox, to: SocketAddr) -> Result<Vec<u8>, Error> {
    let incarnation = Incarnation::new();
    let mut socket = UdpSocket::new(pod.net(), incarnation.owner(), Family::V4)?;
    socket.send(b"abc".to_vec(), Some(to))?;
    within(poll_fn(|cx| socket.poll_receivable(cx))).await;
    Ok(socket.receive()?.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_a_way_out_reaches_the_outside_and_one_without_does_not() {
    let outside = Outside::new().await;
    let bench = outside.bench(true);
    let toolbox = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/guest-examples/prebuilt/toolbox.wasm"
    );
    let toolbox = bench.load(&std::fs::read(toolbox).unwrap()).await.unwrap();
    for (ip, egress) in [("10.64.0.1", true), ("10.64.0.2", false)] {
        let pod = pod(&bench, ip, egress);
        let refused = i32::from(!egress);
        let socket = container("http", &["198.51.100.1/"]);
        let (exit, log) = run(&pod, socket, &toolbox).await;
        assert_eq!(exit.code, refused, "{egress}: {}", log.text());
        assert_eq!(log.text() == "out\n", egress, "{}", log.text());
        for is_secure in [false, true] {
            let code = call(&bench, &pod, is_secure).await;
            assert_eq!(code, refused, "{egress}, secure: {is_secure}");
        }
        let expected = if egress {
            Ok(b"cba".to_vec())
        } else {
            Err(Error::AccessDenied)
        };
        assert_eq!(ask(&pod, at(53)).await, expected);
        let metadata = "169.254.169.254:53".parse().unwrap();
        assert_eq!(ask(&pod, metadata).await, Err(Error::AccessDenied));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_vouches_for_is_not_spoken_to() {
    let outside = Outside::new().await;
    let bench = outside.bench(false);
    let pod = pod(&bench, "10.64.0.1", true);
    assert_eq!(call(&bench, &pod, false).await, 0);
    assert_eq!(call(&bench, &pod, true).await, 1);
}
