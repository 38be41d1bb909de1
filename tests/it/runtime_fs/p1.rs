//! Files, streams, clocks and limits of WASI 0.1, function by function.

use std::time::{Duration, Instant};

use wasmtime_wasi::I32Exit;

use super::guest::*;

#[tokio::test]
async fn arguments_environment_clocks_and_randomness() {
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.call("args_sizes_get", &[0, 4]).await, SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (2, 9));
    assert_eq!(guest.call("args_get", &[0, 100]).await, SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (100, 105));
    assert_eq!(guest.bytes(100, 9), b"prog\0one\0");
    assert_eq!(guest.call("environ_sizes_get", &[0, 4]).await, SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (1, 6));
    assert_eq!(guest.call("environ_get", &[0, 100]).await, SUCCESS);
    assert_eq!(guest.bytes(100, 6), b"A=b=c\0");

    assert_eq!(guest.call("clock_time_get", &[0, 1, 0]).await, SUCCESS);
    assert!(guest.u64(0) > 1_700_000_000_000_000_000);
    assert_eq!(guest.call("clock_time_get", &[1, 1, 0]).await, SUCCESS);
    let before = guest.u64(0);
    assert_eq!(guest.call("sched_yield", &[]).await, SUCCESS);
    assert_eq!(guest.call("clock_time_get", &[1, 1, 0]).await, SUCCESS);
    assert!(guest.u64(0) > before);
    assert_eq!(guest.call("clock_res_get", &[1, 0]).await, SUCCESS);
    assert_eq!(guest.call("clock_time_get", &[2, 1, 0]).await, BADF);
    assert_eq!(guest.call("clock_time_get", &[9, 1, 0]).await, INVAL);

    assert_eq!(guest.call("random_get", &[0, 200_000]).await, SUCCESS);
    let mut seen = [0; 256];
    for byte in guest.bytes(0, 200_000) {
        seen[usize::from(byte)] += 1;
    }
    assert!(seen.iter().all(|count| (400..1200).contains(count)));
}

#[tokio::test]
async fn exit_codes_are_exact() {
    for code in [0, 1, 7, 255, -1] {
        let mut guest = Guest::with_root().await;
        let error = guest.try_call("proc_exit", &[code]).await.unwrap_err();
        assert_eq!(i64::from(error.downcast_ref::<I32Exit>().unwrap().0), code);
    }
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.call("proc_raise", &[6]).await, NOTSUP);
}

#[tokio::test]
async fn pointers_outside_the_memory_are_traps() {
    let outside = [i64::from(u32::MAX), 262_144, 262_140];
    for pointer in outside {
        let mut guest = Guest::with_root().await;
        let calls: [(&str, &[i64]); 6] = [
            ("clock_time_get", &[0, 0, pointer]),
            ("fd_read", &[0, pointer, 1, 0]),
            ("fd_filestat_get", &[3, pointer]),
            ("path_create_directory", &[3, pointer, 9]),
            ("random_get", &[pointer, 100]),
            ("poll_oneoff", &[pointer, 0, 1, 0]),
        ];
        for (name, arguments) in calls {
            let error = guest.try_call(name, arguments).await.unwrap_err();
            let chain = format!("{error:?}");
            assert!(chain.contains("outside the memory"), "{name}: {chain}");
        }
    }
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.call("fd_read", &[0, 0, 100_000, 0]).await, INVAL);
    assert_eq!(
        guest.call("path_create_directory", &[3, 0, 5000]).await,
        NAMETOOLONG
    );
    assert_eq!(
        guest
            .call("poll_oneoff", &[0, 0, i64::from(u32::MAX), 0])
            .await,
        INVAL
    );
}

#[tokio::test]
async fn preopens_are_told() {
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.call("fd_prestat_get", &[3, 0]).await, SUCCESS);
    assert_eq!((guest.u32(0), guest.u32(4)), (0, 1));
    assert_eq!(
        guest.call("fd_prestat_dir_name", &[3, 0, 0]).await,
        NAMETOOLONG
    );
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, 0, 2]).await, SUCCESS);
    assert_eq!(guest.bytes(0, 1), b"/");
    assert_eq!(guest.call("fd_prestat_get", &[4, 0]).await, BADF);
    assert_eq!(guest.call("fd_prestat_get", &[0, 0]).await, BADF);

    let spec = wasmorch::runtime::fs::RootSpec {
        working_dir: Some("/work"),
        ..Default::default()
    };
    let mut guest = Guest::new(config(super::root_with(&[], &spec))).await;
    assert_eq!(guest.call("fd_prestat_dir_name", &[3, 0, 1]).await, SUCCESS);
    assert_eq!(guest.bytes(0, 1), b".");
    assert_eq!(guest.open("f", CREAT, WRITE, 0).await, Ok(5));
    assert_eq!(guest.open_at(4, "work/f", 0, READ, 0).await, Ok(6));
}

#[tokio::test]
async fn files_are_written_read_and_sought() {
    let mut guest = Guest::with_root().await;
    let file = guest
        .open("a", CREAT | EXCL, READ | WRITE, 0)
        .await
        .unwrap();
    assert_eq!(file, 4);
    assert_eq!(guest.open("a", CREAT | EXCL, READ, 0).await, Err(EXIST));
    assert_eq!(guest.open("no", 0, READ, 0).await, Err(NOENT));
    assert_eq!(guest.write(file, "hello").await, Ok(5));
    assert_eq!(guest.read(file, 10).await.as_deref(), Ok(""));
    assert_eq!(guest.seek(file, 1, 0).await, Ok(1));
    assert_eq!(guest.read(file, 3).await.as_deref(), Ok("ell"));
    assert_eq!(guest.call("fd_tell", &[file, 0]).await, SUCCESS);
    assert_eq!(guest.u64(0), 4);
    assert_eq!(guest.seek(file, -2, 1).await, Ok(2));
    assert_eq!(guest.seek(file, -1, 2).await, Ok(4));
    assert_eq!(guest.seek(file, -9, 2).await, Err(INVAL));
    assert_eq!(guest.seek(file, 0, 7).await, Err(INVAL));
    assert_eq!(guest.seek(0, 0, 1).await, Err(SPIPE));
    assert_eq!(guest.seek(3, 0, 1).await, Err(BADF));
    let [vectors, count] = guest.vector(&[2, 2]);
    let pread = [file, vectors, count, 3, 0];
    assert_eq!(guest.counted("fd_pread", &pread).await, Ok(2));
    guest.put(DATA, b"XY");
    let [vectors, count] = guest.vector(&[2]);
    let pwrite = [file, vectors, count, 1, 0];
    assert_eq!(guest.counted("fd_pwrite", &pwrite).await, Ok(2));
    assert_eq!(guest.seek(file, 0, 0).await, Ok(0));
    assert_eq!(guest.read(file, 10).await.as_deref(), Ok("hXYlo"));
    assert_eq!(
        guest.call("fd_filestat_set_size", &[file, 2]).await,
        SUCCESS
    );
    assert_eq!(guest.call("fd_filestat_get", &[file, 0]).await, SUCCESS);
    assert_eq!(
        (guest.bytes(16, 1)[0], guest.u64(24), guest.u64(32)),
        (4, 1, 2)
    );
    for (name, expected) in [
        ("fd_sync", SUCCESS),
        ("fd_datasync", SUCCESS),
        ("fd_close", SUCCESS),
    ] {
        assert_eq!(guest.call(name, &[file]).await, expected, "{name}");
    }
    assert_eq!(guest.call("fd_close", &[file]).await, BADF);
}

#[tokio::test]
async fn access_follows_the_requested_rights() {
    let mut guest = Guest::with_root().await;
    let write = guest.open("a", CREAT, WRITE, 0).await.unwrap();
    assert_eq!(guest.read(write, 1).await, Err(BADF));
    assert_eq!(guest.write(write, "xy").await, Ok(2));
    let read = guest.open("a", 0, READ, 0).await.unwrap();
    assert_eq!(guest.write(read, "xy").await, Err(BADF));
    assert_eq!(guest.call("fd_filestat_set_size", &[read, 0]).await, INVAL);
    for (fd, expected) in [(read, (true, false)), (write, (false, true))] {
        assert_eq!(guest.call("fd_fdstat_get", &[fd, 0]).await, SUCCESS);
        let rights = guest.u64(8) as i64;
        assert_eq!((rights & READ != 0, rights & WRITE != 0), expected);
        assert_eq!(rights & (1 << 14), 0, "a file has no right to be listed");
    }
    assert_eq!(
        guest.call("fd_fdstat_set_rights", &[read, 0, 0]).await,
        NOTSUP
    );
    assert_eq!(guest.open("a", TRUNC, READ | WRITE, 0).await, Ok(6));
    assert_eq!(guest.read(read, 5).await.as_deref(), Ok(""));
    assert_eq!(guest.open("a", DIRECTORY, READ, 0).await, Err(NOTDIR));
    assert_eq!(guest.open("tmp", 0, WRITE, 0).await, Err(ISDIR));
    assert_eq!(guest.open("a", 64, READ, 0).await, Err(INVAL));
    assert_eq!(guest.open("/a", 0, READ, 0).await, Err(PERM));
    assert_eq!(guest.open("../a", 0, READ, 0).await, Err(PERM));
    assert_eq!(guest.open_at(read, "a", 0, READ, 0).await, Err(NOTDIR));
    assert_eq!(guest.open_at(0, "a", 0, READ, 0).await, Err(BADF));
}

#[tokio::test]
async fn synchronized_writes_are_asked_for_when_a_file_is_opened() {
    let mut guest = Guest::with_root().await;
    for flags in [2, 8, 16, 2 | 8 | 16] {
        let file = guest.open("a", CREAT, READ | WRITE, flags).await.unwrap();
        assert_eq!(guest.write(file, "xy").await, Ok(2));
        assert_eq!(guest.call("fd_fdstat_get", &[file, 0]).await, SUCCESS);
        assert_eq!(i64::from(guest.bytes(2, 1)[0]), flags);
        let told = [file, flags | APPEND];
        let set = guest.call("fd_fdstat_set_flags", &told).await;
        assert_eq!(set, SUCCESS, "what was told is taken back");
        let other = (2 | 8 | 16) & !flags;
        let set = guest.call("fd_fdstat_set_flags", &[file, other]).await;
        assert_eq!(set, if other == 0 { SUCCESS } else { INVAL });
        assert_eq!(guest.call("fd_close", &[file]).await, SUCCESS);
    }
}

#[tokio::test]
async fn append_mode_goes_to_the_end_whatever_the_position() {
    let mut guest = Guest::with_root().await;
    let one = guest
        .open("log", CREAT, READ | WRITE, APPEND)
        .await
        .unwrap();
    let two = guest.open("log", 0, WRITE, APPEND).await.unwrap();
    assert_eq!(guest.write(one, "one").await, Ok(3));
    assert_eq!(guest.write(two, "two").await, Ok(3));
    assert_eq!(guest.seek(one, 0, 0).await, Ok(0));
    assert_eq!(guest.write(one, "1").await, Ok(1));
    assert_eq!(guest.seek(one, 0, 1).await, Ok(7));
    assert_eq!(guest.call("fd_fdstat_get", &[one, 0]).await, SUCCESS);
    assert_eq!(guest.bytes(0, 4), [4, 0, 1, 0]);
    assert_eq!(guest.call("fd_fdstat_set_flags", &[one, 0]).await, SUCCESS);
    assert_eq!(guest.seek(one, 0, 0).await, Ok(0));
    assert_eq!(guest.write(one, "O").await, Ok(1));
    assert_eq!(guest.seek(one, 0, 0).await, Ok(0));
    assert_eq!(guest.read(one, 20).await.as_deref(), Ok("Onetwo1"));
    assert_eq!(guest.call("fd_fdstat_set_flags", &[one, 16]).await, INVAL);
}

#[tokio::test]
async fn directories_refuse_what_files_do() {
    let mut guest = Guest::with_root().await;
    assert_eq!(guest.read(3, 1).await, Err(BADF));
    assert_eq!(guest.write(3, "x").await, Err(BADF));
    let calls: [(&str, &[i64]); 9] = [
        ("fd_pread", &[3, 64, 0, 0, 0]),
        ("fd_pwrite", &[3, 64, 0, 0, 0]),
        ("fd_tell", &[3, 0]),
        ("fd_advise", &[3, 0, 0, 4]),
        ("fd_allocate", &[3, 0, 1]),
        ("fd_datasync", &[3]),
        ("fd_sync", &[3]),
        ("fd_fdstat_set_flags", &[3, 4]),
        ("fd_filestat_set_size", &[3, 0]),
    ];
    for (name, arguments) in calls {
        assert_eq!(guest.call(name, arguments).await, BADF, "{name}");
    }
    let file = guest.open("a", CREAT, WRITE, 0).await.unwrap();
    assert_eq!(guest.call("fd_allocate", &[file, 0, 1]).await, 0);
    assert_eq!(guest.call("fd_advise", &[file, 0, 0, 0]).await, SUCCESS);
    assert_eq!(guest.call("fd_advise", &[file, 0, 0, 9]).await, INVAL);
}

#[tokio::test]
async fn paths_are_changed() {
    let mut guest = Guest::with_root().await;
    assert_eq!(
        guest.on_path("path_create_directory", 3, "d").await,
        SUCCESS
    );
    assert_eq!(guest.on_path("path_create_directory", 3, "d/").await, EXIST);
    let file = guest.open("d/f", CREAT, WRITE, 0).await.unwrap();
    assert_eq!(guest.write(file, "data").await, Ok(4));
    assert_eq!(guest.on_path("path_unlink_file", 3, "d").await, ISDIR);
    assert_eq!(guest.on_path("path_remove_directory", 3, "d").await, 55);
    assert_eq!(
        guest.on_path("path_remove_directory", 3, "d/f").await,
        NOTDIR
    );

    let [path, length] = guest.path(PATH, "d/f");
    let [new, new_length] = guest.path(OTHER_PATH, "g");
    let link = [3, 0, path, length, 3, new, new_length];
    assert_eq!(guest.call("path_link", &link).await, SUCCESS);
    assert_eq!(guest.call("path_link", &link).await, EXIST);
    let followed = [3, 1, path, length, 3, new, new_length];
    assert_eq!(guest.call("path_link", &followed).await, INVAL);
    let stat = [3, 0, new, new_length, 0];
    assert_eq!(guest.call("path_filestat_get", &stat).await, SUCCESS);
    assert_eq!((guest.u64(24), guest.u64(32)), (2, 4));
    let rename = [3, new, new_length, 3, path, length];
    assert_eq!(guest.call("path_rename", &rename).await, SUCCESS);

    let [target, target_length] = guest.path(PATH, "d/f");
    let [name, name_length] = guest.path(OTHER_PATH, "l");
    let symlink = [target, target_length, 3, name, name_length];
    assert_eq!(guest.call("path_symlink", &symlink).await, SUCCESS);
    let readlink = [3, name, name_length, i64::from(DATA), 2, 0];
    assert_eq!(guest.counted("path_readlink", &readlink).await, Ok(2));
    assert_eq!(guest.bytes(DATA, 2), b"d/");
    assert_eq!(guest.open("l", 0, READ, 0).await, Err(LOOP));
    let stat = [3, 0, name, name_length, 0];
    assert_eq!(guest.call("path_filestat_get", &stat).await, SUCCESS);
    assert_eq!(guest.bytes(16, 1), [7]);
    let stat = [3, 1, name, name_length, 0];
    assert_eq!(guest.call("path_filestat_get", &stat).await, SUCCESS);
    assert_eq!(guest.bytes(16, 1), [4]);
    assert_eq!(guest.on_path("path_unlink_file", 3, "l").await, SUCCESS);

    guest.put(PATH, &[0xff]);
    assert_eq!(
        guest
            .call("path_unlink_file", &[3, i64::from(PATH), 1])
            .await,
        ILSEQ
    );
    guest.put(PATH, b"a\0");
    assert_eq!(
        guest
            .call("path_unlink_file", &[3, i64::from(PATH), 2])
            .await,
        INVAL
    );
}

#[tokio::test]
async fn times_are_set() {
    let mut guest = Guest::with_root().await;
    let file = guest.open("a", CREAT, WRITE, 0).await.unwrap();
    let set = "fd_filestat_set_times";
    assert_eq!(guest.call(set, &[file, 5, 7, 1 | 4]).await, SUCCESS);
    assert_eq!(guest.call("fd_filestat_get", &[file, 0]).await, SUCCESS);
    assert_eq!((guest.u64(40), guest.u64(48)), (5, 7));
    assert_eq!(guest.call(set, &[file, 0, 0, 1 | 2]).await, INVAL);
    assert_eq!(guest.call(set, &[file, 0, 0, 16]).await, INVAL);
    assert_eq!(guest.call(set, &[file, 0, 0, 8]).await, SUCCESS);
    let [path, length] = guest.path(PATH, "a");
    let arguments = [3, 0, path, length, 9, 9, 1];
    assert_eq!(
        guest.call("path_filestat_set_times", &arguments).await,
        SUCCESS
    );
    assert_eq!(guest.call("fd_filestat_get", &[file, 0]).await, SUCCESS);
    assert_eq!(guest.u64(40), 9);
    assert!(guest.u64(48) > 1_700_000_000_000_000_000);
}

#[tokio::test]
async fn directories_are_listed_in_pieces() {
    let mut guest = Guest::with_root().await;
    for number in 0..200 {
        let file = guest.open(&format!("tmp/{number}"), CREAT, WRITE, 0).await;
        guest.call("fd_close", &[file.unwrap()]).await;
    }
    let directory = guest.open("tmp", DIRECTORY, READ, 0).await.unwrap();
    let mut names = Vec::new();
    let mut cookie = 0;
    loop {
        let arguments = [directory, i64::from(DATA), 300, cookie, 0];
        let used = guest.counted("fd_readdir", &arguments).await.unwrap();
        let mut at = DATA;
        while at + 24 <= DATA + used {
            let length = guest.u32(at + 16);
            if at + 24 + length > DATA + used {
                break;
            }
            cookie = guest.u64(at) as i64;
            names.push(String::from_utf8(guest.bytes(at + 24, length as usize)).unwrap());
            at += 24 + length;
        }
        if used < 300 {
            break;
        }
    }
    let expected: Vec<String> = [".", ".."]
        .map(str::to_owned)
        .into_iter()
        .chain((0..200).map(|number| number.to_string()))
        .collect();
    assert_eq!(names, expected);
    assert_eq!(
        guest.counted("fd_readdir", &[0, 0, 0, 0, 0]).await,
        Err(BADF)
    );
}

#[tokio::test]
async fn descriptors_are_the_lowest_free_and_bounded() {
    let mut guest = Guest::with_root().await;
    for expected in 4..32 {
        assert_eq!(guest.open("tmp", 0, READ, 0).await, Ok(expected));
    }
    assert_eq!(guest.open("tmp", 0, READ, 0).await, Err(MFILE));
    assert_eq!(guest.open("new", CREAT, WRITE, 0).await, Err(MFILE));
    assert_eq!(guest.call("fd_close", &[20]).await, SUCCESS);
    assert_eq!(guest.call("fd_close", &[10]).await, SUCCESS);
    assert_eq!(guest.open("new", 0, READ, 0).await, Err(NOENT));
    assert_eq!(guest.open("tmp", 0, READ, 0).await, Ok(10));
    assert_eq!(guest.call("fd_renumber", &[10, 20]).await, BADF);
    assert_eq!(guest.call("fd_renumber", &[10, 11]).await, SUCCESS);
    assert_eq!(guest.call("fd_renumber", &[11, 11]).await, SUCCESS);
    assert_eq!(guest.call("fd_fdstat_get", &[10, 0]).await, BADF);
    assert_eq!(guest.open("tmp", 0, READ, 0).await, Ok(10));
}

#[tokio::test]
async fn the_streams_are_read_and_written() {
    let mut guest = Guest::with_root().await;
    assert_eq!(
        guest.read(0, 3).await.as_deref(),
        Ok("t"),
        "one buffer at a time"
    );
    assert_eq!(guest.read(0, 100).await.as_deref(), Ok("yped"));
    assert_eq!(guest.read(0, 100).await.as_deref(), Ok(""));
    assert_eq!(guest.write(0, "x").await, Err(BADF));
    assert_eq!(guest.write(1, "line\n").await, Ok(5));
    assert_eq!(&guest.stdout.contents()[..], b"line\n");
    assert_eq!(guest.write(1, &"x".repeat(200)).await, Ok(95), "what fits");
    assert_eq!(guest.write(2, "").await, Ok(0));
    assert_eq!(guest.call("fd_fdstat_get", &[1, 0]).await, SUCCESS);
    assert_ne!(guest.bytes(0, 1), [2], "no terminal");
    assert_eq!(guest.call("fd_filestat_get", &[1, 0]).await, SUCCESS);
    assert_eq!(guest.call("fd_close", &[0]).await, SUCCESS);
    assert_eq!(guest.read(0, 1).await, Err(BADF));
}

#[tokio::test]
async fn poll_reports_what_is_ready() {
    const CLOCK: u8 = 0;
    const FD_READ: u8 = 1;
    const FD_WRITE: u8 = 2;
    let mut guest = Guest::with_root().await;
    let file = guest.open("a", CREAT, READ | WRITE, 0).await.unwrap() as u64;
    let hour = 3_600_000_000_000;
    assert_eq!(guest.poll(&[]).await, Err(INVAL));
    assert_eq!(guest.poll(&[(FD_READ, 99)]).await, Err(BADF));
    assert_eq!(guest.poll(&[(FD_READ, 3)]).await, Err(BADF));
    assert_eq!(guest.poll(&[(7, 0)]).await, Err(INVAL));
    let all = [
        (CLOCK, hour),
        (FD_READ, 0),
        (FD_WRITE, 1),
        (FD_READ, file),
        (FD_WRITE, file),
    ];
    assert_eq!(guest.poll(&all).await, Ok(vec![1, 2, 3, 4]));
    let started = Instant::now();
    let clocks = [(CLOCK, hour), (CLOCK, 5_000_000), (CLOCK, u64::MAX)];
    assert_eq!(guest.poll(&clocks).await, Ok(vec![1]));
    assert!(started.elapsed() >= Duration::from_millis(5));
}
