//! Programs that run: how they end, what holds them, what they share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wasmorch::runtime::Error;
use wasmorch::runtime::net::Incarnation;
use wasmorch::runtime::spec::{ExitReason, PortSpec, Protocol};

use super::bench::{Bench, Log, container, ended, run, until, within};
use super::guests::{ECHO_SERVER, HELLO, HOG, READ, SPIN, WRITE, command, core};

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_program_has_its_code_and_reason() {
    let bench = Bench::new();
    let pod = bench.pod("10.64.0.1");
    let cases = [
        (command("(i32.const 0)"), 0, ExitReason::Completed),
        (command("(i32.const 1)"), 1, ExitReason::Error),
        (command("unreachable"), 134, ExitReason::Error),
        (core(HELLO), 0, ExitReason::Completed),
        (core("(call $exit (i32.const 42))"), 42, ExitReason::Error),
        (core("unreachable"), 134, ExitReason::Error),
        (
            core("(call $yield) drop (call $exit (i32.const 0))"),
            0,
            ExitReason::Completed,
        ),
    ];
    for (text, code, reason) in cases {
        let program = bench.wat(&text).await;
        let (exit, log) = run(&pod, container("app", &[]), &program).await;
        assert_eq!((exit.code, exit.reason), (code, reason), "{exit:?} {text}");
        assert_eq!(
            code == 134,
            exit.message.contains("unreachable"),
            "{exit:?}"
        );
        assert!(log.is_closed());
    }
    let (_, log) = run(&pod, container("app", &[]), &bench.wat(&core(HELLO)).await).await;
    assert_eq!(log.text(), "hello\n");
    assert_eq!(bench.runtime.instances(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_more_memory_than_allowed_is_oom_killed_with_the_numbers() {
    let bench = Bench::new();
    let pod = bench.pod("10.64.0.1");
    for text in [
        command(HOG),
        core(&HOG.replace("unreachable", "(call $exit (i32.const 2))")),
    ] {
        let program = bench.wat(&text).await;
        let mut spec = container("app", &[]);
        spec.memory_bytes = Some(16 << 20);
        let (exit, _) = run(&pod, spec, &program).await;
        assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled));
        assert!(exit.message.starts_with("memory limit 16Mi: 1"), "{exit:?}");
        // The pod's own limit, which no container raises.
        let mut spec = container("app", &[]);
        spec.memory_bytes = Some(1 << 40);
        let (exit, _) = run(&pod, spec, &program).await;
        assert!(exit.message.starts_with("memory limit 256Mi: "), "{exit:?}");
    }
    let stats = &pod.stats().containers[0].1;
    assert_eq!(
        stats.memory_bytes, 0,
        "a dropped store gives its memory back"
    );
    assert!(stats.memory_peak_bytes > 200 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spinning_program_is_killed_at_once_and_its_neighbour_runs() {
    let bench = Bench::tuned(|tuning| tuning.guest_threads = 1);
    let pod = bench.pod("10.64.0.1");
    let spin = bench.wat(&command(SPIN)).await;
    let log = Arc::new(Log::default());
    let mut spinning = Vec::new();
    for name in ["a", "b", "c"] {
        let spec = container(name, &[]);
        let container = pod
            .start(spec, Arc::clone(&spin), Arc::clone(&log) as _)
            .unwrap();
        spinning.push(container);
    }
    let again = pod.start(
        container("a", &[]),
        Arc::clone(&spin),
        Arc::clone(&log) as _,
    );
    assert!(matches!(again, Err(Error::AlreadyRuns(name)) if name == "a"));
    // One thread, three programs that never wait: the fourth still gets its turn.
    let hello = bench.wat(&core(HELLO)).await;
    let (exit, _) = run(&pod, container("d", &[]), &hello).await;
    assert_eq!(exit.code, 0);
    for container in &spinning {
        until("has used CPU", || {
            container.stats().cpu > Duration::from_millis(10)
        })
        .await;
        container.stop();
        container.kill();
        let exit = ended(container).await;
        assert_eq!((exit.code, exit.reason), (137, ExitReason::Killed));
    }
    // Restarted under the same name, in a fresh store.
    let spec = container("a", &[]);
    let container = pod.start(spec, spin, log).unwrap();
    container.kill();
    assert_eq!(ended(&container).await.reason, ExitReason::Killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cpu_limit_holds() {
    let bench = Bench::new();
    let pod = bench.pod("10.64.0.1");
    let spin = bench.wat(&command(SPIN)).await;
    let mut spec = container("app", &[]);
    spec.cpu_limit_millis = Some(100);
    let log = Arc::new(Log::default());
    let begun = Instant::now();
    let container = pod.start(spec, spin, log).unwrap();
    // Computing without pause it passes a tenth of a core sooner or later.
    let throttled = || container.stats().throttled > Duration::from_millis(200);
    until("has been throttled", throttled).await;
    let (stats, elapsed) = (container.stats(), begun.elapsed());
    container.kill();
    ended(&container).await;
    // Its tenth, the burst, and a tick that came late.
    let allowed = elapsed / 10 + Duration::from_millis(10 + 100);
    assert!(stats.cpu < allowed, "{stats:?} in {elapsed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_containers_of_a_pod_share_its_files_and_another_pod_does_not() {
    let bench = Bench::new();
    let (pod, other) = (bench.pod("10.64.0.1"), bench.pod("10.64.0.2"));
    let (write, read) = (bench.wat(&core(WRITE)).await, bench.wat(&core(READ)).await);
    let reading = run(&pod, container("reader", &[]), &read);
    let writing = run(&pod, container("writer", &[]), &write);
    let ((read_exit, log), (write_exit, _)) = tokio::join!(reading, writing);
    assert_eq!((read_exit.code, write_exit.code), (0, 0));
    assert_eq!(log.text(), "hello\n");
    assert_eq!(pod.read_file("/tmp/shared", 100).unwrap(), b"hello\n");
    assert!(other.read_file("/tmp/shared", 100).is_err());
    assert!(pod.stats().storage_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_bind_the_same_port_and_do_not_see_each_others_loopback() {
    let bench = Bench::new();
    let (first, second, third) = (
        bench.pod("10.64.0.1"),
        bench.pod("10.64.0.2"),
        bench.pod("10.64.0.3"),
    );
    let server = bench.wat(ECHO_SERVER).await;
    let mut spec = container("server", &[]);
    spec.ports = vec![PortSpec {
        port: 8080,
        protocol: Protocol::Tcp,
    }];
    let log = Arc::new(Log::default());
    let mut servers = Vec::new();
    for pod in [&first, &second] {
        let container = pod.start(spec.clone(), Arc::clone(&server), Arc::clone(&log) as _);
        servers.push(container.unwrap());
    }
    let mut twice = spec.clone();
    twice.name = "twice".to_owned();
    let refused = first.start(twice, Arc::clone(&server), Arc::clone(&log) as _);
    assert!(matches!(refused, Err(Error::Net(_))));

    // Another container of the same pod, by the host's hand.
    let incarnation = Incarnation::new();
    // What a name that is both families' stands for answers in both.
    for loopback in ["127.0.0.1:8080", "[::1]:8080"] {
        let loopback = loopback.parse().unwrap();
        let connect = |pod: &Arc<wasmorch::runtime::PodSandbox>| {
            pod.net().connect(incarnation.owner(), loopback)
        };
        let mut conn = within(connect(&first)).await.unwrap();
        conn.write_all(b"ping").await.unwrap();
        let mut answer = Vec::new();
        within(conn.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer, b"ping", "{loopback}");
        assert!(within(connect(&third)).await.is_err());
    }
    assert!(third.dial(8080).is_err() && third.listening().is_empty());
    assert!(second.dial(8080).is_ok());

    // A killed server's port is free before its exit is told.
    servers[0].kill();
    ended(&servers[0]).await;
    assert!(first.dial(8080).is_err() && first.listening().is_empty());
    first.start(spec, server, log).unwrap();
    assert!(first.dial(8080).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_sandbox_has_ended_its_containers_and_given_its_address_back() {
    let bench = Bench::new();
    let pod = bench.pod("10.64.0.1");
    let spin = bench.wat(&command(SPIN)).await;
    let log = Arc::new(Log::default());
    let running = pod
        .start(
            container("app", &[]),
            Arc::clone(&spin),
            Arc::clone(&log) as _,
        )
        .unwrap();
    assert!(
        bench
            .runtime
            .create_sandbox(super::bench::pod_spec("10.64.0.1"))
            .is_err()
    );
    assert!(
        bench
            .runtime
            .sandbox_at("10.64.0.1".parse().unwrap())
            .is_some()
    );
    within(pod.close()).await;
    assert_eq!(running.exit().unwrap().reason, ExitReason::Killed);
    assert!(
        bench
            .runtime
            .sandbox_at("10.64.0.1".parse().unwrap())
            .is_none()
    );
    let late = pod.start(container("late", &[]), spin, log);
    assert!(matches!(late, Err(Error::Closed)));
    drop(pod);
    bench.pod("10.64.0.1");
}
