//! A lean load generator for HTTP/1.1: N kept connections, each sending its next request when the
//! last one is answered. It says what a server can bear, not what a user waits at a given rate.
//!
//! The client shares the machine with what is measured, so every microsecond that it spends makes
//! the servers look alike. A client library costs more than a proxied request does; this one writes
//! bytes and reads just enough of the answer to know where it ends.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Sample, cpu};
use crate::router::tunnel::{self, Preamble};
use crate::tasks::TaskGroup;

/// An answer larger than this is not what is measured here.
const LARGEST: usize = 1 << 20;

/// Writes the n-th request; the numbers of two connections differ.
pub(super) type WriteRequest = Arc<dyn Fn(u64, &mut Vec<u8>) + Send + Sync>;

/// When to stop.
#[derive(Clone, Copy)]
pub(super) enum Until {
    Elapsed(Duration),
    Requests(u64),
}

/// What is asked, and where.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// Names a pod on a worker's wire before the first request.
    pub(super) preamble: Option<Preamble>,
    pub(super) request: WriteRequest,
    /// The processes whose CPU time the answers cost.
    pub(super) processes: Vec<u32>,
}

impl Target {
    /// `GET path` with this `Host`.
    pub(super) fn get(address: SocketAddr, host: &str, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
        Self {
            address,
            preamble: None,
            request: Arc::new(move |_, bytes| bytes.extend_from_slice(request.as_bytes())),
            processes: Vec::new(),
        }
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = if let Some(preamble) = &self.preamble {
            tunnel::connect(self.address, preamble).await?
        } else {
            let stream = TcpStream::connect(self.address)
                .await
                .with_context(|| format!("connect to {}", self.address))?;
            stream.set_nodelay(true).context("set TCP_NODELAY")?;
            stream
        };
        Ok(Connection {
            stream,
            request: Vec::with_capacity(1024),
            answer: Vec::with_capacity(4096),
        })
    }

    /// Whether one request is answered with a success.
    pub(super) async fn answers(&self) -> anyhow::Result<bool> {
        let mut connection = self.connect().await?;
        let status = connection.exchange(0, &self.request).await?;
        Ok((200..300).contains(&status))
    }

    /// Loads the target over `connections` connections.
    pub(super) async fn load(&self, connections: u64, until: Until) -> anyhow::Result<Sample> {
        let tasks = TaskGroup::new();
        let stop = Arc::new(AtomicBool::new(false));
        let (results, mut finished) = tokio::sync::mpsc::channel(usize::try_from(connections)?);
        let mut opened = Vec::new();
        for _ in 0..connections {
            opened.push(self.connect().await?);
        }
        let meter = cpu::Meter::start(&self.processes)?;
        let started = Instant::now();
        for (index, connection) in (0..).zip(opened) {
            let (stop, request, results) = (
                Arc::clone(&stop),
                Arc::clone(&self.request),
                results.clone(),
            );
            let share = match until {
                Until::Elapsed(_) => u64::MAX >> 1,
                Until::Requests(total) => {
                    total / connections + u64::from(index < total % connections)
                }
            };
            let first = index << 32;
            tasks.spawn_contained("bench-load", async move {
                let numbers = first..first.saturating_add(share);
                let _ = results
                    .send(connection.repeat(numbers, &request, &stop).await)
                    .await;
            });
        }
        drop(results);
        if let Until::Elapsed(time) = until {
            tokio::time::sleep(time).await;
            stop.store(true, Ordering::Relaxed);
        }
        let (mut latencies, mut failed) = (Vec::new(), 0);
        while let Some((mine, wrong)) = finished.recv().await {
            latencies.extend(mine);
            failed += wrong;
        }
        let elapsed = started.elapsed();
        Sample::new(latencies, elapsed, failed).with_cpu(&meter, elapsed)
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    async fn repeat(
        mut self,
        numbers: Range<u64>,
        request: &WriteRequest,
        stop: &AtomicBool,
    ) -> (Vec<Duration>, u64) {
        let (mut latencies, mut failed) = (Vec::new(), 0);
        for number in numbers {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let since = Instant::now();
            match self.exchange(number, request).await {
                Ok(200..300) => latencies.push(since.elapsed()),
                Ok(_) => failed += 1,
                Err(_) => {
                    failed += 1;
                    break;
                }
            }
        }
        (latencies, failed)
    }

    /// Sends a request and reads the whole answer; gives its status.
    async fn exchange(&mut self, number: u64, request: &WriteRequest) -> anyhow::Result<u16> {
        self.request.clear();
        self.answer.clear();
        request(number, &mut self.request);
        self.stream.write_all(&self.request).await?;
        loop {
            let read = self.stream.read_buf(&mut self.answer).await?;
            ensure!(read > 0, "the connection was closed inside an answer");
            if let Some((status, length)) = complete(&self.answer)? {
                ensure!(length == self.answer.len(), "more bytes than the answer");
                return Ok(status);
            }
            ensure!(self.answer.len() < LARGEST, "an answer of more than 1 MiB");
        }
    }
}

/// The status and the length of the answer, once all of it is there.
fn complete(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(head) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let body = head + 4;
    let text = std::str::from_utf8(&bytes[..head]).context("read the head of an answer")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status: u16 = status
        .unwrap_or_default()
        .parse()
        .context("read a status")?;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            bail!("not a header: {line}");
        };
        if name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.trim().parse().context("read a length")?;
            let end = body + length;
            return Ok((bytes.len() >= end).then_some((status, end)));
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(chunked_end(bytes, body)?.map(|end| (status, end)));
        }
    }
    Ok(Some((status, body)))
}

/// Where a chunked body without trailers ends.
fn chunked_end(bytes: &[u8], mut at: usize) -> anyhow::Result<Option<usize>> {
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&bytes[at..at + line])?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .context("read the size of a chunk")?;
        ensure!(size < LARGEST, "a chunk of more than 1 MiB");
        at += line + 2 + size + 2;
        if at > bytes.len() {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|it| it == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let check = |text: &str, expected: Option<(u16, usize)>| {
            assert_eq!(complete(text.as_bytes()).unwrap(), expected, "{text:?}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", None);
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            Some((200, 40)),
        );
        check("HTTP/1.1 503 No\r\n\r\n", Some((503, 19)));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        check(chunked, Some((200, chunked.len())));
        for end in 0..chunked.len() {
            check(&chunked[..end], None);
        }
        assert!(complete(b"HTTP/1.1 x\r\n\r\n").is_err());
    }
}
