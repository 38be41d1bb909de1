//! Hostile guests on a real worker: one after the other each takes what it can, is contained and named
//! in its pod's status or events, and when its pod is gone, the worker process is what it was: its
//! memory within [`KEPT`], its descriptors and, after a round, its threads to the number. A second round
//! of the same shows that nothing grows.

use std::fmt;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Event, Pod};
use kube::api::{Api, DeleteParams, ListParams};
use wasmorch::tasks::TaskGroup;

use super::bodies::{run, send};
use crate::cluster::{Cluster, PATIENCE, until};
use crate::hostile::attacks;
use crate::runtime_pods::guests::{ANSWER, ENDLESS, HELLO, core, handler};

/// What a worker may keep in memory after an attack, above what it had before the first: the status
/// and the events of the pods, caches that are bounded, allocations between which pages are not whole.
const KEPT: u64 = 8 << 20;
/// Idle threads for blocking calls end after ten seconds.
const QUIET: Duration = Duration::from_secs(11);
const ROUNDS: usize = 2;
/// Bytes that are read of a response without end.
const READ: usize = 4 << 20;

/// A program, and how it is expected to end.
struct Attack {
    name: &'static str,
    program: String,
    exit: i32,
    reason: &'static str,
    /// In the message of its end.
    message: &'static str,
    /// Reason of an event of the pod, and words of it.
    event: Option<(&'static str, &'static str)>,
}

fn attacks() -> Vec<Attack> {
    let killed = |name, program| Attack {
        name,
        program,
        exit: 137,
        reason: "OOMKilled",
        message: "memory limit 128Mi: ",
        event: Some(("LimitReached", "memory")),
    };
    let refused = |name, program, exit, event| Attack {
        name,
        program,
        exit,
        reason: "Error",
        message: "",
        event: Some(event),
    };
    let trapped = |name, program| Attack {
        name,
        program,
        exit: 134,
        reason: "Error",
        message: "limit of 20000 host objects",
        event: Some((
            "LimitReached",
            "too many host objects or handles (20000 may",
        )),
    };
    let flood = Attack {
        name: "flood",
        program: attacks::flood(),
        exit: 0,
        reason: "Completed",
        message: "",
        event: Some(("LimitReached", "of output dropped, above the log rate")),
    };
    let [files, inodes] = [false, true].map(attacks::a_million_files);
    let sockets = attacks::a_hundred_thousand_sockets();
    vec![
        killed("memory", attacks::memory_bomb()),
        killed("tables", attacks::table_bomb()),
        killed("headers", attacks::headers()),
        refused("files", files, 33, ("LimitReached", "descriptors refused")),
        refused("inodes", inodes, 51, ("StorageFull", "of 65536 inodes")),
        refused("sockets", sockets, 1, ("LimitReached", "sockets refused")),
        trapped("pollables", attacks::ten_million_pollables()),
        trapped("handles", attacks::TEN_MILLION_HANDLES.to_owned()),
        trapped("calls", attacks::TEN_MILLION_CALLS.to_owned()),
        flood,
        refused(
            "disk",
            attacks::full_disk(),
            51,
            ("StorageFull", "files have 64 MiB of 64 MiB"),
        ),
    ]
}

/// What a process holds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Footprint {
    memory: u64,
    descriptors: usize,
    /// Descriptors of compiled code, which a worker keeps because pods come back, 256 at most.
    code: usize,
    threads: usize,
}

impl Footprint {
    fn of(pid: u64) -> Self {
        let entries = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap();
        let links = entries("fd").filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let (code, descriptors): (Vec<_>, Vec<_>) =
            links.partition(|link| link.extension().is_some_and(|name| name == "cwasm"));
        Self {
            memory: super::bodies::memory(pid, "RssAnon:"),
            descriptors: descriptors.len(),
            code: code.len(),
            threads: entries("task").count(),
        }
    }

    /// Idle threads end late, so they are looked at once a round.
    fn is_within(self, before: Self, with_threads: bool) -> bool {
        self.memory <= before.memory + KEPT
            && self.descriptors <= before.descriptors
            && (self.threads <= before.threads || !with_threads)
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.memory >> 10;
        let Self {
            descriptors,
            code,
            threads,
            ..
        } = self;
        write!(
            f,
            "{memory} KiB, {descriptors} descriptors and {code} of code, {threads} threads"
        )
    }
}

/// The footprint once its numbers have fallen no further; what comes and goes at once (a file read
/// for the figures) is not in it.
async fn at_rest(pid: u64) -> Footprint {
    let mut least = Footprint::of(pid);
    let mut since = Instant::now();
    until("the worker to rest", async || {
        let now = Footprint::of(pid);
        if now.descriptors < least.descriptors || now.threads < least.threads {
            since = Instant::now();
        }
        least = Footprint {
            memory: now.memory,
            descriptors: now.descriptors.min(least.descriptors),
            threads: now.threads.min(least.threads),
            ..now
        };
        (since.elapsed() > QUIET).then_some(least)
    })
    .await
}

async fn is_back(pid: u64, before: Footprint, with_threads: bool, what: &str) {
    let since = Instant::now();
    let at_first = Footprint::of(pid);
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    loop {
        pause.tick().await;
        let now = Footprint::of(pid);
        let after = since.elapsed();
        if now.is_within(before, with_threads) {
            eprintln!("{what}: {now} after {after:?} (at first {at_first})");
            return;
        }
        assert!(after < PATIENCE, "{what}: {now}, before {before}");
    }
}

fn push(cluster: &Cluster, name: &str, text: &str) {
    let file = cluster.root().join(format!("{name}.wasm"));
    std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
    cluster.wasmorch(&["push", file.to_str().unwrap(), "--name", name]);
}

/// Runs a module to its end in a pod; gives how it ended.
async fn end_of(cluster: &Cluster, pod: &str, image: &str) -> ContainerStateTerminated {
    cluster.apply(&format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{ name: {pod} }}
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: {image}
      resources: {{ limits: {{ memory: 128Mi, ephemeral-storage: 64Mi }} }}
"
    ));
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    until(&format!("{pod} to end"), async || {
        let status = pods.get(pod).await.unwrap().status?;
        let container = status.container_statuses?.pop()?;
        container.state?.terminated
    })
    .await
}

async fn delete(cluster: &Cluster, pod: &str) {
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    pods.delete(pod, &DeleteParams::default()).await.unwrap();
    until(&format!("{pod} to be gone"), async || {
        pods.get_opt(pod).await.unwrap().is_none().then_some(())
    })
    .await;
}

impl Attack {
    async fn run(&self, cluster: &Cluster, round: usize) {
        let pod = format!("{}-{round}", self.name);
        let end = end_of(cluster, &pod, self.name).await;
        let reason = end.reason.clone().unwrap_or_default();
        assert_eq!(
            (end.exit_code, reason.as_str()),
            (self.exit, self.reason),
            "{pod}: {end:?}"
        );
        let message = end.message.unwrap_or_default();
        assert!(message.contains(self.message), "{pod}: {message}");
        if let Some((reason, words)) = self.event {
            let events: Api<Event> = Api::default_namespaced(cluster.client.clone());
            until(&format!("{pod}: {reason}: {words}"), async || {
                let all = events.list(&ListParams::default()).await.unwrap();
                let told = all.items.into_iter().any(|event| {
                    event.involved_object.name.as_deref() == Some(&pod)
                        && event.reason.as_deref() == Some(reason)
                        && event.message.unwrap_or_default().contains(words)
                });
                told.then_some(())
            })
            .await;
        }
        delete(cluster, &pod).await;
    }
}

/// A handler whose response does not end, read for a while and left.
async fn endless_response(cluster: &Cluster, name: &str) {
    run(cluster, name, &handler(ENDLESS)).await;
    let tasks = TaskGroup::new();
    let mut body = until("the response to begin", async || {
        let response = send(cluster, name, Empty::new(), &tasks).await;
        (response.status() == 200).then(|| response.into_body())
    })
    .await;
    let mut read = 0;
    while read < READ {
        let frame = body.frame().await.unwrap().unwrap();
        read += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    drop(body);
    delete(cluster, name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_what_it_was_after_hostile_guests() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    let pid = cluster.pid("dev-1");
    let attacks = attacks();
    for attack in &attacks {
        push(&cluster, attack.name, &attack.program);
    }
    // What a worker has once and keeps: pools of instances, connections, threads.
    push(&cluster, "hello", &core(HELLO));
    let end = end_of(&cluster, "hello", "hello").await;
    assert_eq!(end.exit_code, 0, "{end:?}");
    delete(&cluster, "hello").await;
    run(&cluster, "answer", &handler(ANSWER)).await;
    let tasks = TaskGroup::new();
    until("an answer", async || {
        let answer = send(&cluster, "answer", Empty::new(), &tasks).await;
        (answer.status() == 200).then_some(())
    })
    .await;
    delete(&cluster, "answer").await;
    let before = at_rest(pid).await;
    eprintln!("before: {before}");
    for round in 1..=ROUNDS {
        for attack in &attacks {
            attack.run(&cluster, round).await;
            is_back(pid, before, false, &format!("{} {round}", attack.name)).await;
        }
        let name = format!("endless-{round}");
        endless_response(&cluster, &name).await;
        is_back(pid, before, true, &name).await;
        let code = Footprint::of(pid).code;
        // Two innocent modules, and that of the response.
        assert_eq!(code, attacks.len() + 3, "descriptors of compiled code");
    }
}
