//! A WASI 0.1 server: it accepts on the listener that wasmorch hands it for its declared container
//! port (descriptor `LISTEN_FD`, default 4: after stdio and the one preopened directory), and sends
//! back what it is sent.
//!
//! WASI 0.1 cannot open sockets by itself; a declared `containerPort` is what makes it a server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::FromRawFd;

fn main() -> std::io::Result<()> {
    let fd: i32 = std::env::var("LISTEN_FD")
        .ok()
        .and_then(|fd| fd.parse().ok())
        .unwrap_or(4);
    // SAFETY: the host opened this descriptor for us and nobody else owns it.
    let listener = unsafe { TcpListener::from_raw_fd(fd) };
    println!("accepting on descriptor {fd}");
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let (mut stream, _) = listener.accept()?;
        loop {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => stream.write_all(&buffer[..length])?,
            }
        }
    }
}
