//! What POSIX says, one table per subject.

mod odd_paths;

use super::script::*;
use super::*;

#[test]
fn files_are_made_read_and_removed() {
    check_everywhere(
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
    check_everywhere(
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
    check_everywhere(
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
    check_everywhere(
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
    check_everywhere(
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
    check_everywhere(
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
    check_everywhere(
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
fn room_is_reserved() {
    check_everywhere(
        "open f a crw => ok
         pwrite f 0 hello => 5
         allocate f 2 1 => ok
         fstat f => file size=5 links=1
         allocate f 3 7 => ok
         fstat f => file size=10 links=1
         read f => hello00000
         allocate f 0 0 => Invalid
         allocate f 0 99999999999 => NoSpace
         fstat f => file size=10 links=1
         open r a r => ok
         allocate r 0 1 => BadDescriptor",
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
    let pod = PodFs::new(
        &limits(),
        &Budget::new(MIB),
        &[],
        &HostVolumes::default(),
        clock.clone(),
    )
    .unwrap();
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
