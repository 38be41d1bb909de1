//! A persistent ordered map: the objects of one resource, by namespace and name.
//!
//! Why not a `BTreeMap` behind a lock: a list of 50,000 objects under a read lock stalls the
//! writer for milliseconds, and every stalled write stalls all writes of its batch. Here a list
//! takes the whole map in one pointer copy, at one exact revision, and walks it while writers go
//! on; a write copies the nodes on its path (a few times [`FANOUT`] pointers), once per batch,
//! because a node that only the writer knows is changed in place. The same property makes a batch
//! cheap to give up: the writer drops its copy.

use std::sync::Arc;

use super::object::Stored;

/// A node of this width is copied in about the time of one cache miss per entry; wider nodes make
/// reads a little faster and every first write of a batch slower.
const FANOUT: usize = 32;

type Place<'a> = (&'a str, &'a str);

#[derive(Clone)]
pub(super) struct Tree {
    root: Arc<Node>,
    len: usize,
}

#[derive(Clone)]
enum Node {
    Leaf(Vec<Arc<Stored>>),
    Branch(Vec<Child>),
}

/// A subtree and a lower bound of its places.
#[derive(Clone)]
struct Child {
    namespace: Arc<str>,
    name: Arc<str>,
    node: Arc<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::Leaf(Vec::new())),
            len: 0,
        }
    }
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, place: Place<'_>) -> Option<&Arc<Stored>> {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(items) => return Some(&items[search(items, place).ok()?]),
                Node::Branch(children) => node = &children[child_of(children, place)].node,
            }
        }
    }

    /// Puts a version in its place; returns the one that was there.
    pub(super) fn insert(&mut self, stored: Arc<Stored>) -> Option<Arc<Stored>> {
        let (replaced, split) = Node::insert(&mut self.root, stored);
        if let Some(right) = split {
            let left = Child::new(Arc::clone(&self.root));
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
        self.len += usize::from(replaced.is_none());
        replaced
    }

    pub(super) fn remove(&mut self, place: Place<'_>) -> Option<Arc<Stored>> {
        self.get(place)?;
        let removed = Node::remove(&mut self.root, place);
        while let Node::Branch(children) = &*self.root
            && let [only] = &children[..]
        {
            self.root = Arc::clone(&only.node);
        }
        self.len -= 1;
        removed
    }

    /// Walks the map in order from the first place that is not `before`; the walk owns this
    /// version of the map.
    pub(super) fn walk(&self, before: impl Fn(Place<'_>) -> bool) -> Walk {
        let mut path = Vec::new();
        let mut node = Arc::clone(&self.root);
        loop {
            let next = match &*node {
                Node::Leaf(items) => {
                    let index = items.partition_point(|item| before(item.key.place()));
                    path.push((Arc::clone(&node), index));
                    return Walk { path };
                }
                Node::Branch(children) => {
                    let index = children
                        .partition_point(|child| before(child.bound()))
                        .saturating_sub(1);
                    path.push((Arc::clone(&node), index + 1));
                    Arc::clone(&children[index].node)
                }
            };
            node = next;
        }
    }
}

/// A walk over one version of the map. Each step of the path says what comes next in its node.
pub(super) struct Walk {
    path: Vec<(Arc<Node>, usize)>,
}

impl Iterator for Walk {
    type Item = Arc<Stored>;

    fn next(&mut self) -> Option<Arc<Stored>> {
        loop {
            let (node, index) = self.path.last_mut()?;
            let child = match &**node {
                Node::Leaf(items) => items.get(*index).cloned().map(Err),
                Node::Branch(children) => children
                    .get(*index)
                    .map(|child| Ok(Arc::clone(&child.node))),
            };
            *index += 1;
            match child {
                Some(Err(item)) => return Some(item),
                Some(Ok(node)) => self.path.push((node, 0)),
                None => {
                    self.path.pop();
                }
            }
        }
    }
}

impl Child {
    fn new(node: Arc<Node>) -> Self {
        let (namespace, name) = node.first();
        Self {
            namespace,
            name,
            node,
        }
    }

    fn bound(&self) -> Place<'_> {
        (&self.namespace, &self.name)
    }
}

impl Node {
    fn width(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Branch(children) => children.len(),
        }
    }

    fn first(&self) -> (Arc<str>, Arc<str>) {
        match self {
            Self::Leaf(items) => {
                let key = &items[0].key;
                (Arc::clone(&key.namespace), Arc::clone(&key.name))
            }
            Self::Branch(children) => (
                Arc::clone(&children[0].namespace),
                Arc::clone(&children[0].name),
            ),
        }
    }

    fn insert(node: &mut Arc<Self>, stored: Arc<Stored>) -> (Option<Arc<Stored>>, Option<Child>) {
        match Arc::make_mut(node) {
            Self::Leaf(items) => match search(items, stored.key.place()) {
                Ok(index) => (Some(std::mem::replace(&mut items[index], stored)), None),
                Err(index) => {
                    items.insert(index, stored);
                    let split = split(items).map(|right| Child::new(Arc::new(Self::Leaf(right))));
                    (None, split)
                }
            },
            Self::Branch(children) => {
                let index = child_of(children, stored.key.place());
                let child = &mut children[index];
                if stored.key.place() < child.bound() {
                    child.namespace = Arc::clone(&stored.key.namespace);
                    child.name = Arc::clone(&stored.key.name);
                }
                let (replaced, right) = Self::insert(&mut child.node, stored);
                if let Some(right) = right {
                    children.insert(index + 1, right);
                }
                let split = split(children).map(|right| Child::new(Arc::new(Self::Branch(right))));
                (replaced, split)
            }
        }
    }

    /// Removes what [`Tree::get`] has found.
    fn remove(node: &mut Arc<Self>, place: Place<'_>) -> Option<Arc<Stored>> {
        match Arc::make_mut(node) {
            Self::Leaf(items) => {
                let index = search(items, place).ok()?;
                Some(items.remove(index))
            }
            Self::Branch(children) => {
                let index = child_of(children, place);
                let removed = Self::remove(&mut children[index].node, place);
                mend(children, index);
                removed
            }
        }
    }
}

/// Joins a child that has become narrow with a neighbour, so that the depth follows the size.
fn mend(children: &mut Vec<Child>, index: usize) {
    let width = children[index].node.width();
    if width >= FANOUT / 4 {
        return;
    }
    let left = if index > 0 { index - 1 } else { index };
    let Some(right) = children.get(left + 1) else {
        return;
    };
    if children[left].node.width() + right.node.width() > FANOUT {
        return;
    }
    let right = children.remove(left + 1);
    match (
        Arc::make_mut(&mut children[left].node),
        Arc::unwrap_or_clone(right.node),
    ) {
        (Node::Leaf(items), Node::Leaf(more)) => items.extend(more),
        (Node::Branch(children), Node::Branch(more)) => children.extend(more),
        (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => {
            unreachable!("all leaves of the tree have one depth")
        }
    }
}

fn search(items: &[Arc<Stored>], place: Place<'_>) -> Result<usize, usize> {
    items.binary_search_by(|item| item.key.place().cmp(&place))
}

/// The child that holds a place, or would.
fn child_of(children: &[Child], place: Place<'_>) -> usize {
    children
        .partition_point(|child| child.bound() <= place)
        .saturating_sub(1)
}

/// The right half of a node that has become too wide.
fn split<T>(entries: &mut Vec<T>) -> Option<Vec<T>> {
    (entries.len() > FANOUT).then(|| entries.split_off(entries.len() / 2))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::key::{ObjectKey, Revision};
    use super::*;

    fn stored(namespace: &str, name: &str, revision: u64) -> Arc<Stored> {
        Arc::new(Stored::new(
            ObjectKey::new("pods", namespace, name),
            Revision(revision),
            serde_json::Value::Null,
        ))
    }

    fn contents(tree: &Tree) -> Vec<(String, String, u64)> {
        tree.walk(|_| false)
            .map(|item| {
                let (namespace, name) = item.key.place();
                (namespace.to_owned(), name.to_owned(), item.revision.0)
            })
            .collect()
    }

    type Model = BTreeMap<(String, String), u64>;

    fn model_contents(model: &Model) -> Vec<(String, String, u64)> {
        model
            .iter()
            .map(|((namespace, name), revision)| (namespace.clone(), name.clone(), *revision))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_map_and_old_versions_stay(
            steps in proptest::collection::vec((any::<bool>(), 0..4_u8, 0..300_u16), 1..1500)
        ) {
            let (mut tree, mut model) = (Tree::default(), Model::new());
            let mut past = Vec::new();
            for (revision, (insert, namespace, name)) in (1_u64..).zip(steps) {
                let (namespace, name) = (format!("n{namespace}"), format!("{name}"));
                let place = (namespace.clone(), name.clone());
                if insert {
                    let replaced = tree.insert(stored(&namespace, &name, revision));
                    prop_assert_eq!(replaced.map(|old| old.revision.0), model.insert(place, revision));
                } else {
                    let removed = tree.remove((&namespace, &name));
                    prop_assert_eq!(removed.map(|old| old.revision.0), model.remove(&place));
                }
                prop_assert_eq!(tree.len(), model.len());
                prop_assert!(tree.get((&namespace, &name)).is_some() == insert);
                if revision % 200 == 0 {
                    past.push((tree.clone(), model.clone()));
                }
            }
            past.push((tree, model));
            for (tree, model) in past {
                prop_assert_eq!(contents(&tree), model_contents(&model));
                let from = ("n2".to_owned(), "15".to_owned());
                let expected = model.range(from..).map(|(_, revision)| *revision);
                let walked = tree.walk(|place| place < ("n2", "15")).map(|item| item.revision.0);
                prop_assert_eq!(walked.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_large_map_shrinks_to_nothing() {
        let mut tree = Tree::default();
        for index in 0..5_000 {
            tree.insert(stored("", &format!("{index:05}"), 1));
        }
        assert_eq!(tree.len(), 5_000);
        for index in 0..5_000 {
            tree.remove(("", &format!("{:05}", (index * 7) % 5_000)));
        }
        assert_eq!(tree.len(), 0);
        assert!(contents(&tree).is_empty());
        assert!(matches!(&*tree.root, Node::Leaf(_)));
    }
}
