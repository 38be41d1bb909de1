//! Buckets in a volume: a directory each, a file per key.
//!
//! A file is named by its key in hexadecimal, so that every key is a name and none is a path. A value
//! is written beside its place and renamed over it: a reader sees the old one or the new one, and a
//! full volume keeps the old one. A lock of the volume makes read-and-write operations atomic among
//! the pods of a worker that mount it, and lets nobody else wait for its disk; another worker on the
//! same directory of the host is not held by it.

use std::sync::Arc;

use super::{Error, MAX_BUCKETS, MAX_VALUE, add};
use crate::runtime::fs::descriptor::OpenOptions;
use crate::runtime::fs::errno::Errno;
use crate::runtime::fs::{Descriptor, Root};

/// Where a value is while it is written; no key's name has a dot.
const UNFINISHED: &str = "new.tmp";
const PREFIX: &str = "k";

pub(super) struct Volume {
    pub(super) root: Arc<Root>,
    /// Where the volume is mounted.
    pub(super) directory: String,
}

impl Volume {
    fn directory(&self, path: &str) -> Result<Descriptor, Errno> {
        let options = OpenOptions {
            follow: true,
            directory: true,
            read: true,
            ..OpenOptions::default()
        };
        self.root.open().open_at(path, options)
    }

    fn path(&self, bucket: &str, key: &str) -> String {
        let mut path = format!("{}/{bucket}/{PREFIX}", self.directory);
        let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half & 15)]);
        path.extend(key.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte)]));
        path
    }

    pub(super) fn open(&self, name: &str) -> Result<(), Error> {
        let path = format!("{}/{name}", self.directory);
        let root = self.root.open();
        if root.stat_at(&path, true).is_ok() {
            return Ok(());
        }
        // Whatever else is in the volume counts, too: it is the same directory.
        let others = self.directory(&self.directory)?.list(0, MAX_BUCKETS)?;
        if others.len() >= MAX_BUCKETS {
            return Err(Error::NoSuchStore);
        }
        match root.create_directory_at(&path) {
            Ok(()) | Err(Errno::Exist) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    pub(super) fn get(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.root.read_file(&self.path(bucket, key), MAX_VALUE) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::NoEntry) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn exists(&self, bucket: &str, key: &str) -> Result<bool, Error> {
        match self.root.open().stat_at(&self.path(bucket, key), true) {
            Ok(_) => Ok(true),
            Err(Errno::NoEntry) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn set(&self, bucket: &str, key: &str, value: &[u8]) -> Result<(), Error> {
        let volume = self.directory(&self.directory)?;
        let _alone = volume.alone();
        self.replace(bucket, key, value)
    }

    fn replace(&self, bucket: &str, key: &str, value: &[u8]) -> Result<(), Error> {
        let unfinished = format!("{}/{bucket}/{UNFINISHED}", self.directory);
        let root = self.root.open();
        let written = self.root.write_file(&unfinished, value);
        let placed =
            written.and_then(|()| root.rename_at(&unfinished, &root, &self.path(bucket, key)));
        placed.map_err(|error| {
            // It may not be there; what matters was told already.
            let _ = root.unlink_at(&unfinished);
            failed(error)
        })
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> Result<(), Error> {
        let volume = self.directory(&self.directory)?;
        let _alone = volume.alone();
        match self.root.open().unlink_at(&self.path(bucket, key)) {
            Ok(()) | Err(Errno::NoEntry) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn keys(
        &self,
        bucket: &str,
        from: u64,
        page: usize,
    ) -> Result<(Vec<String>, Option<u64>), Error> {
        let directory = self.directory(&format!("{}/{bucket}", self.directory))?;
        let entries = directory.list(from, page)?;
        let next = entries.last().map(|entry| entry.next);
        let keys = entries.iter().filter_map(|entry| decode(&entry.name));
        Ok((keys.collect(), next.filter(|_| entries.len() == page)))
    }

    pub(super) fn increment(&self, bucket: &str, key: &str, delta: u64) -> Result<u64, Error> {
        let volume = self.directory(&self.directory)?;
        let _alone = volume.alone();
        let sum = add(self.get(bucket, key)?.as_deref(), delta)?;
        self.replace(bucket, key, sum.to_string().as_bytes())?;
        Ok(sum)
    }
}

fn failed(error: Errno) -> Error {
    match error {
        Errno::NoSpace | Errno::NoMemory => Error::Full(error.to_string()),
        other => other.into(),
    }
}

/// The key of a file; `None` for what is not a value.
fn decode(name: &str) -> Option<String> {
    let digits = name.strip_prefix(PREFIX)?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}
