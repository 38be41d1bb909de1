//! The measured program of `wasmorch bench sandbox`: the same work with files and sockets in a pod,
//! in plain wasmtime, and natively. The modules beside this one are plain `std`, and wasmorch
//! compiles them into itself for the native side.
//!
//!     meter files DIRECTORY FILES BYTES
//!     meter serve ADDRESS
//!     meter send ADDRESS BYTES MESSAGES ROUNDS
//!     meter idle
//!     meter                                     ends at once

mod files;
mod net;
mod timing;

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use timing::Timing;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        [] => {}
        ["idle"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        ["files", directory, files, bytes] => {
            say(&files::run(Path::new(directory), files.parse()?, bytes.parse()?)?);
        }
        ["serve", address] => net::serve(&std::net::TcpListener::bind(address)?)?,
        ["send", address, bytes, messages, rounds] => {
            let (bytes, messages) = (bytes.parse()?, messages.parse()?);
            say(&net::send(address.parse()?, bytes, messages, rounds.parse()?)?);
        }
        _ => return Err("see the head of main.rs".into()),
    }
    Ok(())
}

fn say(timings: &[Timing]) {
    for timing in timings {
        println!("{timing}");
    }
}
