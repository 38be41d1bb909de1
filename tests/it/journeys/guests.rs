//! The guest examples, as their READMEs say to run them: the module is pushed, the manifest beside the
//! source applied, and the answer looked at. Those that serve in Rust are `versions`' business, the shop
//! is the other journeys'.
//!
//! Those of C and AssemblyScript are committed. `WASMORCH_TEST_GUESTS` is the directory that
//! `tests/programs/guests` prints, with what it has built of the large ones.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::wait::await_condition;

use crate::cluster::{Cluster, example, guest_path, until};

/// Compiling forty megabytes takes a debug build a while.
const PATIENCE: Duration = Duration::from_mins(4);

/// What the large guests answer: a request's method, target and body, and the answer.
const LARGE: [(&str, &str, &[[&str; 4]]); 3] = [
    (
        "web-go",
        "web-go/web.yaml",
        &[
            [
                "GET",
                "/tea",
                "",
                "{\"path\":\"/tea\",\"platform\":\"wasip1/wasm\",\"requests\":",
            ],
            ["GET", "/motd", "", "served by Go\n"],
        ],
    ),
    (
        "hello-python",
        "hello-python/hello.yaml",
        &[
            [
                "GET",
                "/tea",
                "",
                "{\"hello\": \"from Python\", \"path\": \"/tea\"}\n",
            ],
            [
                "POST",
                "/",
                "[{\"price\": 2.50, \"count\": 3}]",
                "{\"total\": \"7.50\"}\n",
            ],
        ],
    ),
    (
        "hello-javascript",
        "hello-javascript/hello.yaml",
        &[
            [
                "GET",
                "/x?name=tea",
                "",
                "hello tea from JavaScript at /x\n",
            ],
            ["POST", "/", "a b a", "{\"a\":2,\"b\":1}"],
        ],
    ),
];

async fn ask(cluster: &Cluster, name: &str, method: &str, target: &str, body: &str) -> String {
    let client = reqwest::Client::new();
    let url = format!("http://{}{target}", cluster.ingress());
    let answer = client
        .request(method.parse().unwrap(), url)
        .header("host", format!("{name}.default.localhost"))
        .body(body.to_owned())
        .send()
        .await;
    match answer {
        Ok(answer) if answer.status().is_success() => answer.text().await.unwrap_or_default(),
        _ => String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_in_c_and_assemblyscript_run_as_their_readmes_say() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    for guest in ["counter-c", "primes-assemblyscript"] {
        cluster.push(guest, guest);
        assert!(guest_path(guest).metadata().unwrap().len() < 100 << 10);
    }
    cluster.apply(&example("primes-assemblyscript/primes.yaml"));
    cluster.apply(&example("counter-c/counter.yaml"));
    let printed = until("the primes", async || {
        let log = cluster.wasmorch(&["get", "pod", "primes", "-o", "jsonpath={.status.phase}"]);
        log.contains("Succeeded")
            .then(|| cluster.wasmorch(&["logs", "primes"]))
    })
    .await;
    let expected = "2 3 5 7 11 13 17 19 23 29 31 37 41 43 47\ncounted: 15 primes up to 50\n";
    assert_eq!(printed, expected);
    let first = until("the first visit", async || {
        let answer = ask(&cluster, "counter", "GET", "/", "").await;
        (!answer.is_empty()).then_some(answer)
    })
    .await;
    assert_eq!(first, "visit 1\n");
    for visit in 2..5 {
        let answer = ask(&cluster, "counter", "GET", "/", "").await;
        assert_eq!(answer, format!("visit {visit}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_in_rust_run_as_their_readmes_say() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    for guest in ["ledger-server", "ledger-client", "meter", "toolbox"] {
        cluster.push(guest, guest);
    }
    for manifest in [
        "ledger-server/ledger.yaml",
        "meter/meter.yaml",
        "toolbox/toolbox.yaml",
    ] {
        cluster.apply(&example(manifest));
    }
    for (what, logs, expected) in [
        (
            "the ledger",
            &["ledger", "-c", "client"][..],
            "is in the shared file (1 lines)\n",
        ),
        ("the meter", &["job/meter"], "read-4k 1048576"),
        ("the toolbox", &["toolbox"], "a\nb\none\ntwo\n"),
    ] {
        until(what, async || {
            cluster.logs(logs).contains(expected).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_in_go_python_and_javascript_run_as_their_readmes_say() {
    let Some(directory) = std::env::var_os("WASMORCH_TEST_GUESTS").map(PathBuf::from) else {
        assert!(std::env::var_os("CI").is_none(), "WASMORCH_TEST_GUESTS");
        eprintln!("skipped: WASMORCH_TEST_GUESTS is not set");
        return;
    };
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    let built = |name: &str| directory.join(format!("{name}.wasm"));
    for (name, manifest, _) in LARGE {
        let file = built(name);
        cluster.wasmorch(&["push", file.to_str().unwrap(), "--name", name]);
        cluster.apply(&example(manifest));
    }
    for (name, _, questions) in LARGE.iter().copied() {
        let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
        let ready = |pod: Option<&Pod>| pod.is_some_and(wasmorch::api::pod::is_ready);
        let compiled = Box::pin(await_condition(pods, name, ready));
        cluster.wait_within(PATIENCE, name, compiled).await.unwrap();
        for [method, target, body, expected] in questions {
            until(&format!("{name} to answer {target}"), async || {
                let answer = ask(&cluster, name, method, target, body).await;
                assert!(
                    answer.is_empty() || answer.starts_with(expected),
                    "{name}: {answer}"
                );
                (!answer.is_empty()).then_some(())
            })
            .await;
        }
    }
}
