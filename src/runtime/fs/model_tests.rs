//! Random operations against a model that is too simple to be wrong.
//!
//! The model is a map from paths to inode numbers and a table of inodes; it has no locks, no quota
//! and no cleverness. After every operation the outcome must agree, at the end the whole tree; when
//! everything is removed and closed, nothing may stay charged.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::descriptor::OpenOptions;
use super::errno::Errno;
use super::inode::Kind;
use super::*;

#[derive(Clone, Debug)]
enum Op {
    Write(String, u8),
    Append(String, u8),
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String),
    Truncate(String, u64),
    Hold(String),
    Release,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(Vec<u8>),
    Directory,
    Symlink,
}

/// All names, by whole path; the root is the empty path.
#[derive(Default)]
struct Model {
    names: BTreeMap<String, usize>,
    inodes: Vec<Node>,
}

type Outcome = Result<(), Errno>;

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        model.add("", Node::Directory);
        model.add("tmp", Node::Directory);
        model
    }

    fn add(&mut self, path: &str, node: Node) {
        self.names.insert(path.to_owned(), self.inodes.len());
        self.inodes.push(node);
    }

    fn node(&self, path: &str) -> Option<&Node> {
        Some(&self.inodes[*self.names.get(path)?])
    }

    /// What walking to the parent gives: symbolic links dangle here, so they lead nowhere.
    fn check_parent(&self, path: &str) -> Outcome {
        let mut at = parent(path);
        let mut outcome = Ok(());
        loop {
            outcome = match self.node(at) {
                Some(Node::Directory) => outcome,
                Some(Node::File(_)) => Err(Errno::NotDirectory),
                Some(Node::Symlink) | None => Err(Errno::NoEntry),
            };
            if at.is_empty() {
                return outcome;
            }
            at = parent(at);
        }
    }

    fn is_empty(&self, path: &str) -> bool {
        let below = format!("{path}/");
        !self.names.keys().any(|name| name.starts_with(&below))
    }

    fn write(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        self.check_parent(path)?;
        match self.node(path) {
            None => self.add(path, Node::File(Vec::new())),
            Some(Node::File(_)) => {}
            Some(Node::Directory) => return Err(Errno::IsDirectory),
            // Opened without following.
            Some(Node::Symlink) => return Err(Errno::Loop),
        }
        let inode = self.names[path];
        if let Node::File(contents) = &mut self.inodes[inode] {
            change(contents);
        }
        Ok(())
    }

    fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Write(path, fill) => self.write(path, |contents| *contents = vec![*fill; 5]),
            Op::Append(path, fill) => self.write(path, |contents| contents.push(*fill)),
            Op::Truncate(path, len) => {
                self.check_parent(path)?;
                if self.node(path).is_none() {
                    return Err(Errno::NoEntry);
                }
                self.write(path, |contents| contents.resize(*len as usize, 0))
            }
            Op::Mkdir(path) => self.make(path, Node::Directory),
            Op::Symlink(path) => self.make(path, Node::Symlink),
            Op::Rmdir(path) => {
                self.check_parent(path)?;
                match self.node(path).ok_or(Errno::NoEntry)? {
                    Node::Directory if self.is_empty(path) => self.names.remove(path),
                    Node::Directory => return Err(Errno::NotEmpty),
                    Node::File(_) | Node::Symlink => return Err(Errno::NotDirectory),
                };
                Ok(())
            }
            Op::Unlink(path) => {
                self.check_parent(path)?;
                match self.node(path).ok_or(Errno::NoEntry)? {
                    Node::Directory => return Err(Errno::IsDirectory),
                    Node::File(_) | Node::Symlink => self.names.remove(path),
                };
                Ok(())
            }
            Op::Link(from, to) => self.link(from, to),
            Op::Rename(from, to) => self.rename(from, to),
            Op::Hold(path) => {
                self.check_parent(path)?;
                match self.node(path).ok_or(Errno::NoEntry)? {
                    Node::Symlink => Err(Errno::Loop),
                    Node::File(_) | Node::Directory => Ok(()),
                }
            }
            Op::Release => Ok(()),
        }
    }

    fn make(&mut self, path: &str, node: Node) -> Outcome {
        self.check_parent(path)?;
        if self.node(path).is_some() {
            return Err(Errno::Exist);
        }
        self.add(path, node);
        Ok(())
    }

    fn link(&mut self, from: &str, to: &str) -> Outcome {
        self.check_parent(from)?;
        let source = self.node(from).cloned().ok_or(Errno::NoEntry)?;
        self.check_parent(to)?;
        if self.node(to).is_some() {
            return Err(Errno::Exist);
        }
        if source == Node::Directory {
            return Err(Errno::NotPermitted);
        }
        self.names.insert(to.to_owned(), self.names[from]);
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Outcome {
        self.check_parent(from)?;
        self.check_parent(to)?;
        let source = self.node(from).cloned().ok_or(Errno::NoEntry)?;
        if source == Node::Directory && (to.to_owned() + "/").starts_with(&format!("{from}/")) {
            // Onto itself is no move at all.
            return if from == to {
                Ok(())
            } else {
                Err(Errno::Invalid)
            };
        }
        // A directory that holds the source is not empty, before anything else is looked at.
        if from.starts_with(&format!("{to}/")) {
            return Err(Errno::NotEmpty);
        }
        if let Some(target) = self.node(to) {
            if self.names[from] == self.names[to] {
                return Ok(());
            }
            match (&source, target) {
                (Node::Directory, Node::Directory) if !self.is_empty(to) => {
                    return Err(Errno::NotEmpty);
                }
                (Node::Directory, Node::Directory) => {}
                (_, Node::Directory) => return Err(Errno::IsDirectory),
                (Node::Directory, _) => return Err(Errno::NotDirectory),
                (_, _) => {}
            }
        }
        let below = format!("{from}/");
        let moved: Vec<(String, usize)> = self
            .names
            .iter()
            .filter(|(name, _)| *name == from || name.starts_with(&below))
            .map(|(name, inode)| (name.clone(), *inode))
            .collect();
        for (name, inode) in moved {
            self.names.remove(&name);
            let name = format!("{to}{}", &name[from.len()..]);
            self.names.insert(name, inode);
        }
        Ok(())
    }
}

fn apply(root: &Descriptor, held: &mut Vec<Descriptor>, op: &Op) -> Outcome {
    let open = |path: &str, create, write, truncate| {
        root.open_at(
            path,
            OpenOptions {
                create,
                write,
                truncate,
                read: true,
                ..OpenOptions::default()
            },
        )
    };
    match op {
        Op::Write(path, fill) => open(path, true, true, true)?
            .write_at(0, &[&[*fill; 5]])
            .map(|_| ()),
        Op::Append(path, fill) => open(path, true, true, false)?
            .append(&[&[*fill]])
            .map(|_| ()),
        Op::Truncate(path, len) => open(path, false, true, false)?.set_len(*len),
        Op::Mkdir(path) => root.create_directory_at(path),
        Op::Symlink(path) => root.symlink_at("nowhere", path),
        Op::Rmdir(path) => root.remove_directory_at(path),
        Op::Unlink(path) => root.unlink_at(path),
        Op::Link(from, to) => root.link_at(from, root, to),
        Op::Rename(from, to) => root.rename_at(from, root, to),
        Op::Hold(path) => {
            held.push(open(path, false, false, false)?);
            Ok(())
        }
        Op::Release => {
            held.pop();
            Ok(())
        }
    }
}

/// The whole tree below `directory`, as the model has it.
fn tree(directory: &Descriptor, path: &str, found: &mut BTreeMap<String, Node>) {
    for entry in directory.list(0, usize::MAX).unwrap() {
        let below = if path.is_empty() {
            entry.name.to_string()
        } else {
            format!("{path}/{}", entry.name)
        };
        let node = match entry.kind {
            Kind::Symlink => Node::Symlink,
            Kind::File => {
                let file = directory.open_at(&entry.name, OpenOptions::default());
                let file = file.unwrap();
                let mut contents = vec![0; file.stat().unwrap().size as usize];
                file.read_at(0, &mut contents).unwrap();
                Node::File(contents)
            }
            Kind::Directory => {
                let open = directory.open_at(&entry.name, OpenOptions::default());
                tree(&open.unwrap(), &below, found);
                Node::Directory
            }
        };
        found.insert(below, node);
    }
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (path(), any::<u8>()).prop_map(|(path, fill)| Op::Write(path, fill)),
        1 => (path(), any::<u8>()).prop_map(|(path, fill)| Op::Append(path, fill)),
        3 => path().prop_map(Op::Mkdir),
        1 => path().prop_map(Op::Rmdir),
        1 => path().prop_map(Op::Unlink),
        3 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => (path(), path()).prop_map(|(from, to)| Op::Link(from, to)),
        1 => path().prop_map(Op::Symlink),
        1 => (path(), 0..20u64).prop_map(|(path, len)| Op::Truncate(path, len)),
        1 => path().prop_map(Op::Hold),
        1 => Just(Op::Release),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn behaves_as_the_model(ops in prop::collection::vec(op(), 1..60)) {
        let limits = PodLimits { memory_bytes: 0, storage_bytes: 1 << 20, inodes: 1000, sockets: 0 };
        let budget = Budget::new(1 << 20);
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let pod = PodFs::new(&limits, &budget, &[], &HostVolumes::default(), clock).unwrap();
        let root: Arc<Root> = pod.root(&RootSpec::default()).unwrap();
        let mut held = Vec::new();
        let mut model = Model::new();
        for op in &ops {
            let expected = model.apply(op);
            prop_assert_eq!(apply(&root.open(), &mut held, op), expected, "{:?}", op);
        }
        let mut found = BTreeMap::new();
        tree(&root.open(), "", &mut found);
        let expected: BTreeMap<String, Node> = model
            .names
            .iter()
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, inode)| (name.clone(), model.inodes[*inode].clone()))
            .collect();
        prop_assert_eq!(found, expected);
        held.clear();
        let reachable: std::collections::BTreeSet<usize> = model.names.values().copied().collect();
        prop_assert_eq!(pod.usage().inodes, reachable.len() as u64);
        drop((root, pod));
        prop_assert_eq!(budget.used(), 0);
    }
}
