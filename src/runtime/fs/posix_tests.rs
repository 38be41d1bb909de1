//! What POSIX says, one table per subject: a script of one-line operations with their outcomes.
//!
//! A line is `operation => outcome`; the outcome is `ok`, a value, or the name of an [`Errno`].
//! Paths are relative to the container's root; `@name` is an open descriptor.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::descriptor::OpenOptions;
use super::errno::Errno;
use super::inode::Kind;
use super::*;
use crate::runtime::spec::MountSpec;

const MIB: u64 = 1 << 20;

struct Container {
    pod: Arc<PodFs>,
    root: Arc<Root>,
    open: HashMap<String, Descriptor>,
}

fn clock() -> Clock {
    Clock::manual(Timestamp::UNIX_EPOCH)
}

fn limits() -> PodLimits {
    PodLimits {
        memory_bytes: 64 * MIB,
        storage_bytes: 16 * MIB,
        inodes: 1000,
        sockets: 0,
    }
}

fn empty(name: &str, size_limit: Option<u64>) -> VolumeSpec {
    VolumeSpec {
        name: name.to_owned(),
        source: VolumeSource::Empty { size_limit },
    }
}

fn file(path: &str, contents: &'static str) -> ProjectedFile {
    ProjectedFile {
        path: path.to_owned(),
        contents: Bytes::from_static(contents.as_bytes()),
        mode: 0o644,
    }
}

fn mount(volume: &str, path: &str) -> MountSpec {
    MountSpec {
        volume: volume.to_owned(),
        path: path.to_owned(),
        sub_path: None,
        read_only: false,
    }
}

fn pod(volumes: &[VolumeSpec]) -> Arc<PodFs> {
    PodFs::new(&limits(), &Budget::new(64 * MIB), volumes, clock()).unwrap()
}

fn container(pod: &Arc<PodFs>, spec: &RootSpec<'_>) -> Container {
    Container {
        pod: Arc::clone(pod),
        root: pod.root(spec).unwrap(),
        open: HashMap::new(),
    }
}

fn plain() -> Container {
    container(&pod(&[]), &RootSpec::default())
}

/// Runs a script and compares every outcome.
#[track_caller]
fn check(container: &mut Container, script: &str) {
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
            ["truncate", name, len] => self.open[name].set_len(len.parse().unwrap()).map(done),
            ["fstat", name] => self.open[name].stat().map(describe),
            ["in", name, "write", path] => self.open[name]
                .open_at(path, options("cw"))
                .map(|_| "ok".to_owned()),
            ["in", name, "stat", path] => self.open[name].stat_at(path, true).map(describe),
            ["in", name, "mv", from, to] => self.open[name].rename_at(from, &root, to).map(done),
            ["inodes"] => Ok(self.pod.usage().inodes.to_string()),
            ["bytes"] => Ok(self.pod.usage().bytes.to_string()),
            _ => panic!("no such operation: {words:?}"),
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

/// `r`ead, `w`rite, `c`reate, e`x`clusive, `t`runcate, `d`irectory, `n`ofollow, `m`utate.
fn options(mode: &str) -> OpenOptions {
    OpenOptions {
        follow: !mode.contains('n'),
        create: mode.contains('c'),
        exclusive: mode.contains('x'),
        truncate: mode.contains('t'),
        directory: mode.contains('d'),
        read: mode.contains('r'),
        write: mode.contains('w'),
        mutate: mode.contains('m'),
    }
}

fn describe(stat: inode::Stat) -> String {
    let kind = match stat.kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Symlink => "link",
    };
    format!("{kind} size={} links={}", stat.size, stat.links)
}

fn read(file: &Descriptor) -> Result<String, Errno> {
    let mut buffer = vec![0; 4096];
    let count = file.read_at(0, &mut buffer)?;
    buffer.truncate(count);
    Ok(text(buffer))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap().replace('\0', "0")
}

#[test]
fn files_are_made_read_and_removed() {
    check(
        &mut plain(),
        "stat . => dir size=0 links=3
         ls . => tmp
         cat a => NoEntry
         write a hello => ok
         cat a => hello
         stat a => file size=5 links=1
         write a by => ok
         cat a => by
         rm a => ok
         rm a => NoEntry
         mkdir d => ok
         mkdir d => Exist
         write d x => IsDirectory
         rm d => IsDirectory
         write d/f x => ok
         rmdir d => NotEmpty
         rmdir d/f => NotDirectory
         rm d/f => ok
         rmdir d => ok
         rmdir d => NoEntry
         mkdir no/d => NoEntry
         inodes => 2
         bytes => 0",
    );
}

#[test]
fn opening_follows_the_flags() {
    check(
        &mut plain(),
        "open f a r => NoEntry
         open f a cxw => ok
         open f a cxw => Exist
         pwrite f 0 hello => 5
         read f => BadDescriptor
         open f a r => ok
         read f => hello
         pwrite f 0 x => BadDescriptor
         truncate f 0 => Invalid
         open f a rwt => ok
         read f => 
         open f a d => NotDirectory
         open f a/ r => NotDirectory
         open f new/ cw => IsDirectory
         open f tmp c => IsDirectory
         open f tmp w => IsDirectory
         open f tmp rd => ok
         read f => IsDirectory
         open f tmp cd => Invalid",
    );
}

#[test]
fn what_is_unlinked_lives_while_open() {
    check(
        &mut plain(),
        "open f a crw => ok
         pwrite f 0 hello => 5
         rm a => ok
         cat a => NoEntry
         read f => hello
         pwrite f 5 ! => 1
         read f => hello!
         fstat f => file size=6 links=0
         inodes => 3
         close f => ok
         inodes => 2
         bytes => 0
         mkdir d => ok
         open d d d => ok
         rmdir d => ok
         in d write x => NoEntry
         in d stat . => dir size=0 links=0",
    );
}

#[test]
fn rename_replaces_what_may_be_replaced() {
    check(
        &mut plain(),
        "write a 1 => ok
         write b 2 => ok
         open old b r => ok
         mv a b => ok
         cat b => 1
         read old => 2
         fstat old => file size=1 links=0
         ls . => b,tmp
         mv b b => ok
         mv no b => NoEntry
         mkdir d => ok
         mkdir e => ok
         mv d e => ok
         ls . => b,e,tmp
         mkdir d => ok
         write e/f x => ok
         mv d e => NotEmpty
         mv d e/f => NotDirectory
         mv b d => IsDirectory
         mv e/f d/f => ok
         mv d e/d => ok
         cat e/d/f => x
         mv e e/d/x => Invalid
         mv e e => ok
         mv e/d e => NotEmpty
         mv tmp/ x/ => ok
         mv b/ y => NotDirectory
         mv b y/ => NotDirectory
         mv . z => Busy",
    );
}

#[test]
fn a_directory_cannot_be_moved_below_itself_through_a_descriptor() {
    check(
        &mut plain(),
        "mkdir a => ok
         mkdir a/b => ok
         open inner a/b d => ok
         mv a a/b/c => Invalid
         mkdir a/b/x => ok
         in inner mv x y => ok
         stat y => dir size=0 links=2
         stat a/b => dir size=0 links=2",
    );
}

#[test]
fn hard_links_share_an_inode() {
    check(
        &mut plain(),
        "write a x => ok
         ln a b => ok
         stat a => file size=1 links=2
         write b yy => ok
         cat a => yy
         ln a b => Exist
         ln a a => Exist
         ln tmp t => NotPermitted
         ln no n => NoEntry
         ln a c/ => NoEntry
         mv a b => ok
         ls . => a,b,tmp
         rm a => ok
         stat b => file size=2 links=1",
    );
}

#[test]
fn symbolic_links_are_followed_and_bounded() {
    check(
        &mut plain(),
        "mkdir d => ok
         write d/f x => ok
         symlink d/f l => ok
         cat l => x
         lstat l => link size=3 links=1
         stat l => file size=1 links=1
         readlink l => d/f
         readlink d/f => Invalid
         open f l rn => Loop
         symlink d dl => ok
         cat dl/f => x
         ls dl => f
         lstat dl/ => dir size=0 links=2
         rm dl/ => NotDirectory
         rmdir dl => NotDirectory
         symlink ../d/f d/up => ok
         cat d/up => x
         symlink loop loop => ok
         cat loop => Loop
         symlink b2 b1 => ok
         symlink b1 b2 => ok
         stat b1/x => Loop
         symlink nowhere dangling => ok
         cat dangling => NoEntry
         write dangling made => ok
         cat nowhere => made
         open f dangling cxw => Exist
         symlink /etc abs => NotPermitted
         symlink target new/ => NoEntry
         symlink target d/ => Exist
         symlink target d/f/ => NotDirectory
         symlink .. out => ok
         rmdir out => NotDirectory
         rmdir out/ => NotPermitted
         rm l => ok
         cat d/f => x",
    );
}

#[test]
fn forty_links_are_followed_and_not_one_more() {
    let mut container = plain();
    check(&mut container, "write l0 x => ok");
    for number in 1..=41 {
        let line = format!("symlink l{} l{number} => ok", number - 1);
        check(&mut container, &line);
    }
    check(&mut container, "cat l40 => x\ncat l41 => Loop");
}

#[test]
fn nothing_outside_the_start_is_reached() {
    let mut container = plain();
    check(
        &mut container,
        "mkdir jail => ok
         write secret s => ok
         stat .. => NotPermitted
         stat tmp/.. => dir size=0 links=4
         stat tmp/../../secret => NotPermitted
         stat /tmp => NotPermitted
         symlink ../secret jail/out => ok
         cat jail/out => s
         open j jail d => ok
         in j stat out => NotPermitted
         in j stat .. => NotPermitted
         in j stat ./. => dir size=0 links=2
         in j write ../x => NotPermitted",
    );
}

#[test]
fn names_and_paths_are_bounded() {
    let mut container = plain();
    let name = "n".repeat(255);
    check(
        &mut container,
        &format!(
            "mkdir {name} => ok
             mkdir {name}n => NameTooLong
             stat {} => NameTooLong
             stat {} => dir size=0 links=4",
            "./".repeat(2048),
            "./".repeat(2047),
        ),
    );
    let root = container.root.open();
    assert_eq!(root.create_directory_at(""), Err(Errno::NoEntry));
    assert_eq!(root.create_directory_at("a\0b"), Err(Errno::Invalid));
}

#[test]
fn appends_and_holes() {
    check(
        &mut plain(),
        "open a log crw => ok
         open b log rw => ok
         append a one => 3
         append b two => 6
         read a => onetwo
         pwrite a 8 x => 1
         read a => onetwo00x
         truncate a 2 => ok
         truncate a 4 => ok
         read b => on00
         pwrite b 4000000000000 x => 1
         fstat b => file size=4000000000001 links=1
         truncate b 9223372036854775807 => ok
         append b x => FileTooLarge
         truncate b 9223372036854775808 => FileTooLarge",
    );
}

#[test]
fn a_full_disk_says_so_and_recovers() {
    let pod = pod(&[empty("small", Some(MIB))]);
    let mounts = [mount("small", "/small")];
    let spec = RootSpec {
        mounts: &mounts,
        ..RootSpec::default()
    };
    check(
        &mut container(&pod, &spec),
        "open f small/f crw => ok
         fill f 1048576 => 1048576
         append f x => NoSpace
         write small/g x => NoSpace
         write elsewhere x => ok
         open big big crw => ok
         fill big 20000000 => 15663104
         fill big 1 => 1
         bytes => 16711744
         rm small/f => ok
         write small/g x => NoSpace
         close f => ok
         write small/g x => ok",
    );
}

#[test]
fn inodes_run_out_too() {
    let mut container = plain();
    for number in 2..1000 {
        check(&mut container, &format!("mkdir tmp/{number} => ok"));
    }
    check(
        &mut container,
        "mkdir more => NoSpace
         symlink a more => NoSpace
         rmdir tmp/7 => ok
         mkdir more => ok",
    );
}

#[test]
fn containers_share_the_root_and_mount_apart() {
    let pod = pod(&[empty("data", None), empty("other", None)]);
    let writer_mounts = [mount("data", "/data")];
    let reader_mounts = [
        MountSpec {
            read_only: true,
            ..mount("data", "/srv/data")
        },
        mount("other", "/data"),
    ];
    let mut writer = container(
        &pod,
        &RootSpec {
            mounts: &writer_mounts,
            ..RootSpec::default()
        },
    );
    let mut reader = container(
        &pod,
        &RootSpec {
            mounts: &reader_mounts,
            read_only: true,
            working_dir: Some("/srv"),
            ..RootSpec::default()
        },
    );
    check(
        &mut writer,
        "write data/f x => ok
         write shared y => ok
         mv data/f f => CrossDevice
         ln data/f f => CrossDevice
         mv data/f data/g => ok
         rmdir data => Busy
         mv data d => Busy
         stat srv/data => dir size=0 links=2
         rmdir srv/data => Busy
         mv srv s => ok
         mv s srv => ok",
    );
    check(
        &mut reader,
        "cat srv/data/g => x
         ls data => 
         cat shared => y
         write shared z => ReadOnly
         write new z => ReadOnly
         rm shared => ReadOnly
         mkdir new => ReadOnly
         mv shared s => ReadOnly
         write srv/data/g z => ReadOnly
         open f srv/data/g t => ReadOnly
         rm srv/data/g => ReadOnly
         write data/own z => ok
         cat srv/../data/own => z",
    );
    let names: Vec<String> = reader
        .root
        .preopens()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, [".", "/"]);
    drop(reader);
    check(&mut writer, "rmdir srv/data => ok");
}

#[test]
fn a_renamed_parent_keeps_the_mount() {
    let pod = pod(&[empty("data", None)]);
    let mounts = [mount("data", "/a/b")];
    let spec = RootSpec {
        mounts: &mounts,
        ..RootSpec::default()
    };
    check(
        &mut container(&pod, &spec),
        "write a/b/f x => ok
         mv a c => ok
         cat c/b/f => x",
    );
}

#[test]
fn projected_files_are_swapped_at_once() {
    let files = vec![file("a.conf", "1"), file("sub/b.conf", "1")];
    let volume = VolumeSpec {
        name: "config".to_owned(),
        source: VolumeSource::Files(files),
    };
    let pod = pod(&[volume]);
    let mounts = [
        mount("config", "/etc/app"),
        MountSpec {
            sub_path: Some("sub/b.conf".to_owned()),
            ..mount("config", "/etc/b.conf")
        },
    ];
    let mut container = container(
        &pod,
        &RootSpec {
            mounts: &mounts,
            ..RootSpec::default()
        },
    );
    check(
        &mut container,
        "open old etc/app/a.conf r => ok
         ls etc/app => a.conf,sub
         write etc/app/a.conf x => ReadOnly
         cat etc/b.conf => 1",
    );
    pod.update_volume("config", &[file("a.conf", "2"), file("c.conf", "2")])
        .unwrap();
    check(
        &mut container,
        "cat etc/app/a.conf => 2
         ls etc/app => a.conf,c.conf
         read old => 1
         cat etc/b.conf => 1",
    );
    assert!(matches!(
        pod.update_volume("none", &[]),
        Err(Error::NoSuchVolume(_))
    ));
}

#[test]
fn sub_paths_are_made_and_confined() {
    let pod = pod(&[empty("data", None)]);
    let sub = |path: &str| MountSpec {
        sub_path: Some(path.to_owned()),
        ..mount("data", "/mnt")
    };
    let of = |mounts: &[MountSpec]| {
        pod.root(&RootSpec {
            mounts,
            ..RootSpec::default()
        })
    };
    of(&[sub("x/y")])
        .unwrap()
        .write_file("mnt/f", b"1")
        .unwrap();
    let whole = of(&[mount("data", "/mnt")]).unwrap();
    assert_eq!(whole.read_file("mnt/x/y/f", 10).unwrap(), b"1");
    assert!(matches!(of(&[sub("../x")]), Err(Error::SubPath { .. })));
    assert!(matches!(of(&[sub("/x")]), Err(Error::SubPath { .. })));
    assert!(matches!(
        of(&[mount("data", "relative")]),
        Err(Error::NotAbsolute { .. })
    ));
}

#[test]
fn an_image_is_private_to_its_container_and_copied_on_write() {
    let pod = pod(&[]);
    let mut image = LayerBuilder::new(std::time::SystemTime::UNIX_EPOCH);
    let big = Bytes::from(vec![b'x'; MIB as usize]);
    image.file("usr/lib/big", big).unwrap();
    image
        .file("usr/lib/a", Bytes::from_static(b"image"))
        .unwrap();
    image.symlink("lib", "/usr/lib").unwrap();
    let image = image.build();
    let spec = RootSpec {
        image: Some(&image),
        ..RootSpec::default()
    };
    let before = pod.usage();
    let mut first = container(&pod, &spec);
    let mut second = container(&pod, &spec);
    let mut bare = container(&pod, &RootSpec::default());
    check(
        &mut first,
        "cat usr/lib/a => image
         cat lib/a => image
         stat usr => dir size=0 links=3
         bytes => 0
         write usr/lib/a mine => ok
         cat lib/a => mine
         rm usr/lib/big => ok
         mkdir usr/lib/new => ok
         ls usr/lib => a,new
         write shared s => ok",
    );
    check(
        &mut second,
        "cat usr/lib/a => image
         ls usr/lib => a,big
         cat shared => s
         open jail usr d => ok
         in jail stat lib/a => file size=5 links=1",
    );
    check(&mut bare, "ls usr => \nrm shared => ok");
    drop((first, second, bare));
    // The mount points themselves stay in the shared root.
    assert_eq!(pod.usage().bytes, before.bytes);
    assert_eq!(pod.usage().inodes, before.inodes + 2);
}

#[test]
fn listings_survive_changes() {
    let mut container = plain();
    for number in 0..100 {
        check(&mut container, &format!("write tmp/{number} x => ok"));
    }
    let directory = container.root.open().open_at("tmp", options("d")).unwrap();
    let mut seen = Vec::new();
    let mut next = 0;
    loop {
        let entries = directory.list(next, 7).unwrap();
        let Some(last) = entries.last() else { break };
        next = last.next;
        // What was listed is removed, and as much is added, while the listing goes on.
        for entry in entries {
            let number: usize = entry.name.parse().unwrap();
            if number < 100 {
                directory.unlink_at(&entry.name).unwrap();
                let new = (number + 1000).to_string();
                directory.open_at(&new, options("cw")).unwrap();
            }
            seen.push(number);
        }
    }
    let old: Vec<usize> = seen
        .iter()
        .copied()
        .filter(|number| *number < 100)
        .collect();
    assert_eq!(old, (0..100).collect::<Vec<_>>());
    let mut unique = seen.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), seen.len(), "nothing is listed twice");
}

#[test]
fn times_follow_the_clock() {
    let clock = clock();
    let pod = PodFs::new(&limits(), &Budget::new(MIB), &[], clock.clone()).unwrap();
    let root = pod.root(&RootSpec::default()).unwrap();
    let seconds = |path: &str| {
        let times = root.open().stat_at(path, false).unwrap().times;
        [times.accessed, times.modified, times.changed].map(|time| {
            let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH);
            since.unwrap().as_secs()
        })
    };
    let tick = || clock.advance(std::time::Duration::from_secs(10));
    root.write_file("a", b"x").unwrap();
    tick();
    root.read_file("a", 1).unwrap();
    assert_eq!(seconds("a"), [10, 0, 0]);
    tick();
    root.read_file("a", 1).unwrap();
    assert_eq!(
        seconds("a"),
        [10, 0, 0],
        "only the first access after a change is noted"
    );
    root.write_file("a", b"y").unwrap();
    assert_eq!(seconds("a"), [10, 20, 20]);
    tick();
    let at = inode::NewTime::At(std::time::SystemTime::UNIX_EPOCH);
    root.open()
        .set_times_at("a", true, inode::NewTime::Keep, at)
        .unwrap();
    assert_eq!(seconds("a"), [10, 0, 30]);
    tick();
    root.open().rename_at("a", &root.open(), "b").unwrap();
    assert_eq!(seconds("b"), [10, 0, 40]);
    assert_eq!(seconds("."), [0, 40, 40]);
}

#[test]
fn metadata_hash_changes_with_the_file() {
    let container = plain();
    container.root.write_file("a", b"x").unwrap();
    let root = container.root.open();
    let first = root.metadata_hash_at("a", false).unwrap();
    assert_eq!(root.metadata_hash_at("a", false).unwrap(), first);
    container.root.write_file("a", b"xy").unwrap();
    assert_ne!(root.metadata_hash_at("a", false).unwrap(), first);
}

#[test]
fn a_right_that_was_not_given_is_missing_below_too() {
    let container = plain();
    container.root.write_file("tmp/f", b"x").unwrap();
    let directory = container.root.open().read_only();
    let below = directory.open_at("tmp", options("rd")).unwrap();
    for denied in [
        below.open_at("f", options("w")).map(|_| ()),
        below.open_at("new", options("c")).map(|_| ()),
        below.unlink_at("f"),
        below.create_directory_at("d"),
        below.rename_at("f", &container.root.open(), "g"),
        below.open_at(".", options("m")).map(|_| ()),
    ] {
        assert_eq!(denied, Err(Errno::NotPermitted));
    }
    let file = below.open_at("f", options("r")).unwrap();
    assert_eq!(read(&file).unwrap(), "x");
    assert_eq!(file.streamable(), Err(Errno::NotPermitted));
}

#[test]
fn deep_trees_are_taken_down_without_recursion() {
    let budget = Budget::new(1 << 30);
    let deep = PodLimits {
        inodes: 200_000,
        ..limits()
    };
    let pod = PodFs::new(&deep, &budget, &[], clock()).unwrap();
    let root = pod.root(&RootSpec::default()).unwrap();
    let mut at = root.open();
    for _ in 0..150_000 {
        at.create_directory_at("d").unwrap();
        at = at.open_at("d", options("d")).unwrap();
    }
    drop(at);
    root.open().rename_at("d", &root.open(), "tmp").unwrap();
    drop((root, pod));
    assert_eq!(budget.used(), 0);
}

#[test]
fn host_directories_are_refused_in_words() {
    let volume = VolumeSpec {
        name: "host".to_owned(),
        source: VolumeSource::HostDir {
            path: "/tmp".into(),
            read_only: true,
        },
    };
    let refused = PodFs::new(&limits(), &Budget::new(MIB), &[volume], clock()).unwrap_err();
    let words = "volume `host` is a directory of the host, which this worker does not offer";
    assert_eq!(refused.to_string(), words);
}

#[test]
fn containers_do_not_disturb_each_other() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 300;
    let pod = pod(&[]);
    let root = pod.root(&RootSpec::default()).unwrap();
    for number in 0..THREADS {
        root.open()
            .create_directory_at(&format!("d{number}"))
            .unwrap();
    }
    root.write_file("log", b"").unwrap();
    root.write_file("same", b"0").unwrap();
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let root = pod.root(&RootSpec::default()).unwrap();
            scope.spawn(move || {
                let directory = root.open();
                let log = directory.open_at("log", options("w")).unwrap();
                let own = format!("d{number}/x");
                let next = format!("d{}/y", (number + 1) % THREADS);
                for _ in 0..ROUNDS {
                    log.append(&[b"line ", number.to_string().as_bytes(), b"\n"])
                        .unwrap();
                    // Directories that move through each other: each is made, moved and removed.
                    directory.create_directory_at(&own).unwrap();
                    let moved = directory.rename_at(&own, &directory, &next);
                    let at = if moved.is_ok() { &next } else { &own };
                    directory.remove_directory_at(at).unwrap();
                    // One name that all replace: it is never missing.
                    let mine = format!("new{number}");
                    root.write_file(&mine, mine.as_bytes()).unwrap();
                    directory.rename_at(&mine, &directory, "same").unwrap();
                    assert!(!root.read_file("same", 10).unwrap().is_empty());
                }
            });
        }
    });
    let log = root.read_file("log", 1 << 20).unwrap();
    let lines = text(log);
    assert_eq!(lines.lines().count(), THREADS * ROUNDS);
    assert!(lines.lines().all(|line| line.len() == 6));
    let stat = root.open().stat_at(".", false).unwrap();
    assert_eq!(stat.links, 2 + 1 + THREADS as u64);
    assert_eq!(pod.usage().inodes, 2 + 2 + THREADS as u64);
}
