//! What a command reads and writes: the streams it was started with, or a shell's pipes and files;
//! and the directory that relative paths start from.

use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};

pub struct Io {
    pub stdin: Box<dyn Read>,
    pub stdout: Box<dyn Write>,
    /// The shell's directory; empty is wherever the program was started.
    pub directory: PathBuf,
    /// Why nothing more can be written.
    pub broken: Option<String>,
}

impl Io {
    pub fn standard() -> Self {
        Self {
            stdin: Box::new(std::io::stdin()),
            stdout: Box::new(std::io::stdout()),
            directory: PathBuf::new(),
            broken: None,
        }
    }

    pub fn print(&mut self, text: &str) {
        self.write(text.as_bytes());
    }

    pub fn write(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.broken = self.stdout.write_all(bytes).err().as_ref().map(words);
        }
    }

    pub fn flush(&mut self) {
        if self.broken.is_none() {
            self.broken = self.stdout.flush().err().as_ref().map(words);
        }
    }

    pub fn complain(&mut self, message: &str) {
        self.flush();
        // There is nobody to tell when this fails.
        let _ = writeln!(std::io::stderr(), "{message}");
    }

    /// A path as the shell's directory makes it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// Standard input for `-` or nothing, else the file.
    pub fn open(&mut self, path: Option<&str>) -> crate::Result<Box<dyn Read>> {
        match path {
            None | Some("-") => Ok(std::mem::replace(
                &mut self.stdin,
                Box::new(std::io::empty()),
            )),
            Some(path) => {
                let file = std::fs::File::open(self.path(path)).map_err(crate::about(path))?;
                Ok(Box::new(file))
            }
        }
    }

    /// Writes all that `from` has, as it comes.
    pub fn copy(&mut self, from: &mut dyn Read) -> std::io::Result<u64> {
        let mut buffer = vec![0; 32 << 10];
        let mut total = 0;
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(total),
                count => {
                    self.write(&buffer[..count]);
                    self.flush();
                    total += count as u64;
                    if self.broken.is_some() {
                        return Ok(total);
                    }
                }
            }
        }
    }
}

/// An absolute path without `.` and `..`.
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// An error without its number.
pub fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}
