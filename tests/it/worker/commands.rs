//! Commands beside containers: `exec`, `attach`, `debug`, and what bounds them.

use base64::Engine as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::harness::{World, is_ready, phase};
use super::remote::{Remote, exec};

async fn with_hello() -> (World, super::harness::Running) {
    let world = World::start().await;
    let worker = world.worker("w").await;
    world.push_hello().await;
    world
        .create(
            "p",
            json!({"terminationGracePeriodSeconds": 1, "containers": [
                {"name": "main", "image": "hello", "ports": [{"containerPort": 8080}],
                 "env": [{"name": "COLOUR", "value": "blue"}]}]}),
        )
        .await;
    world.until("p", is_ready).await;
    (world, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_in_the_pods_files_and_network() {
    let (world, worker) = with_hello().await;
    let world = &world;
    // As `kubectl cp --retries` asks for the rest of a file.
    let tail = "echo -n abcdef > /tmp/t; tail -c+3 /tmp/t; echo; echo a > /tmp/l; echo b >> /tmp/l; tail -n +2 /tmp/l";
    let done = exec(world, "p", &["sh", "-c", tail]).await;
    assert_eq!(done.stdout, "cdef\nb\n", "{done:?}");
    let done = exec(world, "p", &["echo", "hello", "pod"]).await;
    assert_eq!((done.stdout.as_str(), done.code()), ("hello pod\n", 0));
    let done = exec(world, "p", &["sh", "-c", "echo kept > /tmp/x; exit 3"]).await;
    assert_eq!(done.code(), 3, "{done:?}");
    let done = exec(world, "p", &["/bin/cat", "/tmp/x"]).await;
    assert_eq!(done.stdout, "kept\n", "files are the pod's");
    for url in ["localhost:8080/", "127.0.0.1:8080/", "http://[::1]:8080/"] {
        let done = exec(world, "p", &["http", url]).await;
        assert_eq!(done.code(), 0, "{url}: {done:?}");
    }
    let done = exec(world, "p", &["nc", "-z", "::1", "8080"]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let done = exec(world, "p", &["netstat"]).await;
    assert!(done.stdout.contains(":8080"), "{done:?}");
    let done = exec(world, "p", &["printenv", "COLOUR"]).await;
    assert_eq!(done.stdout, "blue\n", "its variables are the container's");
    let done = exec(world, "p", &["ps"]).await;
    assert!(done.stdout.contains("main"), "{done:?}");
    let done = exec(world, "p", &["cat", "/none"]).await;
    assert!(
        done.stderr.contains("/none") && done.code() == 1,
        "{done:?}"
    );
    let done = exec(world, "p", &["frobnicate"]).await;
    assert_eq!(done.code(), 127, "{done:?}");
    let done = exec(world, "p", &["hello"]).await;
    assert_eq!(done.status["status"], "Failure", "a handler is no command");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wasm_file_of_the_pod_can_be_run() {
    let (world, worker) = with_hello().await;
    let wasm = super::harness::prints_and_exits(7);
    let query = [
        ("command", "tee"),
        ("command", "/tmp/tool.wasm"),
        ("stdin", "true"),
    ];
    let mut remote = Remote::open(&world, "p", "exec", &query).await.unwrap();
    remote.send_bytes(&wasm).await;
    remote.end_input().await;
    assert_eq!(remote.finish().await.code(), 0);
    let done = exec(&world, "p", &["/tmp/tool.wasm"]).await;
    assert_eq!((done.stdout.as_str(), done.code()), ("hello\n", 7));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_is_passed_on_and_its_end_too() {
    let (world, worker) = with_hello().await;
    let query = [("command", "cat"), ("stdin", "true"), ("stdout", "true")];
    let mut remote = Remote::open(&world, "p", "exec", &query).await.unwrap();
    remote.send("one\n").await;
    remote.until("one\n").await;
    // Several frames, and no more than the connection holds: nobody reads while this is sent.
    let large = "x".repeat(60_000);
    remote.send(&large).await;
    remote.end_input().await;
    let done = remote.finish().await;
    assert_eq!((done.stdout.len(), done.code()), (large.len(), 0));
    let query = [
        ("command", "sh"),
        ("stdin", "true"),
        ("stdout", "true"),
        ("tty", "true"),
    ];
    let mut remote = Remote::open(&world, "p", "exec", &query).await.unwrap();
    remote.until("$ ").await;
    remote.send("echo hxx\x7f\x7fi\r").await;
    assert!(remote.until("\r\nhi\r\n").await.starts_with("echo h"));
    remote.send("\x03").await;
    assert_eq!(remote.finish().await.code(), 130, "interrupted");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_stdin_reads_its_end_and_one_with_it_what_is_sent() {
    let (world, worker) = with_hello().await;
    let cat = |has_stdin: bool| {
        let cat = json!({"name": "main", "image": "toolbox", "command": ["cat"],
            "stdin": has_stdin, "stdinOnce": has_stdin});
        json!({"restartPolicy": "Never", "containers": [cat]})
    };
    world.create("without", cat(false)).await;
    world
        .until("without", |pod| phase(pod) == "Succeeded")
        .await;
    world.create("with", cat(true)).await;
    world.until("with", is_ready).await;
    let query = [("stdin", "true"), ("stdout", "true")];
    let mut remote = Remote::open(&world, "with", "attach", &query)
        .await
        .unwrap();
    remote.send("hello\n").await;
    remote.until("hello\n").await;
    remote.end_input().await;
    world.until("with", |pod| phase(pod) == "Succeeded").await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_protocols_are_spoken_too() {
    let (world, worker) = with_hello().await;
    let words = "command terminated with non-zero exit code: exit status 3";
    let text = |digit: char, text: &str| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        Message::Text(format!("{digit}{encoded}").into())
    };
    let binary =
        |channel: u8, text: &str| Message::Binary([&[channel], text.as_bytes()].concat().into());
    let (said, failure) = (text('1', "hi\n"), text('3', words));
    let query = [
        ("command", "sh"),
        ("command", "-c"),
        ("command", "echo hi; exit 3"),
        ("stdout", "1"),
    ];
    for (protocol, expected) in [
        ("base64.channel.k8s.io", [said, failure]),
        ("channel.k8s.io", [binary(1, "hi\n"), binary(3, words)]),
        ("", [binary(1, "hi\n"), binary(3, words)]),
    ] {
        let offer = ("websocket", protocol);
        let opened = Remote::offering(&world, "p", "exec", &query, offer).await;
        assert_eq!(opened.unwrap().messages().await, expected, "{protocol}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_before_the_upgrade() {
    let (world, worker) = with_hello().await;
    let command = ("command", "true");
    let refused = async |pod: &str, what: &str, query: &[(&str, &str)]| {
        let opened = Remote::open(&world, pod, what, query).await;
        opened.err().unwrap()
    };
    let (status, text) = refused("p", "exec", &[command, ("container", "x")]).await;
    assert!(
        status == 400 && text.contains("container x is not valid"),
        "{text}"
    );
    assert_eq!(refused("none", "exec", &[command]).await.0, 404);
    assert_eq!(refused("p", "exec", &[]).await.0, 400);
    let (status, text) = refused("p", "attach", &[("stdin", "true")]).await;
    assert!(status == 400 && text.contains("stdin"), "{text}");
    for (offer, word) in [
        (("SPDY/3.1", ""), "X-Stream-Protocol-Version"),
        (("SPDY/2", ""), "SPDY/3.1"),
        (("websocket", "v9.channel.k8s.io"), "v4.channel.k8s.io"),
    ] {
        let opened = Remote::offering(&world, "p", "exec", &[command], offer).await;
        let (status, text) = opened.err().unwrap();
        assert!(status == 400 && text.contains(word), "{text}");
    }
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_bounded_and_end_with_their_client_and_their_pod() {
    let (world, worker) = with_hello().await;
    let query = [
        ("command", "sh"),
        ("command", "-c"),
        // It reads what never comes; `sleep` would end by itself when the pod is asked to stop.
        ("command", "echo up; cat"),
        ("stdin", "true"),
        ("stdout", "true"),
    ];
    let mut running = Vec::new();
    for _ in 0..16 {
        let mut remote = Remote::open(&world, "p", "exec", &query).await.unwrap();
        remote.until("up").await;
        running.push(remote);
    }
    let done = exec(&world, "p", &["true"]).await;
    let message = done.status["message"].as_str().unwrap();
    assert!(message.contains("16 commands"), "{message}");
    running.truncate(1);
    super::harness::within(async {
        while exec(&world, "p", &["true"]).await.status["status"] != "Success" {}
    })
    .await;
    world.delete("p").await;
    let last = running.pop().unwrap().finish().await;
    assert_eq!(last.code(), 137, "{last:?}");
    world.until_gone("p").await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debug_container_joins_is_attached_to_and_tells_its_end() {
    let (world, worker) = with_hello().await;
    let patch = json!({"spec": {"ephemeralContainers": [
        {"name": "debugger", "image": "toolbox", "stdin": true, "targetContainerName": "main"}]}});
    let patched: Pod = world
        .pods()
        .patch_subresource(
            "ephemeralcontainers",
            "p",
            &PatchParams::default(),
            &Patch::Strategic(&patch),
        )
        .await
        .unwrap();
    assert!(patched.spec.unwrap().ephemeral_containers.is_some());
    let state = |pod: &Pod| {
        let statuses = pod.status.as_ref()?.ephemeral_container_statuses.as_ref()?;
        statuses.first()?.state.clone()
    };
    world
        .until("p", |pod| {
            state(pod).is_some_and(|state| state.running.is_some())
        })
        .await;
    let query = [
        ("container", "debugger"),
        ("stdin", "true"),
        ("stdout", "true"),
    ];
    let mut remote = Remote::open(&world, "p", "attach", &query).await.unwrap();
    remote
        .send("http localhost:8080/ > /tmp/answer && echo reached\n")
        .await;
    remote.until("reached\n").await;
    remote.send("exit 4\n").await;
    assert_eq!(remote.finish().await.code(), 4);
    let pod = world
        .until("p", |pod| {
            state(pod).is_some_and(|state| state.terminated.is_some())
        })
        .await;
    assert_eq!(state(&pod).unwrap().terminated.unwrap().exit_code, 4);
    assert!(is_ready(&pod), "it decides nothing");
    // It stays, and so does what it was.
    let refused: Result<Pod, _> = world
        .pods()
        .patch_subresource(
            "ephemeralcontainers",
            "p",
            &PatchParams::default(),
            &Patch::Merge(&json!({"spec": {"ephemeralContainers": []}})),
        )
        .await;
    assert!(refused.is_err());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_commands_is_the_pods() {
    let world = World::start().await;
    let worker = world.worker("w").await;
    world
        .create(
            "p",
            json!({"terminationGracePeriodSeconds": 1, "containers": [
                {"name": "main", "image": "toolbox", "command": ["sleep", "infinity"],
                 "resources": {"limits": {"memory": "16Mi"}}}]}),
        )
        .await;
    world.until("p", |pod| phase(pod) == "Running").await;
    let hog = "echo x > /tmp/a; tail -c 40000000 /proc/none; head -c 1 /tmp/a";
    let done = exec(&world, "p", &["sh", "-c", hog]).await;
    assert_eq!(done.code(), 0, "{done:?}");
    let grow = "echo 0123456789abcdef > /tmp/a; cat /tmp/a /tmp/a /tmp/a /tmp/a > /tmp/b; ";
    let doubled =
        "cat /tmp/b /tmp/b /tmp/b /tmp/b > /tmp/a; cat /tmp/a /tmp/a /tmp/a /tmp/a > /tmp/b; ";
    let script = format!("{grow}{}cat /tmp/b | wc -c", doubled.repeat(8));
    let done = exec(&world, "p", &["sh", "-c", &script]).await;
    let told = format!("{}{}", done.stdout, done.stderr);
    assert!(
        done.code() == 137 || told.contains("space") || told.contains("memory"),
        "{done:?}"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_is_kept_open_outlives_its_clients() {
    let (world, worker) = with_hello().await;
    let cat = json!({"name": "main", "image": "toolbox", "command": ["cat"], "stdin": true});
    let spec = json!({"restartPolicy": "Never", "containers": [cat]});
    world.create("kept", spec).await;
    world.until("kept", is_ready).await;
    let query = [("stdin", "true"), ("stdout", "true")];
    for said in ["one\n", "two\n"] {
        let mut remote = Remote::open(&world, "kept", "attach", &query)
            .await
            .unwrap();
        remote.send(said).await;
        remote.until(said).await;
        remote.end_input().await;
        assert_eq!(remote.finish().await.code(), 0);
    }
    worker.stop().await;
}
