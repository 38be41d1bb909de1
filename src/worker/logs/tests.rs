//! Logs from the guest's write to the client's read.

use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::runtime::spec::{LogSink as _, LogStream};

struct Fixture {
    _directory: tempfile::TempDir,
    logs: Logs,
    clock: Clock,
    id: LogId,
}

fn fixture(limits: Limits) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::UNIX_EPOCH);
    let logs = Logs::new(directory.path().to_owned(), limits, clock.clone()).unwrap();
    let id = LogId {
        namespace: "default".into(),
        pod: "pod".into(),
        uid: "uid".into(),
        container: "main".into(),
    };
    Fixture {
        _directory: directory,
        logs,
        clock,
        id,
    }
}

async fn read(fixture: &Fixture, query: Query) -> String {
    read_of(fixture, 0, query).await
}

async fn read_of(fixture: &Fixture, incarnation: u32, query: Query) -> String {
    let mut reader = fixture.logs.read(&fixture.id, incarnation, &query).await;
    let mut text = Vec::new();
    while let Some(chunk) = reader.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn lines_are_joined_from_chunks_and_streams_are_apart() {
    let fixture = fixture(Limits::default());
    let log = fixture.logs.open(&fixture.id, 0);
    log.write(LogStream::Stdout, b"he");
    log.write(LogStream::Stderr, b"oops\n");
    log.write(LogStream::Stdout, b"llo\n\nlast");
    assert_eq!(read(&fixture, Query::default()).await, "oops\nhello\n\n");
    log.close();
    assert_eq!(
        read(&fixture, Query::default()).await,
        "oops\nhello\n\nlast\n"
    );
}

#[tokio::test]
async fn queries() {
    let fixture = fixture(Limits::default());
    let log = fixture.logs.open(&fixture.id, 0);
    for line in ["one\n", "two\n", "three\n"] {
        log.write(LogStream::Stdout, line.as_bytes());
        fixture.clock.advance(Duration::from_secs(10));
    }
    let cases = [
        (
            Query {
                tail_lines: Some(1),
                ..Query::default()
            },
            "three\n",
        ),
        (
            Query {
                tail_lines: Some(0),
                ..Query::default()
            },
            "",
        ),
        (
            Query {
                since_seconds: Some(20),
                ..Query::default()
            },
            "two\nthree\n",
        ),
        (
            Query {
                since_time: Some(Timestamp::from_second(20).unwrap()),
                ..Query::default()
            },
            "three\n",
        ),
        (
            Query {
                limit_bytes: Some(5),
                ..Query::default()
            },
            "one\nt",
        ),
        (
            Query {
                timestamps: true,
                tail_lines: Some(1),
                ..Query::default()
            },
            "1970-01-01T00:00:20.000000000Z three\n",
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(read(&fixture, query).await, expected, "{query:?}");
    }
}

#[tokio::test]
async fn long_lines_are_split_on_disk_and_whole_to_readers() {
    let fixture = fixture(Limits::default());
    let log = fixture.logs.open(&fixture.id, 0);
    let line = "x".repeat(40_000);
    log.write(LogStream::Stdout, line.as_bytes());
    log.write(LogStream::Stdout, b"\nnext\n");
    assert_eq!(
        read(&fixture, Query::default()).await,
        format!("{line}\nnext\n")
    );
    let tail = Query {
        tail_lines: Some(2),
        ..Query::default()
    };
    assert_eq!(read(&fixture, tail).await, format!("{line}\nnext\n"));
}

#[tokio::test]
async fn files_rotate_and_stay_bounded() {
    let limits = Limits {
        file_bytes: 1000,
        ..Limits::default()
    };
    let fixture = fixture(limits);
    let log = fixture.logs.open(&fixture.id, 0);
    for index in 0..200 {
        log.write(LogStream::Stdout, format!("line {index}\n").as_bytes());
    }
    let text = read(&fixture, Query::default()).await;
    assert!(text.ends_with("line 199\n"));
    assert!(!text.contains("line 0\n"));
    assert!(text.lines().count() > 20);
}

#[tokio::test]
async fn a_flood_is_dropped_and_counted() {
    let limits = Limits {
        bytes_per_second: 10,
        burst_bytes: 10,
        ..Limits::default()
    };
    let fixture = fixture(limits);
    let log = fixture.logs.open(&fixture.id, 0);
    log.write(LogStream::Stdout, b"123456789\n");
    log.write(LogStream::Stdout, b"abcdefghi\n");
    fixture.clock.advance(Duration::from_secs(1));
    log.write(LogStream::Stdout, b"after\n");
    let text = read(&fixture, Query::default()).await;
    assert!(
        text.starts_with("123456789\n[wasmorch: 10 bytes of output dropped"),
        "{text}"
    );
    assert!(text.ends_with("after\n"));
}

#[tokio::test]
async fn the_previous_incarnation_is_kept_and_older_ones_are_not() {
    let fixture = fixture(Limits::default());
    for incarnation in 0..3 {
        let log = fixture.logs.open(&fixture.id, incarnation);
        log.write(LogStream::Stdout, format!("run {incarnation}\n").as_bytes());
        log.close();
    }
    for (incarnation, expected) in [(0, ""), (1, "run 1\n"), (2, "run 2\n"), (3, "")] {
        let text = read_of(&fixture, incarnation, Query::default()).await;
        assert_eq!(text, expected, "{incarnation}");
    }
    let directory = fixture.logs.directory(&fixture.id);
    assert!(!directory.join("0.log").exists());
    fixture.logs.remove_pod("default", "pod", "uid");
    fixture.logs.flush().await;
    assert!(!directory.exists());
}

#[tokio::test]
async fn followers_see_lines_across_rotation_until_the_container_ends() {
    let limits = Limits {
        file_bytes: 200,
        ..Limits::default()
    };
    let fixture = fixture(limits);
    let log = fixture.logs.open(&fixture.id, 0);
    let follow = Query {
        follow: true,
        ..Query::default()
    };
    let mut reader = fixture.logs.read(&fixture.id, 0, &follow).await;
    let mut expected = String::new();
    let mut text = String::new();
    for index in 0..20 {
        let line = format!("line {index}\n");
        log.write(LogStream::Stdout, line.as_bytes());
        expected.push_str(&line);
        let chunk = reader.next().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    log.close();
    assert!(reader.next().await.is_none());
    assert_eq!(text, expected);
}

#[tokio::test]
async fn who_writes_waits_for_a_slow_disk_and_its_neighbours_do_not() {
    let fixture = fixture(Limits::default());
    let neighbour = LogId {
        container: "neighbour".into(),
        ..fixture.id.clone()
    };
    let log = fixture.logs.open(&fixture.id, 0);
    let other = fixture.logs.open(&neighbour, 0);
    // Whoever opens a pipe for writing waits for its reader.
    std::fs::create_dir_all(fixture.logs.directory(&fixture.id)).unwrap();
    let directory = std::fs::File::open(fixture.logs.directory(&fixture.id)).unwrap();
    rustix::fs::mkfifoat(&directory, "0.log", rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let line = [b"x".repeat(99), b"\n".to_vec()].concat();
    let mut written = 0;
    while log.capacity() > 0 {
        log.write(LogStream::Stdout, &line);
        written += 1;
    }
    assert!(written * line.len() < 1 << 20, "{written}");
    assert!(other.capacity() > 0);
    other.write(LogStream::Stdout, b"heard\n");
    // Who does not ask for room has little more, and is told what was lost.
    for _ in 0..written * 2 {
        log.write(LogStream::Stdout, &line);
    }
    let dropped = log.dropped();
    assert!(dropped > 0);
    let path = log.path().to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut kept = 0;
        // Opened for both, it has no end between two writes.
        let mut pipe = std::fs::OpenOptions::new();
        let pipe = pipe.read(true).write(true).open(path).unwrap();
        let mut lines = std::io::BufReader::new(pipe);
        let mut text = String::new();
        while std::io::BufRead::read_line(&mut lines, &mut text).unwrap() > 0 {
            if text.ends_with("bytes of output dropped, more than the disk took]\n") {
                return (kept, text);
            }
            kept += 1;
            text.clear();
        }
        (kept, text)
    });
    // The pipe is emptied; the next line that is kept says what is missing.
    while !reading.is_finished() {
        log.write(LogStream::Stdout, b"last\n");
        tokio::task::yield_now().await;
    }
    let (kept, told) = reading.await.unwrap();
    assert!(kept > written && kept < written * 3, "{kept} {written}");
    assert!(told.contains("[wasmorch: "), "{told}");
    let query = Query::default();
    let mut reader = fixture.logs.read(&neighbour, 0, &query).await;
    assert_eq!(reader.next().await.unwrap().unwrap(), "heard\n");
}
