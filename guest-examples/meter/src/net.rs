//! What programs do with a TCP connection: bulk in one direction, small messages in one direction,
//! and a small message to and fro.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::timing::Timing;

const BLOCK: usize = 64 << 10;
const SMALL: usize = 64;
const ECHO: u8 = 1;
const SINK: u8 = 2;
/// The connections of one [`send`].
const CONNECTIONS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves the connections of one [`send`], one after another.
pub(crate) fn serve(listener: &TcpListener) -> io::Result<()> {
    for _ in 0..CONNECTIONS {
        let (mut stream, _) = listener.accept()?;
        // A hint; who does not know it does not delay either.
        let _ = stream.set_nodelay(true);
        let mut mode = [0];
        stream.read_exact(&mut mode)?;
        if mode[0] == ECHO {
            echo(&mut stream)?;
        } else {
            sink(&mut stream)?;
        }
    }
    Ok(())
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut message = [0; SMALL];
    loop {
        match stream.read_exact(&mut message) {
            Ok(()) => stream.write_all(&message)?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn sink(stream: &mut TcpStream) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    while stream.read(&mut block)? > 0 {}
    stream.write_all(&[SINK])
}

/// Sends `bytes` in large blocks and `messages` small ones, then `rounds` small ones that come back.
pub(crate) fn send(
    to: SocketAddr,
    bytes: u64,
    messages: u64,
    rounds: u64,
) -> io::Result<Vec<Timing>> {
    Ok(vec![
        flood("bulk", to, BLOCK, bytes / BLOCK as u64, BLOCK as u64)?,
        flood("messages", to, SMALL, messages, 1)?,
        ping(to, rounds)?,
    ])
}

fn flood(name: &str, to: SocketAddr, size: usize, blocks: u64, each: u64) -> io::Result<Timing> {
    let block = vec![7; size];
    let mut stream = connect(to, SINK)?;
    Timing::of(name, || {
        for _ in 0..blocks {
            stream.write_all(&block)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_exact(&mut [0])?;
        Ok(blocks * each)
    })
}

fn ping(to: SocketAddr, rounds: u64) -> io::Result<Timing> {
    let mut message = [7; SMALL];
    let mut stream = connect(to, ECHO)?;
    Timing::of("round-trips", || {
        for _ in 0..rounds {
            stream.write_all(&message)?;
            stream.read_exact(&mut message)?;
        }
        Ok(rounds)
    })
}

/// Connects as soon as the other side listens.
fn connect(to: SocketAddr, mode: u8) -> io::Result<TcpStream> {
    let since = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(to) {
            Ok(stream) => break stream,
            Err(error) if since.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let _ = stream.set_nodelay(true);
    stream.write_all(&[mode])?;
    Ok(stream)
}
