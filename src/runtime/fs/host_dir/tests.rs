//! What is particular to directories of the host: confinement, quota, sharing. That they behave as
//! POSIX says is tested with the same scripts as the filesystem in memory (`posix_tests`).

use std::os::unix::fs::symlink;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::runtime::fs::script::*;
use crate::runtime::fs::{PodFs, RootSpec};
use crate::runtime::spec::{HostDirectory, HostDirectoryType, MountSpec, VolumeSource, VolumeSpec};

fn volume(directory: HostDirectory, read_only: bool) -> VolumeSpec {
    VolumeSpec {
        name: "v".to_owned(),
        source: VolumeSource::HostDir {
            directory,
            read_only,
        },
    }
}

/// A container with the directory on `/v`.
fn mounted(hosts: &HostVolumes, directory: HostDirectory, read_only: bool) -> Container {
    let volumes = [volume(directory, read_only)];
    let budget = Budget::new(64 * MIB);
    let pod = PodFs::new(&limits(), &budget, &volumes, hosts, clock()).unwrap();
    container(
        &pod,
        &RootSpec {
            mounts: &[mount("v", "/v")],
            ..RootSpec::default()
        },
    )
}

fn here(root: &TempDir) -> HostDirectory {
    host_directory(root, "", None)
}

#[test]
fn guests_and_the_host_see_the_same_files() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("given"), "by the host").unwrap();
    let mut container = mounted(&HostVolumes::default(), here(&root), false);
    check(
        &mut container,
        "cat v/given => by the host
         write v/made by-the-guest => ok
         mkdir v/d => ok
         write v/d/f x => ok
         ls v => d,given,made
         mv v/made outside => CrossDevice
         ln v/made outside => CrossDevice
         rm v/given => ok",
    );
    let made = std::fs::read_to_string(root.path().join("made")).unwrap();
    assert_eq!(made, "by-the-guest");
    assert!(!root.path().join("given").exists());
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let host = tempfile::tempdir().unwrap();
    let root = host.path().join("root");
    std::fs::create_dir_all(root.join("d")).unwrap();
    std::fs::write(host.path().join("secret"), "s").unwrap();
    symlink("../secret", root.join("up")).unwrap();
    symlink(host.path().join("secret"), root.join("absolute")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    symlink("..", root.join("d/parent")).unwrap();
    let directory = HostDirectory {
        root,
        path: "".into(),
        expected: HostDirectoryType::Directory,
        capacity: None,
    };
    let mut container = mounted(&HostVolumes::default(), directory, false);
    check(
        &mut container,
        "cat v/up => NoEntry
         cat v/absolute => NoEntry
         ls v/magic => NoEntry
         ls v/d/parent/d/parent/.. => tmp,v
         cat v/../v/d/../../secret => NoEntry
         cat v/d/parent/../secret => NoEntry
         write v/up x => ok
         cat secret => x",
    );
    let secret = std::fs::read_to_string(host.path().join("secret")).unwrap();
    assert_eq!(secret, "s", "the guest's `..` is its own root");
}

#[test]
fn a_path_below_the_allowed_root_does_not_leave_it() {
    let host = tempfile::tempdir().unwrap();
    let root = host.path().join("allowed");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::create_dir(host.path().join("other")).unwrap();
    symlink("../other", root.join("link")).unwrap();
    symlink(host.path().join("other"), root.join("absolute")).unwrap();
    for path in ["link", "absolute", "../other", "link/x", "/etc"] {
        let directory = HostDirectory {
            root: root.clone(),
            path: path.into(),
            expected: HostDirectoryType::DirectoryOrCreate,
            capacity: None,
        };
        let refused = HostVolumes::default().open(&directory, &clock());
        assert!(refused.is_err(), "{path}");
    }
    assert_eq!(host.path().join("other").read_dir().unwrap().count(), 0);
}

#[test]
fn types_are_checked_and_made() {
    use HostDirectoryType::{Any, Directory, DirectoryOrCreate, File, FileOrCreate};
    let cases = [
        ("f", File, Ok(Kind::File)),
        ("f", FileOrCreate, Ok(Kind::File)),
        ("f", Directory, Err(Errno::NotDirectory)),
        ("f", Any, Ok(Kind::File)),
        ("d", Directory, Ok(Kind::Directory)),
        ("d", File, Err(Errno::IsDirectory)),
        ("none", Directory, Err(Errno::NoEntry)),
        ("none", File, Err(Errno::NoEntry)),
        ("new/deep", DirectoryOrCreate, Ok(Kind::Directory)),
        ("any/deep", Any, Ok(Kind::Directory)),
        ("none/f", FileOrCreate, Err(Errno::NoEntry)),
        ("d/f", FileOrCreate, Ok(Kind::File)),
        ("pipe", Any, Err(Errno::Access)),
    ];
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("d")).unwrap();
    std::fs::write(root.path().join("f"), "").unwrap();
    let mode = Mode::from_raw_mode(0o600);
    let pipe = FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, root.path().join("pipe"), pipe, mode, 0).unwrap();
    let hosts = HostVolumes::default();
    for (path, expected, outcome) in cases {
        let directory = HostDirectory {
            expected,
            ..host_directory(&root, path, None)
        };
        let opened = hosts.open(&directory, &clock());
        assert_eq!(
            opened.map(|inode| inode.kind()),
            outcome,
            "{path} {expected:?}"
        );
    }
    // What is no file is neither listed nor opened.
    let mut container = mounted(&hosts, here(&root), false);
    check(
        &mut container,
        "ls v => any,d,f,new
         cat v/pipe => Access",
    );
}

#[test]
fn a_file_and_a_sub_path_can_be_mounted() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("f"), "hello").unwrap();
    let file = HostDirectory {
        expected: HostDirectoryType::File,
        ..host_directory(&root, "f", None)
    };
    let hosts = HostVolumes::default();
    check(
        &mut mounted(&hosts, file, false),
        "cat v => hello
         rm v => Busy",
    );
    let volumes = [volume(here(&root), false)];
    let pod = PodFs::new(&limits(), &Budget::new(MIB), &volumes, &hosts, clock()).unwrap();
    let sub_path = MountSpec {
        sub_path: Some("made/here".to_owned()),
        ..mount("v", "/v")
    };
    let spec = RootSpec {
        mounts: &[sub_path],
        ..RootSpec::default()
    };
    let mut in_sub_path = container(&pod, &spec);
    check(&mut in_sub_path, "write v/x 1 => ok");
    assert!(root.path().join("made/here/x").exists());
}

#[test]
fn read_only_means_it() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("f"), "hello").unwrap();
    check(
        &mut mounted(&HostVolumes::default(), here(&root), true),
        "cat v/f => hello
         write v/f x => ReadOnly
         write v/g x => ReadOnly
         mkdir v/d => ReadOnly
         rm v/f => ReadOnly
         mv v/f v/g => ReadOnly",
    );
}

#[test]
fn a_quota_counts_what_was_there_and_is_given_back() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("d")).unwrap();
    std::fs::write(root.path().join("d/old"), [0; 600]).unwrap();
    std::fs::hard_link(root.path().join("d/old"), root.path().join("again")).unwrap();
    let place = host_directory(&root, "", Some(1000));
    let hosts = HostVolumes::default();
    let mut container = mounted(&hosts, place.clone(), false);
    let shared = hosts.open(&place, &clock()).unwrap();
    container.host = Some((Arc::clone(&shared), root));
    check(
        &mut container,
        "bytes => 600
         inodes => 3
         open f v/new crw => ok
         fill f 500 => 400
         fill f 500 => 400
         pwrite f 400 x => NoSpace
         append f x => NoSpace
         truncate f 401 => NoSpace
         bytes => 1000
         truncate f 100 => ok
         bytes => 700
         append f abc => 103
         rm v/again => ok
         bytes => 703
         open old v/d/old r => ok
         rm v/d/old => ok
         bytes => 703
         close old => ok
         bytes => 103
         write v/b 12345 => ok
         mv v/b v/new => ok
         bytes => 108
         close f => ok
         bytes => 5
         rm v/new => ok
         rmdir v/d => ok
         bytes => 0
         inodes => 1",
    );
}

#[test]
fn an_overfull_volume_can_be_read_and_emptied() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("big"), [b'x'; 3000]).unwrap();
    let place = host_directory(&root, "", Some(1000));
    let mut container = mounted(&HostVolumes::default(), place, false);
    check(
        &mut container,
        "stat v/big => file size=3000 links=1
         write v/small 1 => NoSpace
         rm v/big => ok
         write v/small 1 => ok",
    );
}

#[test]
fn pods_share_a_volume_and_its_quota() {
    let root = tempfile::tempdir().unwrap();
    let place = host_directory(&root, "", Some(10));
    let hosts = HostVolumes::default();
    let mut one = mounted(&hosts, place.clone(), false);
    let mut other = mounted(&hosts, place.clone(), false);
    check(&mut one, "write v/f 12345678 => ok");
    check(
        &mut other,
        "cat v/f => 12345678
         write v/g 123 => NoSpace
         open g v/g r => ok
         read g => 12
         open f v/f w => ok",
    );
    check(&mut one, "rm v/f => ok\n write v/h 1 => NoSpace");
    check(&mut other, "close f => ok");
    check(&mut one, "write v/h 1 => ok");
    drop((one, other));
    assert!(hosts.open(&place, &clock()).is_ok());
}

#[test]
fn open_inodes_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    let mut container = mounted(&HostVolumes::default(), here(&root), false);
    let directory = container.root.open();
    let mut held = Vec::new();
    let refused = loop {
        match directory.open_at(&format!("v/{}", held.len()), options("cw")) {
            Ok(file) => held.push(file),
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, Errno::TooManyOpenFiles);
    assert!(held.len() as u64 <= MAX_OPEN);
    held.clear();
    check(&mut container, "write v/again x => ok");
}

#[test]
fn a_listing_goes_on_where_it_stopped() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..300 {
        std::fs::write(root.path().join(format!("{number:03}")), "").unwrap();
    }
    let container = mounted(&HostVolumes::default(), here(&root), false);
    let directory = container.root.open().open_at("v", options("d")).unwrap();
    let (mut from, mut names) = (0, Vec::new());
    loop {
        let page = directory.list(from, 7).unwrap();
        let Some(last) = page.last() else { break };
        from = last.next;
        for entry in page {
            // Removing what was read must not hide what follows.
            directory.unlink_at(&entry.name).unwrap();
            names.push(entry.name.to_string());
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 300);
}

#[test]
fn synchronized_writes_wait_for_the_disk() {
    use crate::runtime::fs::descriptor::{OpenOptions, Synchronized};

    let root = tempfile::tempdir().unwrap();
    let host = here(&root);
    let pod = PodFs::new(
        &limits(),
        &Budget::new(64 * MIB),
        &[volume(host, false)],
        &HostVolumes::default(),
        clock(),
    );
    let mounts = [mount("v", "/v")];
    let spec = RootSpec {
        mounts: &mounts,
        ..RootSpec::default()
    };
    let view = pod.unwrap().root(&spec).unwrap();
    let asked = |data, file, reads| Synchronized { data, file, reads };
    // How often the disk is waited for by a write, an append and a read.
    let cases = [
        (asked(false, false, false), 0),
        (asked(true, false, false), 2),
        (asked(false, true, false), 2),
        (asked(true, false, true), 3),
        (asked(false, false, true), 0),
    ];
    for (synchronized, expected) in cases {
        let options = OpenOptions {
            create: true,
            read: true,
            write: true,
            synchronized,
            ..OpenOptions::default()
        };
        let file = view.open().open_at("v/f", options).unwrap();
        let before = file.flushes();
        file.write_at(0, &[b"x"]).unwrap();
        file.append(&[b"y"]).unwrap();
        file.read_at(0, &mut [0; 2]).unwrap();
        assert_eq!(file.flushes() - before, expected, "{synchronized:?}");
    }
}
