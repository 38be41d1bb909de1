//! Sudden ends: a killed process, a log cut short, a full disk.
//!
//! A process that can be killed or starved is this test binary, started again for one of the tests
//! below that do nothing unless the environment names a directory.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use wasmorch::store::{Error, ObjectKey, Revision, Store};
use wasmorch::tasks::TaskGroup;

use super::{close, config, object, open, pod, pods};

const DIRECTORY: &str = "WASMORCH_TEST_STORE";
const LEASES: &str = "leases.coordination.k8s.io";

fn start(test: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Writes for ever, and says so after each acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_writes() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let (store, _tasks) = open(Path::new(&directory), 100_000).await;
    let first = store.revision().0;
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.spawn(async move { write_and_tell(&store, &format!("{first}-{writer}")).await });
    }
    writers.join_all().await;
}

async fn write_and_tell(store: &Store, prefix: &str) {
    for index in 0.. {
        let name = format!("{prefix}-{index}");
        let stored = store.create(pod(&name), object(index)).await.unwrap();
        tell(&name, stored.revision);
        if index % 3 == 2 {
            let lease = store
                .create(ObjectKey::new(LEASES, "", &name), object(0))
                .await
                .unwrap();
            tell("lease", lease.revision);
        }
    }
}

fn tell(name: &str, revision: Revision) {
    let line = format!("ack {name} {revision}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// Reads acknowledgements until there are `count`, kills, and returns also those that were on
/// their way.
fn kill_after(mut child: Child, count: usize) -> Vec<(String, Revision)> {
    let mut acknowledged = Vec::new();
    let output = BufReader::new(child.stdout.take().unwrap());
    for line in output.lines() {
        let line = line.unwrap();
        if let Some(ack) = line.strip_prefix("ack ")
            && let Some((name, revision)) = ack.split_once(' ')
            && let Ok(revision) = revision.parse()
        {
            acknowledged.push((name.to_owned(), Revision(revision)));
        }
        if acknowledged.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= count, "the child ended by itself");
    acknowledged
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    let mut newest = Revision(0);
    for count in [1, 40, 150] {
        let child = start("store::crash::child_that_writes", directory.path());
        for (name, revision) in kill_after(child, count) {
            assert!(revision > Revision(0));
            newest = newest.max(revision);
            if name != "lease" {
                all.insert(name, revision);
            }
        }
        let (store, tasks) = open(directory.path(), 100_000).await;
        assert!(store.revision() >= newest, "revisions went back");
        newest = store.revision();
        for (name, revision) in &all {
            assert_eq!(store.get(&pod(name)).unwrap().revision, *revision);
        }
        assert_eq!(store.count(LEASES), 0);
        let listed = store.list(&pods()).unwrap().items;
        let mut watch = store.watch("pods", None, Revision(1)).unwrap();
        let mut watched = Vec::new();
        while let Some(change) = watch.try_next() {
            watched.push(change.unwrap().revision);
        }
        let mut expected: Vec<_> = listed.iter().map(|item| item.revision).collect();
        expected.sort_unstable();
        assert_eq!(watched, expected, "every change is there to resume from");
        close(store, tasks).await;
    }
}

/// SQLite's log: a header of 32 bytes, then frames of a page and 24 bytes.
const WAL_HEADER: usize = 32;
const WAL_FRAME: usize = 4096 + 24;

#[tokio::test]
async fn a_log_cut_anywhere_opens_to_a_prefix() {
    let origin = tempfile::tempdir().unwrap();
    let (store, tasks) = open(origin.path(), 1000).await;
    close(store, tasks).await;
    let (store, tasks) = open(origin.path(), 1000).await;
    let mut states = vec![(store.revision(), 0)];
    for round in 0..8 {
        let created = store
            .create(pod(&format!("{round}")), object(round))
            .await
            .unwrap();
        states.push((created.revision, store.count("pods")));
        if round % 3 == 2 {
            let gone = store
                .delete(pod(&format!("{}", round - 1)), None)
                .await
                .unwrap();
            states.push((gone.revision, store.count("pods")));
        }
    }
    let log = std::fs::read(origin.path().join("wasmorch.db-wal")).unwrap();
    let database = std::fs::read(origin.path().join("wasmorch.db")).unwrap();
    close(store, tasks).await;

    let frames = (log.len() - WAL_HEADER) / WAL_FRAME;
    assert!(frames >= states.len());
    let mut reached = 0;
    for frame in 0..=frames {
        let end = WAL_HEADER + frame * WAL_FRAME;
        let state = reopened(&database, &log[..end]).await;
        let index = states
            .iter()
            .position(|known| known.1 == state.1 && known.0 == state.0);
        let index = index.unwrap_or_else(|| panic!("frame {frame}: {state:?} never was"));
        assert!(index >= reached, "a longer log holds less");
        reached = index;
        // A torn frame is as good as none.
        let torn = (end + WAL_FRAME / 2).min(log.len());
        assert_eq!(reopened(&database, &log[..torn]).await, state);
    }
    assert_eq!(reached, states.len() - 1);
    // A flipped bit hides its transaction and what follows, and nothing before it.
    let mut flipped = log.clone();
    flipped[WAL_HEADER + (frames / 2) * WAL_FRAME + 500] ^= 1;
    let state = reopened(&database, &flipped).await;
    assert!(states.contains(&state) && state != states[states.len() - 1]);
}

/// The last change and the number of objects that a copy opens to.
async fn reopened(database: &[u8], log: &[u8]) -> (Revision, usize) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("wasmorch.db"), database).unwrap();
    std::fs::write(directory.path().join("wasmorch.db-wal"), log).unwrap();
    let (store, tasks) = open(directory.path(), 1000).await;
    let mut last = None;
    let mut watch = store.watch("pods", None, Revision(1)).unwrap();
    while let Some(change) = watch.try_next() {
        last = Some(change.unwrap().revision);
    }
    let state = (last.unwrap_or(Revision(1)), store.count("pods"));
    close(store, tasks).await;
    state
}

#[tokio::test]
async fn a_damaged_row_is_refused_not_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let (store, tasks) = open(directory.path(), 1000).await;
    let marker = "a-text-to-find-on-the-page";
    let stored = serde_json::json!({"metadata": {}, "spec": {"text": marker}});
    store.create(pod("a"), stored).await.unwrap();
    close(store, tasks).await;
    let path = directory.path().join("wasmorch.db");
    let find = |bytes: &[u8]| {
        let mut parts = bytes.windows(marker.len());
        parts.position(|part| part == marker.as_bytes())
    };
    // SQLite moves the log into the file when the last connection closes, unless two close at once:
    // then the next to open and close does.
    let mut bytes = std::fs::read(&path).unwrap();
    for _ in 0..100 {
        if find(&bytes).is_some() {
            break;
        }
        let (store, tasks) = open(directory.path(), 1000).await;
        close(store, tasks).await;
        bytes = std::fs::read(&path).unwrap();
    }
    // The quote before the text: the row is no JSON any more.
    let found = find(&bytes).unwrap();
    bytes[found - 1] = b'x';
    std::fs::write(&path, bytes).unwrap();
    let refused = Store::open(config(directory.path(), 1000), &TaskGroup::new()).await;
    assert!(matches!(refused, Err(Error::Open { .. })));
}

#[tokio::test]
async fn child_on_a_full_disk() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    // With a handler in place the limit fails a write instead of killing the process.
    let _sigxfsz = signal(SignalKind::from_raw(25)).unwrap();
    let (store, tasks) = open(Path::new(&directory), 1000).await;
    let first = store.create(pod("a"), object(1)).await.unwrap();
    let lease = ObjectKey::new(LEASES, "", "l");
    store.create(lease.clone(), object(1)).await.unwrap();
    let mut watch = store.watch("pods", None, first.revision).unwrap();
    let before = store.revision();

    let unlimited = getrlimit(Resource::Fsize);
    let full = Rlimit {
        current: Some(1),
        maximum: unlimited.maximum,
    };
    setrlimit(Resource::Fsize, full).unwrap();
    for name in ["b", "c"] {
        let refused = store.create(pod(name), object(1)).await;
        assert!(matches!(refused, Err(Error::Commit(_))));
    }
    assert_eq!(store.revision(), before);
    assert_eq!(store.list(&pods()).unwrap().items.len(), 1);
    assert!(watch.try_next().is_none());
    store.update(lease, None, object(2)).await.unwrap();

    setrlimit(Resource::Fsize, unlimited).unwrap();
    let later = store.create(pod("b"), object(1)).await.unwrap();
    assert_eq!(
        watch.next().await.unwrap().unwrap().revision,
        later.revision
    );
    close(store, tasks).await;
    let (store, tasks) = open(Path::new(&directory), 1000).await;
    assert_eq!(store.count("pods"), 2);
    close(store, tasks).await;
    std::io::stdout().write_all(b"survived\n").unwrap();
}

#[tokio::test]
async fn a_full_disk_fails_writes_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let child = start("store::crash::child_on_a_full_disk", directory.path());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("survived"),
        "{text}"
    );
}
