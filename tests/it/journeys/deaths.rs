//! `kill -9` of each process of a cluster under load: who notices, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;

use super::{run_hello, with_hello};
use crate::cluster::{Cluster, Load, PATIENCE, until};

const HELLO: &str = "hello.default.localhost";

fn is_ready(pod: &Pod) -> bool {
    wasmorch::api::pod::is_ready(pod) && pod.metadata.deletion_timestamp.is_none()
}

fn node(pod: &Pod) -> &str {
    wasmorch::api::pod::node_name(pod).unwrap_or_default()
}

fn uids(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter()
        .map(|pod| pod.metadata.uid.clone().unwrap())
        .collect()
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().unwrap().container_statuses.as_ref();
    statuses.unwrap().iter().map(|it| it.restart_count).sum()
}

/// A worker that stays dead. Those who only read notice nothing; of those who write only they can
/// fail whose request was on its way to that worker, one for each connection to each of its pods.
#[tokio::test(flavor = "multi_thread")]
async fn the_pods_of_a_dead_worker_run_elsewhere_within_seconds() {
    const WRITERS: usize = 4;
    let cluster = Cluster::start(&["--nodes", "2"]).await;
    let spare = cluster.worker("spare").await;
    run_hello(&cluster, 6).await;
    let before = cluster.pods("app=hello").await;
    let lost = before.iter().filter(|pod| node(pod) == "spare").count();
    assert_eq!(lost, 2, "replicas are spread");
    let reads = Load::start(cluster.ingress(), HELLO, 8);
    let writes = Load::of(Method::POST, cluster.ingress(), (HELLO, "/echo"), WRITERS);
    reads.serve(200).await;
    writes.serve(100).await;
    spare.kill();
    let since = Instant::now();
    until("six ready pods elsewhere", async || {
        let pods = cluster.pods("app=hello").await;
        let ready = pods
            .iter()
            .filter(|pod| is_ready(pod) && node(pod) != "spare");
        (ready.count() == 6).then_some(())
    })
    .await;
    let took = since.elapsed();
    eprintln!("{lost} pods of a killed worker were ready elsewhere after {took:.2?}");
    reads.serve(300).await;
    writes.serve(100).await;
    let read = reads.stop_without_failures().await;
    let (written, failures) = writes.stop().await;
    eprintln!(
        "{read} reads without a failure; {written} writes, {} failed",
        failures.len()
    );
    assert!(failures.len() <= WRITERS * lost, "{failures:?}");
}

/// A node that is silent for longer than its lease and then speaks again. The pod tolerates that and has
/// run all the time; what was said of it meanwhile does not stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_ready_again_when_its_silent_node_speaks_again() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    cluster.push("hello-http", "hello");
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let pod = json!({
        "metadata": {"name": "loyal", "labels": {"app": "loyal"}},
        "spec": {
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": "hello", "ports": [{"containerPort": 8080}]}],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let ready = async |what: &str, wanted: bool| {
        until(what, async || {
            let pod = pods.get("loyal").await.unwrap();
            (is_ready(&pod) == wanted).then_some(pod)
        })
        .await
    };
    let before = ready("the pod to be ready", true).await;
    cluster.signal_to("dev-1", Signal::STOP);
    ready("the pod to be given up", false).await;
    cluster.signal_to("dev-1", Signal::CONT);
    let after = ready("the pod to be ready again", true).await;
    assert_eq!(uids(std::slice::from_ref(&after)), uids(&[before]));
    assert_eq!(restarts(&after), 0);
}

/// `dev` starts a dead worker again; it goes on with the same pods.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_keeps_its_pods() {
    let cluster = with_hello(6).await;
    let before = cluster.pods("app=hello").await;
    let load = Load::start(cluster.ingress(), HELLO, 8);
    load.serve(200).await;
    let victim = node(&before[0]).to_owned();
    let killed = cluster.pid(&victim);
    cluster.kill(&victim);
    cluster.wait_for_restart(&victim, killed).await;
    let after = until(
        "all pods ready, and those of the victim restarted",
        async || {
            let pods = cluster.pods("app=hello").await;
            let is_back =
                |pod: &Pod| is_ready(pod) && restarts(pod) == i32::from(node(pod) == victim);
            (pods.len() == 6 && pods.iter().all(is_back)).then_some(pods)
        },
    )
    .await;
    load.serve(300).await;
    load.stop_without_failures().await;
    assert_eq!(uids(&after), uids(&before), "none lost, none doubled");
    let said = cluster.said();
    assert!(said.contains(&format!("{victim} died")), "{said}");
    assert!(said.contains(&format!("{victim} is back")), "{said}");
}

/// Calls from guest to guest are as safe as those from outside.
#[tokio::test(flavor = "multi_thread")]
async fn services_that_call_each_other_go_on_when_a_worker_dies() {
    let cluster = Cluster::start(&["--demo"]).await;
    let load = Load::of(Method::GET, cluster.ingress(), ("127.0.0.1", "/catalog"), 8);
    load.serve(100).await;
    for victim in ["dev-1", "dev-2"] {
        let killed = cluster.pid(victim);
        cluster.kill(victim);
        load.serve(200).await;
        cluster.wait_for_restart(victim, killed).await;
        until("everything to be ready again", async || {
            cluster.pods("").await.iter().all(is_ready).then_some(())
        })
        .await;
        load.serve(100).await;
    }
    load.stop_without_failures().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_router_comes_back_and_serves() {
    let cluster = with_hello(2).await;
    let killed = cluster.pid("router");
    cluster.kill("router");
    let since = Instant::now();
    until("an answer through the next router", async || {
        (cluster.get(HELLO, "/").await.0 == 200).then_some(())
    })
    .await;
    eprintln!("a killed router served again after {:.2?}", since.elapsed());
    cluster.wait_for_restart("router", killed).await;
    let said = cluster.said();
    assert!(
        said.contains("router died") && said.contains("router is back"),
        "{said}"
    );
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

fn revision(map: &ConfigMap) -> u64 {
    let version = map.metadata.resource_version.as_ref();
    version.unwrap().parse().unwrap()
}

/// What the API has acknowledged, by name.
type Acknowledged = Arc<Mutex<BTreeMap<String, u64>>>;

/// Creates as fast as it is answered, until it is not.
async fn write(api: Api<ConfigMap>, numbers: Arc<AtomicU64>, acknowledged: Acknowledged) {
    loop {
        let name = format!("kept-{}", numbers.fetch_add(1, Ordering::Relaxed));
        match api.create(&PostParams::default(), &map(&name)).await {
            Ok(created) => {
                let revision = revision(&created);
                acknowledged.lock().unwrap().insert(name, revision);
            }
            Err(_) => return,
        }
    }
}

/// Follows a watch until it has brought this object; it must go on from where it was.
async fn until_seen(
    events: &mut (impl Stream<Item = watcher::Result<watcher::Event<ConfigMap>>> + Unpin),
    wanted: &str,
) {
    loop {
        match events.next().await.unwrap() {
            Ok(watcher::Event::Apply(map)) if map.metadata.name.as_deref() == Some(wanted) => {
                return;
            }
            Ok(watcher::Event::Init) => panic!("the watch began anew instead of going on"),
            // The server is away.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Nobody who uses a service notices; nothing that was acknowledged is lost, not even what was
/// acknowledged in the last moment; revisions and watches go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_not_missed_and_forgets_nothing() {
    let cluster = with_hello(3).await;
    let api: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let reads = Load::start(cluster.ingress(), HELLO, 6);
    let writes = Load::of(Method::POST, cluster.ingress(), (HELLO, "/echo"), 3);
    let events = watcher(api.clone(), watcher::Config::default()).default_backoff();
    let mut events = Box::pin(events);
    while !matches!(events.next().await, Some(Ok(watcher::Event::InitDone))) {}
    let (numbers, acknowledged) = (Arc::default(), Acknowledged::default());
    for round in 0..2 {
        let writing =
            (0..8).map(|_| write(api.clone(), Arc::clone(&numbers), Arc::clone(&acknowledged)));
        let killing = async {
            let wanted = acknowledged.lock().unwrap().len() + 60;
            until("objects to be written", async || {
                (acknowledged.lock().unwrap().len() >= wanted).then_some(())
            })
            .await;
            let killed = cluster.pid("server");
            cluster.kill("server");
            killed
        };
        let (killed, _) = tokio::join!(killing, futures::future::join_all(writing));
        reads.serve(200).await;
        cluster.wait_for_restart("server", killed).await;
        let listed = until("the API to answer again", async || {
            api.list(&ListParams::default()).await.ok()
        })
        .await;
        let listed: BTreeMap<String, u64> = listed
            .iter()
            .map(|map| (map.metadata.name.clone().unwrap(), revision(map)))
            .collect();
        let newest = {
            let acknowledged = acknowledged.lock().unwrap();
            for (name, revision) in acknowledged.iter() {
                assert_eq!(listed.get(name), Some(revision), "{name}");
            }
            acknowledged.values().copied().max().unwrap()
        };
        let name = format!("after-{round}");
        let created = api
            .create(&PostParams::default(), &map(&name))
            .await
            .unwrap();
        assert!(revision(&created) > newest);
        let seen = until_seen(&mut events, &name);
        cluster
            .wait_within(PATIENCE, "event of a resumed watch", seen)
            .await;
    }
    reads.serve(100).await;
    let count = acknowledged.lock().unwrap().len();
    let read = reads.stop_without_failures().await;
    let written = writes.stop_without_failures().await;
    eprintln!(
        "{count} objects kept over two deaths of the server; {read} reads and {written} writes, none failed"
    );
    let pods = cluster.pods("app=hello").await;
    assert!(
        pods.iter().all(|pod| restarts(pod) == 0),
        "no pod was started again"
    );
}
