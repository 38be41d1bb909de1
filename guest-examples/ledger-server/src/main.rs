//! One half of a pod of two containers: a TCP server on the pod's own loopback that appends every
//! line it is sent to a file on a volume which both containers mount.
//!
//! Plain `std`: it would run unchanged on any machine. `LISTEN` (default `127.0.0.1:7000`) and
//! `LEDGER` (default `/data/ledger.log`) say where.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:7000".to_owned());
    let ledger = std::env::var("LEDGER").unwrap_or_else(|_| "/data/ledger.log".to_owned());
    let listener = TcpListener::bind(&listen)?;
    println!("ledger listening on {listen}");
    for stream in listener.incoming() {
        let stream = stream?;
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            let mut file = OpenOptions::new().create(true).append(true).open(&ledger)?;
            file.write_all(line.as_bytes())?;
            writeln!(&stream, "ok {}", line.trim_end())?;
            line.clear();
        }
    }
    Ok(())
}
