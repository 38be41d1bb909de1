//! Several containers and volumes: what is shared, what is apart, what is bounded.

use bytes::Bytes;

use super::script::*;
use super::*;
use crate::runtime::spec::MountSpec;

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
    let pod = PodFs::new(&deep, &budget, &[], &HostVolumes::default(), clock()).unwrap();
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
fn host_directories_that_cannot_be_opened_are_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let missing = host_directory(&directory, "missing", None);
    let path = directory.path().join("missing");
    let volume = VolumeSpec {
        name: "host".to_owned(),
        source: VolumeSource::HostDir {
            directory: missing,
            read_only: true,
        },
    };
    let refused = PodFs::new(
        &limits(),
        &Budget::new(MIB),
        &[volume],
        &HostVolumes::default(),
        clock(),
    )
    .unwrap_err();
    let words = format!("open {} for volume `host`", path.display());
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
