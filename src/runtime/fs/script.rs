//! The language of the filesystem's tests: one-line operations with their outcomes.
//!
//! A line is `operation => outcome`; the outcome is `ok`, a value, or the name of an [`Errno`].
//! Paths are relative to the container's root; open descriptors have names.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::descriptor::{OpenOptions, Synchronized};
use super::errno::Errno;
use super::inode::Kind;
use super::*;
use crate::runtime::spec::{HostDirectory, HostDirectoryType, MountSpec};

pub(super) const MIB: u64 = 1 << 20;

pub(super) struct Container {
    pub(super) pod: Arc<PodFs>,
    pub(super) root: Arc<Root>,
    pub(super) open: HashMap<String, Descriptor>,
    /// Whose usage is asked for, and the directory of the host that it is on.
    pub(super) host: Option<(Arc<Inode>, tempfile::TempDir)>,
}

pub(super) fn clock() -> Clock {
    Clock::manual(Timestamp::UNIX_EPOCH)
}

pub(super) fn limits() -> PodLimits {
    PodLimits {
        memory_bytes: 64 * MIB,
        storage_bytes: 16 * MIB,
        inodes: 1000,
        sockets: 0,
    }
}

pub(super) fn empty(name: &str, size_limit: Option<u64>) -> VolumeSpec {
    VolumeSpec {
        name: name.to_owned(),
        source: VolumeSource::Empty {
            size_limit,
            is_memory: false,
        },
    }
}

pub(super) fn file(path: &str, contents: &'static str) -> ProjectedFile {
    ProjectedFile {
        path: path.to_owned(),
        contents: Bytes::from_static(contents.as_bytes()),
        mode: 0o644,
    }
}

pub(super) fn mount(volume: &str, path: &str) -> MountSpec {
    MountSpec {
        volume: volume.to_owned(),
        path: path.to_owned(),
        sub_path: None,
        read_only: false,
    }
}

pub(super) fn pod(volumes: &[VolumeSpec]) -> Arc<PodFs> {
    PodFs::new(
        &limits(),
        &Budget::new(64 * MIB),
        volumes,
        &HostVolumes::default(),
        clock(),
    )
    .unwrap()
}

pub(super) fn container(pod: &Arc<PodFs>, spec: &RootSpec<'_>) -> Container {
    Container {
        pod: Arc::clone(pod),
        root: pod.root(spec).unwrap(),
        open: HashMap::new(),
        host: None,
    }
}

/// A container whose whole root is a directory of the host with a quota.
pub(super) fn hosted() -> Container {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("tmp")).unwrap();
    let place = host_directory(&directory, "", Some(16 * MIB));
    let inode = HostVolumes::default().open(&place, &clock()).unwrap();
    Container {
        root: Arc::new(Root::new(Arc::clone(&inode), false)),
        host: Some((inode, directory)),
        ..plain()
    }
}

pub(super) fn host_directory(
    root: &tempfile::TempDir,
    path: &str,
    capacity: Option<u64>,
) -> HostDirectory {
    HostDirectory {
        root: root.path().to_owned(),
        path: path.into(),
        expected: HostDirectoryType::Directory,
        capacity,
    }
}

/// The same script in memory and on a directory of the host.
#[track_caller]
pub(super) fn check_everywhere(script: &str) {
    check(&mut plain(), script);
    check(&mut hosted(), script);
}

pub(super) fn plain() -> Container {
    container(&pod(&[]), &RootSpec::default())
}

/// Runs a script and compares every outcome.
#[track_caller]
pub(super) fn check(container: &mut Container, script: &str) {
    for line in script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let (operation, expected) = line.split_once(" =>").unwrap();
        let words: Vec<&str> = operation.split(' ').collect();
        let outcome = match container.run(&words) {
            Ok(value) => value,
            Err(errno) => format!("{errno:?}"),
        };
        assert_eq!(outcome, expected.trim(), "{operation}");
    }
}

impl Container {
    fn run(&mut self, words: &[&str]) -> Result<String, Errno> {
        let root = self.root.open();
        let done = |()| "ok".to_owned();
        match *words {
            ["mkdir", path] => root.create_directory_at(path).map(done),
            ["rmdir", path] => root.remove_directory_at(path).map(done),
            ["rm", path] => root.unlink_at(path).map(done),
            ["mv", from, to] => root.rename_at(from, &root, to).map(done),
            ["ln", from, to] => root.link_at(from, &root, to).map(done),
            ["symlink", target, path] => root.symlink_at(target, path).map(done),
            ["readlink", path] => root.read_link_at(path),
            ["write", path, text] => self.root.write_file(path, text.as_bytes()).map(done),
            ["cat", path] => self.root.read_file(path, 1 << 20).map(text),
            ["ls", path] => self.list(path),
            ["stat", path] => root.stat_at(path, true).map(describe),
            ["lstat", path] => root.stat_at(path, false).map(describe),
            ["open", name, path, mode] => self.open(name, path, mode),
            ["close", name] => {
                self.open.remove(name);
                Ok("ok".to_owned())
            }
            ["read", name] => read(&self.open[name]),
            ["pwrite", name, offset, data] => self.open[name]
                .write_at(offset.parse().unwrap(), &[data.as_bytes()])
                .map(|count| count.to_string()),
            ["append", name, data] => self.open[name]
                .append(&[data.as_bytes()])
                .map(|(_, end)| end.to_string()),
            ["fill", name, size] => self.open[name]
                .write_at(0, &[&vec![1; size.parse().unwrap()]])
                .map(|count| count.to_string()),
            ["allocate", name, offset, len] => self.open[name]
                .allocate(offset.parse().unwrap(), len.parse().unwrap())
                .map(done),
            ["truncate", name, len] => self.open[name].set_len(len.parse().unwrap()).map(done),
            ["fstat", name] => self.open[name].stat().map(describe),
            ["in", name, "write", path] => self.open[name]
                .open_at(path, options("cw"))
                .map(|_| "ok".to_owned()),
            ["in", name, "stat", path] => self.open[name].stat_at(path, true).map(describe),
            ["in", name, "mv", from, to] => self.open[name].rename_at(from, &root, to).map(done),
            ["inodes"] => Ok(self.usage().inodes.to_string()),
            ["bytes"] => Ok(self.usage().bytes.to_string()),
            _ => panic!("no such operation: {words:?}"),
        }
    }

    fn usage(&self) -> Usage {
        match &self.host {
            None => self.pod.usage(),
            Some((root, _)) => Usage {
                bytes: root.filesystem.contents().used(),
                // A volume's root is not the pod's to remove and costs it nothing.
                inodes: root.filesystem.inodes().used() + 1,
            },
        }
    }

    fn open(&mut self, name: &str, path: &str, mode: &str) -> Result<String, Errno> {
        let opened = self.root.open().open_at(path, options(mode))?;
        self.open.insert(name.to_owned(), opened);
        Ok("ok".to_owned())
    }

    fn list(&self, path: &str) -> Result<String, Errno> {
        let directory = self.root.open().open_at(path, options("d"))?;
        let mut names: Vec<String> = directory
            .list(0, usize::MAX)?
            .into_iter()
            .map(|entry| entry.name.to_string())
            .collect();
        names.sort();
        Ok(names.join(","))
    }
}

/// `r`ead, `w`rite, `c`reate, e`x`clusive, `t`runcate, `d`irectory, `n`ofollow, `m`utate; never synchronized.
pub(super) fn options(mode: &str) -> OpenOptions {
    OpenOptions {
        follow: !mode.contains('n'),
        create: mode.contains('c'),
        exclusive: mode.contains('x'),
        truncate: mode.contains('t'),
        directory: mode.contains('d'),
        read: mode.contains('r'),
        write: mode.contains('w'),
        mutate: mode.contains('m'),
        synchronized: Synchronized::default(),
    }
}

pub(super) fn describe(stat: inode::Stat) -> String {
    let kind = match stat.kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Symlink => "link",
    };
    format!("{kind} size={} links={}", stat.size, stat.links)
}

pub(super) fn read(file: &Descriptor) -> Result<String, Errno> {
    let mut buffer = vec![0; 4096];
    let count = file.read_at(0, &mut buffer)?;
    buffer.truncate(count);
    Ok(text(buffer))
}

pub(super) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().replace('\0', "0")
}
