//! What programs do with files, step by step, in a directory that is empty before and after.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use super::timing::Timing;

const BLOCK: usize = 64 << 10;
const SMALL: usize = 4 << 10;

/// Does every step with so many files, and so many bytes in one file.
pub(crate) fn run(directory: &Path, files: u64, bytes: u64) -> io::Result<Vec<Timing>> {
    let path = |index: u64| directory.join(format!("file-{index}"));
    let each = |step: &dyn Fn(u64) -> io::Result<()>| {
        (0..files).try_for_each(step)?;
        Ok::<u64, io::Error>(files)
    };
    let mut timings = vec![
        Timing::of("create", || {
            each(&|index| File::create(path(index)).map(drop))
        })?,
        Timing::of("stat", || {
            each(&|index| fs::metadata(path(index)).map(drop))
        })?,
        Timing::of("readdir", || {
            let mut entries = 0;
            for entry in fs::read_dir(directory)? {
                entry?;
                entries += 1;
            }
            Ok::<u64, io::Error>(entries)
        })?,
        Timing::of("remove", || each(&|index| fs::remove_file(path(index))))?,
    ];
    let large = directory.join("large");
    for (size, write, read) in [
        (BLOCK, "write-64k", "read-64k"),
        (SMALL, "write-4k", "read-4k"),
    ] {
        // Small blocks say what a call costs; they need no more than a part of the bytes.
        let bytes = if size == SMALL { bytes / 4 } else { bytes };
        timings.push(Timing::of(write, || write_all(&large, size, bytes))?);
        timings.push(Timing::of(read, || read_all(&large, size))?);
        fs::remove_file(&large)?;
    }
    Ok(timings)
}

fn write_all(path: &Path, size: usize, bytes: u64) -> io::Result<u64> {
    let block = vec![7; size];
    let mut file = File::create(path)?;
    let mut written = 0;
    while written < bytes {
        file.write_all(&block)?;
        written += size as u64;
    }
    Ok(written)
}

fn read_all(path: &Path, size: usize) -> io::Result<u64> {
    let mut block = vec![0; size];
    let mut file = File::open(path)?;
    let mut read = 0;
    loop {
        match file.read(&mut block)? {
            0 => return Ok(read),
            length => read += length as u64,
        }
    }
}
