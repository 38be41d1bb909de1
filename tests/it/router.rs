//! The router against workers that behave, and workers that do not.
#![expect(clippy::unwrap_used, reason = "a test's support may fail the test")]

mod world;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::world::{Behaviour, Pod, World, WorldOptions};

#[tokio::test(flavor = "multi_thread")]
async fn requests_reach_the_service_of_their_host() {
    let world = World::start(&[("web", &[Behaviour::Echo]), ("empty", &[])]).await;
    let response = world.get("web", "/a?b=c").await;
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    assert!(
        text.starts_with("GET /a?b=c from 127.0.0.1 host web.shop.localhost"),
        "{text}"
    );
    let cases = [
        (
            "empty.shop.localhost",
            503,
            "service shop/empty has no ready pod",
        ),
        ("gone.shop.localhost", 404, "there is no service shop/gone"),
        ("example.com", 404, "no Ingress matches host `example.com`"),
    ];
    for (host, status, reason) in cases {
        let response = world.get_host(host, "/").await;
        assert_eq!(response.status(), status, "{host}");
        let text = response.text().await.unwrap();
        assert!(text.contains(reason), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways() {
    let world = World::start(&[("web", &[Behaviour::EchoBody])]).await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8).collect();
    for _ in 0..3 {
        let response = world.post("web", body.clone()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.bytes().await.unwrap(), body);
    }
    let connections = world.pods[0].connections();
    assert!(connections <= 2, "each lane uses its connection again");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_are_served() {
    let world = World::start(&[("web", &[Behaviour::Echo])]).await;
    let stream = TokioIo::new(TcpStream::connect(world.http).await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut sender, connection) = handshake.await.unwrap();
    world.tasks.spawn_contained("h2", async move {
        let _ = connection.await;
    });
    let request = http::Request::get("http://web.shop.localhost/h2");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(
        body.starts_with(b"GET /h2 from 127.0.0.1 host web.shop"),
        "{body:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_costs_no_request() {
    let world = World::start(&[("web", &[Behaviour::Dead, Behaviour::Echo])]).await;
    for _ in 0..50 {
        assert_eq!(world.post("web", Vec::new()).await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_be_repeated_is_repeated() {
    let pods = [Behaviour::HangUp, Behaviour::HangUp, Behaviour::HangUp];
    let world = World::start(&[("web", &pods)]).await;
    let response = world.post("web", b"order".to_vec()).await;
    assert_eq!(response.status(), 502);
    let text = response.text().await.unwrap();
    assert!(
        text.contains("a pod of service shop/web broke off"),
        "{text}"
    );
    assert_eq!(world.seen(), 1, "a POST is sent once");
    assert_eq!(world.get("web", "/").await.status(), 502);
    assert!(world.seen() > 2, "a GET is tried elsewhere");

    let pods = [Behaviour::HangUp, Behaviour::Echo];
    let world = World::start(&[("web", &pods)]).await;
    for _ in 0..20 {
        assert_eq!(world.get("web", "/").await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_guest_has_seen_goes_elsewhere_whatever_its_method() {
    let pods = [Behaviour::TurnAway, Behaviour::EchoBody];
    let world = World::start(&[("web", &pods)]).await;
    for body in [b"".to_vec(), b"order".to_vec(), vec![b'x'; 10_000]] {
        for _ in 0..20 {
            let response = world.post("web", body.clone()).await;
            assert_eq!(response.status(), 200);
            assert!(!response.headers().contains_key("x-wasmorch-retriable"));
            assert_eq!(response.bytes().await.unwrap(), body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_behind_waits_for_the_newer_table() {
    let pods = [Behaviour::Gone, Behaviour::Gone, Behaviour::EchoBody];
    let world = World::start(&[("web", &pods)]).await;
    world.publish(&[("web", &[0, 1])]);
    let asked = world.post("web", b"order".to_vec());
    let news = async {
        world.pods[0].wait_until_seen().await;
        world.pods[1].wait_until_seen().await;
        world.publish(&[("web", &[2])]);
    };
    let (response, ()) = tokio::join!(asked, news);
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "order");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_waited_for_when_the_newer_table_names_nobody() {
    let world = World::start(&[("web", &[Behaviour::Gone])]).await;
    let asked = world.post("web", Vec::new());
    let news = async {
        world.pods[0].wait_until_seen().await;
        world.publish(&[("web", &[])]);
        std::time::Instant::now()
    };
    let (response, told) = tokio::join!(asked, news);
    assert_eq!(response.status(), 503);
    assert!(told.elapsed().as_millis() < 1500, "{:?}", told.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_busy_is_not_waited_for() {
    let world = World::start(&[("web", &[Behaviour::TurnAway])]).await;
    assert_eq!(world.post("web", Vec::new()).await.status(), 503);
    assert_eq!(world.seen(), 1);
    let world = World::start(&[("web", &[Behaviour::Gone])]).await;
    assert_eq!(world.post("web", Vec::new()).await.status(), 503);
    assert!(
        world.seen() > 3,
        "asked again for a while: {}",
        world.seen()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_do_not_multiply_the_load() {
    let pods = [Behaviour::HangUp, Behaviour::HangUp];
    let world = World::start(&[("web", &pods)]).await;
    for _ in 0..200 {
        assert_eq!(world.get("web", "/").await.status(), 502);
    }
    // A fifth more, and what the lanes may spend at the start.
    assert!(world.seen() <= 200 + 40 + 20 * 4, "{}", world.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_may_change_under_load_without_a_failure() {
    let pods = [
        Behaviour::Echo,
        Behaviour::Echo,
        Behaviour::Echo,
        Behaviour::Echo,
    ];
    let world = World::start(&[("web", &pods)]).await;
    let mut clients = Vec::new();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..8 {
        let (client, url) = (world.client(), world.url("web", "/"));
        let done = std::sync::Arc::clone(&done);
        clients.push(world.tasks.spawn("client", async move {
            let mut count = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) || count < 50 {
                let response = client.post(&url).body("x").send().await.unwrap();
                assert_eq!(response.status(), 200);
                count += 1;
            }
        }));
    }
    for round in 0..300 {
        let ready = [round % 4, (round + 1) % 4];
        world.publish(&[("web", &ready)]);
        tokio::task::yield_now().await;
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in clients {
        tokio::time::timeout(Duration::from_secs(30), client)
            .await
            .unwrap()
            .unwrap();
    }
    assert!(
        !world.tasks.cancelled().is_cancelled(),
        "no client has failed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn web_sockets_pass_through() {
    let world = World::start(&[("web", &[Behaviour::Upgrade])]).await;
    let mut stream = TcpStream::connect(world.http).await.unwrap();
    let request = "GET /chat HTTP/1.1\r\nHost: web.shop.localhost\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = world::read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: websocket"), "{head}");
    for word in ["hello", "again"] {
        stream.write_all(word.as_bytes()).await.unwrap();
        let mut echo = vec![0; word.len()];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, word.as_bytes());
    }
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"bye");
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_services_pass_through_on_node_ports() {
    let world = World::start(&[("db", &[Behaviour::Dead, Behaviour::RawEcho])]).await;
    let addr = world.node_port("db");
    for _ in 0..4 {
        let mut stream = world::connect(addr).await;
        stream.write_all(b"half").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"halfbye");
    }
    world.publish(&[]);
    world::refused(addr).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_services_are_proxied_on_node_ports() {
    let world = World::start(&[("web", &[Behaviour::Echo])]).await;
    let addr = world.node_port("web");
    world::connect(addr).await;
    let url = format!("http://{addr}/x");
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert!(text.starts_with("GET /x from 127.0.0.1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_cheat_or_dawdle_are_sent_away() {
    let options = WorldOptions {
        head_timeout: Duration::from_millis(100),
        ..WorldOptions::default()
    };
    let world = World::start_with(&[("web", &[Behaviour::Echo])], options).await;
    let host = "Host: web.shop.localhost\r\n";
    let cases = [
        (
            format!("GET / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            "400",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n"),
            "400",
        ),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), "400"),
        (
            format!("GET / HTTP/1.1\r\n{host}Bad Name: x\r\n\r\n"),
            "400",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(200)),
            "431",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "y".repeat(100_000)),
            "431",
        ),
        (
            format!("GET /{} HTTP/1.1\r\n{host}\r\n", "y".repeat(66_000)),
            "431",
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (format!("CONNECT web:80 HTTP/1.1\r\n{host}\r\n"), "405"),
    ];
    for (request, status) in cases {
        let mut stream = TcpStream::connect(world.http).await.unwrap();
        // The router may answer and close before it has read all.
        let _ = stream.write_all(request.as_bytes()).await;
        let head = world::read_head(&mut stream).await;
        let line = head.lines().next().unwrap_or_default().to_owned();
        let shown = &request[..request.len().min(120)];
        assert!(line.contains(status), "{line}: {shown}");
    }
    assert_eq!(world.seen(), 0, "none of them reached a pod");
    // Clients that never end their head; the last two do not even say which HTTP they speak.
    for begun in ["GET / HT", "PRI * HT", ""] {
        let mut slow = TcpStream::connect(world.http).await.unwrap();
        slow.write_all(begun.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest));
        closed.await.expect(begun).unwrap();
    }
}

/// Of a length and chunks the chunks count, as RFC 9112 says, and the connection ends with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_cannot_be_hidden_behind_a_length() {
    let world = World::start(&[("web", &[Behaviour::EchoBody])]).await;
    let length = "Content-Length: 3\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (number, ends) in [[length, chunked], [chunked, length]].iter().enumerate() {
        let host = "Host: web.shop.localhost\r\n";
        let hidden = format!("GET /hidden HTTP/1.1\r\n{host}\r\n");
        let request = format!(
            "POST / HTTP/1.1\r\n{host}{}\r\n0\r\n\r\n{hidden}",
            ends.concat()
        );
        let mut stream = TcpStream::connect(world.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        let closed =
            tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answers));
        // The router may close before it has read all.
        let _ = closed.await.expect("the connection to be closed");
        let answers = String::from_utf8_lossy(&answers);
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 1, "{answers}");
        assert_eq!(world.seen(), number + 1, "{ends:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_never_answers_is_given_up() {
    let options = WorldOptions {
        response_timeout: Duration::from_millis(100),
        ..WorldOptions::default()
    };
    let world = World::start_with(&[("web", &[Behaviour::Silent])], options).await;
    let response = world.get("web", "/").await;
    assert_eq!(response.status(), 504);
    world.pods[0].wait_until_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_request_along() {
    let world = World::start(&[("web", &[Behaviour::Silent])]).await;
    let mut stream = TcpStream::connect(world.http).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: web.shop.localhost\r\n\r\n")
        .await
        .unwrap();
    world.pods[0].wait_until_seen().await;
    drop(stream);
    world.pods[0].wait_until_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_tell_what_happened() {
    let world = World::start(&[("web", &[Behaviour::Echo]), ("empty", &[])]).await;
    for _ in 0..3 {
        world.get("web", "/").await;
    }
    world.get("empty", "/").await;
    let url = format!("http://{}/metrics", world.admin);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let lines = [
        "wasmorch_router_requests_total{namespace=\"shop\",service=\"web\",code=\"2xx\"} 3",
        "wasmorch_router_requests_total{namespace=\"shop\",service=\"empty\",code=\"5xx\"} 1",
        "wasmorch_router_request_seconds_count{namespace=\"shop\",service=\"web\"} 3",
        "wasmorch_router_ready_endpoints{namespace=\"shop\",service=\"web\"} 1",
    ];
    for line in lines {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_router_finishes_what_it_does() {
    let world = World::start(&[("web", &[Behaviour::Slow])]).await;
    let (client, url) = (world.client(), world.url("web", "/"));
    let request = world.tasks.child().spawn_contained("client", async move {
        let response = client.get(&url).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "done");
    });
    world.pods[0].wait_until_seen().await;
    world.router_tasks.cancel();
    world::refused(world.http).await;
    world.pods[0].release();
    request.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_without_a_server_serves_what_the_last_one_knew() {
    let directory = tempfile::tempdir().unwrap();
    let pod = Pod::start(Behaviour::Echo).await;
    world::write_routes(directory.path(), &pod);
    let options = WorldOptions {
        data_dir: Some(directory.path().to_owned()),
        publish: false,
        ..WorldOptions::default()
    };
    let world = World::start_with(&[], options).await;
    let response = world.get("web", "/kept").await;
    assert_eq!(response.status(), 200);
    let url = format!("http://{}/readyz", world.admin);
    assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
}
