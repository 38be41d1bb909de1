//! Key-value buckets for `wasi:keyvalue`: what a pod's `open` gives.
//!
//! Two places, chosen per pod:
//!
//! | | in memory (default) | on a volume |
//! |---|---|---|
//! | who shares a bucket | the namespace's pods **of this worker** | who mounts the volume |
//! | how long it lives | while one of those pods is here | as long as the volume |
//! | bound | [`NAMESPACE_BYTES`] a namespace, [`WORKER_BYTES`] in all | the volume's quota |
//! | `increment` is atomic among | all who share it | the pods of this worker |
//!
//! **Nothing is replicated between workers.** Two pods of one namespace on two workers have two
//! stores, and a pod that moves finds an empty one; who needs more than a cache gives the pod a
//! volume, or calls a database. Within one place every operation is immediate: a write is seen by the next
//! read of anybody. A store's memory outlives the pods that wrote it, so it is charged to the worker's
//! own account and not to a pod's.
//!
//! Refused in words: names that are no bucket names, keys and values above the bounds, and writes
//! that find no room. Absent: watching, time to live, compare-and-swap.

mod memory;
mod volume;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use self::memory::Namespace;
use self::volume::Volume;
use super::budget::Budget;
use super::fs::{self, PodFs, Root, RootSpec};
use super::spec::MountSpec;

/// All namespaces of a worker together.
const WORKER_BYTES: u64 = 512 << 20;
/// One namespace on one worker.
const NAMESPACE_BYTES: u64 = 64 << 20;
/// Buckets of one namespace or volume.
const MAX_BUCKETS: usize = 64;
const MAX_NAME: usize = 63;
/// Bytes of a key; hexadecimal, it is a file name.
pub const MAX_KEY: usize = 120;
/// Bytes of a value.
pub const MAX_VALUE: usize = 1 << 20;
/// Where a pod's store is mounted.
const MOUNTED: &str = "run/wasmorch/keyvalue";
/// Keys of one page of a listing.
const PAGE: usize = 1000;

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The name cannot be a bucket's, or there are too many buckets.
    #[error("no such store")]
    NoSuchStore,
    #[error("a key has at most {MAX_KEY} bytes, this one has {0}")]
    KeyTooLong(usize),
    #[error("a value has at most {MAX_VALUE} bytes, this one has {0}")]
    ValueTooLarge(usize),
    #[error("the value is not a number")]
    NotANumber,
    #[error("the sum passes 64 bits")]
    Overflow,
    #[error("the store is full: {0}")]
    Full(String),
    #[error("use the volume of the store: {0}")]
    Volume(#[from] fs::errno::Errno),
}

/// The stores in memory of one worker, by namespace.
pub struct Stores {
    namespaces: Mutex<HashMap<String, Weak<Namespace>>>,
    budget: Arc<Budget>,
}

impl Default for Stores {
    fn default() -> Self {
        Self {
            namespaces: Mutex::default(),
            budget: Budget::new(WORKER_BYTES),
        }
    }
}

impl Stores {
    /// The store of a pod: its namespace's, kept for as long as one of them is held.
    pub fn of_namespace(&self, name: &str) -> Store {
        let mut namespaces = self
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = namespaces.get(name).and_then(Weak::upgrade) {
            return Store(Place::Memory(namespace));
        }
        namespaces.retain(|_, namespace| namespace.strong_count() > 0);
        let budget = Budget::within(&self.budget, NAMESPACE_BYTES);
        let namespace = Arc::new(Namespace::new(budget));
        namespaces.insert(name.to_owned(), Arc::downgrade(&namespace));
        Store(Place::Memory(namespace))
    }
}

/// What a pod's containers open buckets in; clones are the same store.
#[derive(Clone)]
pub struct Store(Place);

#[derive(Clone)]
enum Place {
    Memory(Arc<Namespace>),
    Volume(Arc<Volume>),
}

/// One bucket.
#[derive(Clone)]
pub struct Bucket {
    place: Place,
    name: String,
}

impl Store {
    /// A store in a volume of a pod, which the host mounts for itself.
    pub fn of_volume(fs: &PodFs, volume: &str) -> Result<Self, fs::Error> {
        let mount = MountSpec {
            volume: volume.to_owned(),
            path: format!("/{MOUNTED}"),
            sub_path: None,
            read_only: false,
        };
        let root = fs.root(&RootSpec {
            mounts: &[mount],
            ..RootSpec::default()
        })?;
        Ok(Self::on_volume(root, MOUNTED))
    }

    /// A store in a directory of the pod's files, a mounted volume; without `/` at its ends.
    fn on_volume(root: Arc<Root>, directory: &str) -> Self {
        let directory = directory.to_owned();
        Self(Place::Volume(Arc::new(Volume { root, directory })))
    }

    /// A bucket, made if it is new. No name is the name `default`.
    pub fn open(&self, name: &str) -> Result<Bucket, Error> {
        let name = if name.is_empty() { "default" } else { name };
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.len() > MAX_NAME || name.starts_with('.') || !name.bytes().all(is_fit) {
            return Err(Error::NoSuchStore);
        }
        match &self.0 {
            Place::Memory(namespace) => namespace.open(name)?,
            Place::Volume(volume) => volume.open(name)?,
        }
        Ok(Bucket {
            place: self.0.clone(),
            name: name.to_owned(),
        })
    }
}

impl Bucket {
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        check_key(key)?;
        match &self.place {
            Place::Memory(namespace) => Ok(namespace.get(&self.name, key)),
            Place::Volume(volume) => volume.get(&self.name, key),
        }
    }

    pub fn set(&self, key: &str, value: Vec<u8>) -> Result<(), Error> {
        check_key(key)?;
        if value.len() > MAX_VALUE {
            return Err(Error::ValueTooLarge(value.len()));
        }
        match &self.place {
            Place::Memory(namespace) => namespace.set(&self.name, key, value),
            Place::Volume(volume) => volume.set(&self.name, key, &value),
        }
    }

    /// Removing what is not there is no error.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        check_key(key)?;
        match &self.place {
            Place::Memory(namespace) => {
                namespace.delete(&self.name, key);
                Ok(())
            }
            Place::Volume(volume) => volume.delete(&self.name, key),
        }
    }

    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        check_key(key)?;
        match &self.place {
            Place::Memory(namespace) => Ok(namespace.exists(&self.name, key)),
            Place::Volume(volume) => volume.exists(&self.name, key),
        }
    }

    /// A page of keys from a place in the listing, and where the next one begins. Keys that come
    /// and go between two pages may be missed or told twice.
    pub fn keys(&self, from: u64) -> Result<(Vec<String>, Option<u64>), Error> {
        self.page(from, PAGE)
    }

    fn page(&self, from: u64, page: usize) -> Result<(Vec<String>, Option<u64>), Error> {
        match &self.place {
            Place::Memory(namespace) => Ok(namespace.keys(&self.name, from, page)),
            Place::Volume(volume) => volume.keys(&self.name, from, page),
        }
    }

    /// Adds to a number, which is kept as decimal text; what is not there is zero.
    pub fn increment(&self, key: &str, delta: u64) -> Result<u64, Error> {
        check_key(key)?;
        match &self.place {
            Place::Memory(namespace) => namespace.increment(&self.name, key, delta),
            Place::Volume(volume) => volume.increment(&self.name, key, delta),
        }
    }
}

fn check_key(key: &str) -> Result<(), Error> {
    if key.len() > MAX_KEY {
        return Err(Error::KeyTooLong(key.len()));
    }
    Ok(())
}

fn add(old: Option<&[u8]>, delta: u64) -> Result<u64, Error> {
    let old = match old {
        None => 0,
        Some(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
            .ok_or(Error::NotANumber)?,
    };
    old.checked_add(delta).ok_or(Error::Overflow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::runtime::fs::HostVolumes;
    use crate::runtime::spec::PodLimits;

    fn volume(bytes: u64) -> Arc<Root> {
        let limits = PodLimits {
            memory_bytes: bytes,
            storage_bytes: bytes,
            inodes: 1000,
            sockets: 1,
        };
        let memory = Budget::new(bytes);
        let fs = PodFs::new(
            &limits,
            &memory,
            &[],
            &HostVolumes::default(),
            Clock::system(),
        )
        .unwrap();
        fs.root(&RootSpec::default()).unwrap()
    }

    #[test]
    fn both_places_do_the_same() {
        let stores = Stores::default();
        for store in [
            stores.of_namespace("default"),
            Store::on_volume(volume(16 << 20), "tmp"),
        ] {
            let bucket = store.open("").unwrap();
            assert_eq!(bucket.get("a"), Ok(None));
            assert_eq!(bucket.exists("a"), Ok(false));
            bucket.set("a", b"one".to_vec()).unwrap();
            bucket.set("a", b"two".to_vec()).unwrap();
            bucket.set("../b/\u{fc}", Vec::new()).unwrap();
            bucket.set("", b"no key".to_vec()).unwrap();
            let same = store.open("default").unwrap();
            assert_eq!(same.get("a").unwrap().unwrap(), b"two");
            assert_eq!(same.get("../b/\u{fc}").unwrap().unwrap(), b"");
            assert_eq!(store.open("other").unwrap().get("a"), Ok(None));
            let (mut keys, next) = same.keys(0).unwrap();
            keys.sort();
            assert_eq!(
                (keys.as_slice(), next),
                (&["", "../b/\u{fc}", "a"].map(str::to_owned)[..], None)
            );
            same.delete("a").unwrap();
            same.delete("a").unwrap();
            assert_eq!(bucket.exists("a"), Ok(false));
            assert_eq!(bucket.increment("n", 5), Ok(5));
            assert_eq!(same.increment("n", 2), Ok(7));
            assert_eq!(bucket.get("n").unwrap().unwrap(), b"7");
            assert_eq!(bucket.increment("n", u64::MAX), Err(Error::Overflow));
            assert_eq!(bucket.increment("", 1), Err(Error::NotANumber));
            let long = "k".repeat(MAX_KEY + 1);
            assert_eq!(bucket.get(&long), Err(Error::KeyTooLong(MAX_KEY + 1)));
            let large = bucket.set("large", vec![0; MAX_VALUE + 1]);
            assert_eq!(large, Err(Error::ValueTooLarge(MAX_VALUE + 1)));
            for name in ["a/b", "..", ".hidden", "\u{fc}", &"n".repeat(64)] {
                assert_eq!(store.open(name).err(), Some(Error::NoSuchStore), "{name}");
            }
        }
    }

    #[test]
    fn long_listings_come_in_pages() {
        let stores = Stores::default();
        for store in [
            stores.of_namespace("default"),
            Store::on_volume(volume(16 << 20), "tmp"),
        ] {
            let bucket = store.open("pages").unwrap();
            for number in 0..900 {
                bucket.set(&format!("{number:04}"), vec![1]).unwrap();
            }
            let mut all = Vec::new();
            let mut from = Some(0);
            while let Some(at) = from {
                let (keys, next) = bucket.page(at, 400).unwrap();
                assert!(keys.len() <= 400);
                all.extend(keys);
                from = next;
            }
            all.sort();
            assert_eq!(all.len(), 900);
            all.dedup();
            assert_eq!(all.len(), 900);
        }
    }

    #[test]
    fn a_namespace_is_bounded_apart_from_others_and_forgotten_with_its_last_pod() {
        let stores = Stores::default();
        let (first, second) = (stores.of_namespace("a"), stores.of_namespace("a"));
        let other = stores.of_namespace("b");
        first.open("x").unwrap().set("k", vec![1]).unwrap();
        assert_eq!(second.open("x").unwrap().exists("k"), Ok(true));
        assert_eq!(other.open("x").unwrap().exists("k"), Ok(false));
        let bucket = second.open("big").unwrap();
        let fill = || (0..100).try_for_each(|n| bucket.set(&n.to_string(), vec![0; 1 << 20]));
        assert!(matches!(fill(), Err(Error::Full(_))));
        bucket
            .set("0", vec![0; 1 << 20])
            .expect("replacing takes no more room");
        other.open("x").unwrap().set("k", vec![1]).unwrap();
        let many = (0..100).try_for_each(|n| first.open(&n.to_string()).map(drop));
        assert_eq!(many, Err(Error::NoSuchStore));
        drop((first, second, bucket));
        assert_eq!(
            stores.of_namespace("a").open("x").unwrap().exists("k"),
            Ok(false)
        );
        drop(other);
        assert_eq!(stores.budget.used(), 0);
    }

    #[test]
    fn a_change_waits_for_others_of_its_own_volume_only() {
        let (slow, other) = (volume(1 << 20), volume(1 << 20));
        let changing = slow.open();
        let alone = changing.alone();
        let waiting = std::thread::spawn({
            let store = Store::on_volume(Arc::clone(&slow), "tmp");
            move || store.open("").unwrap().increment("n", 1)
        });
        let quick = Store::on_volume(other, "tmp").open("").unwrap();
        assert_eq!(quick.increment("n", 1), Ok(1));
        assert!(!waiting.is_finished());
        drop(alone);
        assert_eq!(waiting.join().unwrap(), Ok(1));
    }

    #[test]
    fn a_full_volume_is_told_and_keeps_what_it_had() {
        let store = Store::on_volume(volume(1 << 20), "tmp");
        let bucket = store.open("").unwrap();
        bucket.set("a", vec![7; 100_000]).unwrap();
        let full = bucket.set("a", vec![8; 1_000_000]);
        assert!(matches!(full, Err(Error::Full(_))), "{full:?}");
        assert_eq!(bucket.get("a").unwrap().unwrap(), vec![7; 100_000]);
        bucket.set("b", vec![8; 100_000]).unwrap();
    }
}
