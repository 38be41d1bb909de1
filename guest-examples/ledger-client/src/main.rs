//! The other half: sends a line to the ledger over loopback, then reads the shared file and checks
//! that the line is in it. Once with `ONCE=1`, else every second.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let server = std::env::var("SERVER").unwrap_or_else(|_| "127.0.0.1:7000".to_owned());
    let ledger = std::env::var("LEDGER").unwrap_or_else(|_| "/data/ledger.log".to_owned());
    let once = std::env::var("ONCE").is_ok();
    for entry in 1_u64.. {
        match record(&server, &ledger, &format!("entry {entry}")) {
            Ok(lines) => println!("entry {entry} is in the shared file ({lines} lines)"),
            Err(error) => println!("entry {entry}: {error}"),
        }
        if once {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// Sends `text`, waits for the answer, and finds it in the file that the server wrote.
fn record(server: &str, ledger: &str, text: &str) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(server)?;
    writeln!(stream, "{text}")?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    if answer.trim_end() != format!("ok {text}") {
        return Err(std::io::Error::other(format!(
            "the ledger answered `{}`",
            answer.trim_end()
        )));
    }
    let contents = std::fs::read_to_string(ledger)?;
    if !contents.lines().any(|line| line == text) {
        return Err(std::io::Error::other("the entry is not in the shared file"));
    }
    Ok(contents.lines().count())
}
