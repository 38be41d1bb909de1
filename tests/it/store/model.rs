//! The store against a model: random sequences of writes, restarts and reads.
//!
//! The model is a map, a list of changes and a map per past revision. The store must give the same
//! answers, refuse the past only when it is really too old, and every watch must be the model's
//! changes filtered, whenever it began.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use wasmorch::store::{ChangeKind, Error, ListQuery, ObjectKey, Op, Revision, Store, Watch};
use wasmorch::tasks::TaskGroup;

use super::{close, open};

const HISTORY: usize = 60;
const PODS: &str = "pods";
const LEASES: &str = "leases.coordination.k8s.io";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Anything,
    Current,
    Stale,
}

#[derive(Clone, Debug)]
enum Act {
    Create(u8, u64),
    Update(u8, Expect, u64),
    Delete(u8, Expect),
}

#[derive(Clone, Debug)]
enum Step {
    One(Act),
    All(Vec<Act>),
    /// Enough updates to push something out of the history.
    Burst(u8, u8),
    /// Watch from a revision this many changes back; in one namespace, or all.
    Watch(u8, usize, Option<u8>),
    /// List as it was this many published revisions ago.
    List(u8, usize, Option<u8>),
}

fn acts() -> impl Strategy<Value = Act> {
    let expect = || {
        prop_oneof![
            2 => Just(Expect::Anything),
            2 => Just(Expect::Current),
            1 => Just(Expect::Stale),
        ]
    };
    prop_oneof![
        3 => (0..16_u8, any::<u64>()).prop_map(|(key, value)| Act::Create(key, value)),
        3 => (0..16_u8, expect(), any::<u64>())
            .prop_map(|(key, expect, value)| Act::Update(key, expect, value)),
        2 => (0..16_u8, expect()).prop_map(|(key, expect)| Act::Delete(key, expect)),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let namespace = || proptest::option::of(0..2_u8);
    prop_oneof![
        12 => acts().prop_map(Step::One),
        3 => proptest::collection::vec(acts(), 2..5).prop_map(Step::All),
        2 => (0..16_u8, 1..120_u8).prop_map(|(key, count)| Step::Burst(key, count)),
        3 => (0..2_u8, 0..90_usize, namespace())
            .prop_map(|(resource, back, namespace)| Step::Watch(resource, back, namespace)),
        3 => (0..2_u8, 0..90_usize, namespace())
            .prop_map(|(resource, back, namespace)| Step::List(resource, back, namespace)),
    ]
}

/// Sixteen keys: two resources, two namespaces, four names.
fn key(index: u8) -> ObjectKey {
    let resource = resource(index & 1);
    let namespace = namespace((index >> 1) & 1);
    ObjectKey::new(resource, namespace, &format!("name-{}", index >> 2))
}

fn resource(index: u8) -> &'static str {
    if index == 0 { PODS } else { LEASES }
}

fn namespace(index: u8) -> &'static str {
    if index == 0 { "east" } else { "west" }
}

type State = BTreeMap<ObjectKey, (Revision, u64)>;

#[derive(Clone, Debug, PartialEq)]
struct Seen {
    revision: Revision,
    kind: &'static str,
    key: ObjectKey,
    value: u64,
    previous: Option<(Revision, u64)>,
}

#[derive(Default)]
struct Model {
    state: State,
    /// The state at every revision that was ever published.
    past: BTreeMap<Revision, State>,
    changes: Vec<Seen>,
    revision: Revision,
    opened: Revision,
}

impl Model {
    fn apply(&mut self, act: &Act) -> Option<Seen> {
        let revision = Revision(self.revision.0 + 1);
        let (key, kind, value) = match *act {
            Act::Create(index, value) => (key(index), "created", value),
            Act::Update(index, _, value) => (key(index), "updated", value),
            Act::Delete(index, _) => (key(index), "deleted", 0),
        };
        let current = self.state.get(&key).copied();
        let allowed = match *act {
            Act::Create(..) => current.is_none(),
            Act::Update(_, expect, _) | Act::Delete(_, expect) => {
                current.is_some() && expect != Expect::Stale
            }
        };
        if !allowed {
            return None;
        }
        let value = match act {
            Act::Create(..) | Act::Update(..) => {
                self.state.insert(key.clone(), (revision, value));
                value
            }
            Act::Delete(..) => self.state.remove(&key)?.1,
        };
        self.revision = revision;
        Some(Seen {
            revision,
            kind,
            key,
            value,
            previous: current,
        })
    }

    fn publish(&mut self, changes: Vec<Seen>) {
        self.changes.extend(changes);
        self.past.insert(self.revision, self.state.clone());
    }

    /// Whether the store may say that `since` is too old for this resource.
    fn may_be_compacted(&self, resource: &str, since: Revision) -> bool {
        let volatile = resource == LEASES;
        let newer = self
            .changes
            .iter()
            .filter(|seen| (&*seen.key.resource == LEASES) == volatile && seen.revision > since);
        (volatile && since < self.opened) || newer.count() > HISTORY
    }

    fn watched(&self, watched: &Watched) -> Vec<Seen> {
        let matches = |seen: &&Seen| {
            seen.revision > watched.since
                && &*seen.key.resource == watched.resource
                && watched
                    .namespace
                    .is_none_or(|namespace| &*seen.key.namespace == namespace)
        };
        self.changes.iter().filter(matches).cloned().collect()
    }
}

struct Watched {
    watch: Watch,
    resource: &'static str,
    namespace: Option<&'static str>,
    since: Revision,
    seen: Vec<Seen>,
}

impl Watched {
    /// Takes what is there; false if the watch fell behind.
    fn drain(&mut self) -> bool {
        while let Some(change) = self.watch.try_next() {
            let change = match change {
                Ok(change) => change,
                Err(Error::Compacted { .. }) => return false,
                Err(error) => panic!("a watch failed: {error}"),
            };
            let kind = match change.kind {
                ChangeKind::Created => "created",
                ChangeKind::Updated => "updated",
                ChangeKind::Deleted => "deleted",
            };
            assert_eq!(change.revision, change.object.revision);
            let previous = change.previous.as_ref();
            self.seen.push(Seen {
                revision: change.revision,
                kind,
                key: change.object.key.clone(),
                value: value(&change.object.object),
                previous: previous.map(|old| (old.revision, value(&old.object))),
            });
        }
        true
    }
}

fn value(object: &serde_json::Value) -> u64 {
    object["spec"]["value"].as_u64().unwrap()
}

struct Run {
    directory: tempfile::TempDir,
    store: Store,
    tasks: TaskGroup,
    model: Model,
    watches: Vec<Watched>,
}

impl Run {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (store, tasks) = open(directory.path(), HISTORY).await;
        let revision = store.revision();
        let mut model = Model {
            revision,
            opened: revision,
            ..Model::default()
        };
        model.publish(Vec::new());
        Self {
            directory,
            store,
            tasks,
            model,
            watches: Vec::new(),
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::One(act) => self.write(vec![act]).await,
            Step::All(acts) => self.write(acts).await,
            Step::Burst(index, count) => {
                self.write(vec![Act::Create(index, 0)]).await;
                let update = |value| Act::Update(index, Expect::Current, value);
                self.write((0..count.into()).map(update).collect()).await;
            }
            Step::Watch(index, back, ns) => self.watch(resource(index), back, ns.map(namespace)),
            Step::List(index, back, ns) => self.list(resource(index), back, ns.map(namespace)),
        }
        assert_eq!(self.store.revision(), self.model.revision);
        for resource in [PODS, LEASES] {
            let expected = self
                .model
                .state
                .keys()
                .filter(|key| &*key.resource == resource);
            assert_eq!(self.store.count(resource), expected.count());
        }
    }

    async fn write(&mut self, acts: Vec<Act>) {
        let (state, revision) = (self.model.state.clone(), self.model.revision);
        let mut ops = Vec::new();
        let mut expected = Some(Vec::new());
        for act in &acts {
            ops.push(self.op(act));
            let seen = self.model.apply(act);
            expected = expected.and_then(|mut changes| {
                changes.push(seen?);
                Some(changes)
            });
        }
        let stored = self.store.commit(ops).await;
        let Some(expected) = expected else {
            assert!(stored.is_err(), "the store accepted {acts:?}");
            (self.model.state, self.model.revision) = (state, revision);
            return;
        };
        let stored = stored.unwrap();
        assert_eq!(stored.len(), expected.len());
        for (stored, seen) in stored.iter().zip(&expected) {
            assert_eq!(stored.revision, seen.revision);
            let text = stored.object["metadata"]["resourceVersion"].as_str();
            assert_eq!(text, Some(&*seen.revision.0.to_string()));
            let decoded: serde_json::Value = serde_json::from_slice(stored.json()).unwrap();
            assert_eq!(decoded, stored.object);
        }
        self.model.publish(expected);
    }

    /// The precondition is what the model says is current when the act has its turn.
    fn op(&self, act: &Act) -> Op {
        let expected = |index: u8, expect: Expect| match expect {
            Expect::Anything => None,
            Expect::Current => self
                .model
                .state
                .get(&key(index))
                .map(|(revision, _)| *revision),
            Expect::Stale => Some(Revision(0)),
        };
        let object = |value: u64| json!({"metadata": {"name": "n"}, "spec": {"value": value}});
        match *act {
            Act::Create(index, value) => Op::Create {
                key: key(index),
                object: object(value),
            },
            Act::Update(index, expect, value) => Op::Update {
                key: key(index),
                expected: expected(index, expect),
                object: object(value),
            },
            Act::Delete(index, expect) => Op::Delete {
                key: key(index),
                expected: expected(index, expect),
            },
        }
    }

    fn watch(&mut self, resource: &'static str, back: usize, namespace: Option<&'static str>) {
        let since = self.back(back);
        match self.store.watch(resource, namespace, since) {
            Ok(watch) => {
                let seen = Vec::new();
                self.watches.push(Watched {
                    watch,
                    resource,
                    namespace,
                    since,
                    seen,
                });
            }
            Err(error) => self.check_compacted(&error, resource, since),
        }
    }

    fn list(&mut self, resource: &'static str, back: usize, namespace: Option<&'static str>) {
        let at = self.back(back);
        let query = ListQuery {
            resource: resource.to_owned(),
            namespace: namespace.map(str::to_owned),
            start_after: (back % 2 == 1).then(|| ("east".to_owned(), "name-2".to_owned())),
            at: Some(at),
        };
        let listing = match self.store.list(&query) {
            Ok(listing) => listing,
            Err(error) => return self.check_compacted(&error, resource, at),
        };
        assert_eq!(listing.revision, at);
        let items = listing.items.iter();
        let items: Vec<_> = items
            .map(|item| (item.key.clone(), (item.revision, value(&item.object))))
            .collect();
        let start = query.start_after.as_ref();
        let expected = self.model.past[&at].iter().filter(|(key, _)| {
            let place = (key.namespace.to_string(), key.name.to_string());
            &*key.resource == resource
                && namespace.is_none_or(|namespace| &*key.namespace == namespace)
                && start.is_none_or(|start| place > *start)
        });
        let expected: Vec<_> = expected.map(|(key, at)| (key.clone(), *at)).collect();
        assert_eq!(items, expected);
    }

    fn back(&self, count: usize) -> Revision {
        let mut revisions = self.model.past.keys().rev();
        revisions.nth(count).copied().unwrap_or(self.model.revision)
    }

    fn check_compacted(&self, error: &Error, resource: &str, since: Revision) {
        assert!(matches!(error, Error::Compacted { .. }), "{error}");
        assert!(
            self.model.may_be_compacted(resource, since),
            "{error} is still kept"
        );
    }

    fn check_watches(&mut self) {
        for mut watched in std::mem::take(&mut self.watches) {
            let complete = watched.drain();
            let expected = self.model.watched(&watched);
            if complete {
                assert_eq!(watched.seen, expected);
                assert_eq!(watched.watch.progress(), self.model.revision);
            } else {
                assert_eq!(watched.seen, expected[..watched.seen.len()]);
                let passed = watched
                    .seen
                    .last()
                    .map_or(watched.since, |seen| seen.revision);
                assert!(self.model.may_be_compacted(watched.resource, passed));
            }
        }
    }

    async fn reopen(mut self) -> Self {
        self.check_watches();
        close(self.store, self.tasks).await;
        let (store, tasks) = open(self.directory.path(), HISTORY).await;
        let mut model = self.model;
        assert!(store.revision() >= model.revision, "revisions went back");
        model.state.retain(|key, _| &*key.resource != LEASES);
        model.revision = store.revision();
        model.opened = store.revision();
        model.publish(Vec::new());
        Self {
            store,
            tasks,
            model,
            watches: Vec::new(),
            ..self
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    /// Each inner list is what happens between two restarts.
    #[test]
    fn it_behaves_like_the_model(
        lives in proptest::collection::vec(proptest::collection::vec(steps(), 1..40), 1..4)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new().await;
            for steps in lives {
                for step in steps {
                    run.step(step).await;
                }
                run = run.reopen().await;
            }
            close(run.store, run.tasks).await;
        });
    }
}
