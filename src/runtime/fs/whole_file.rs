//! Whole files, read and written by the host itself: termination messages, a stop file, `cp`.

use std::sync::Arc;

use super::descriptor::OpenOptions;
use super::errno::Errno;
use super::mount::Root;

impl Root {
    /// Writes a whole file, made or replaced.
    pub fn write_file(self: &Arc<Self>, path: &str, contents: &[u8]) -> Result<(), Errno> {
        let options = OpenOptions {
            follow: true,
            create: true,
            truncate: true,
            write: true,
            ..OpenOptions::default()
        };
        let file = self.open().open_at(path.trim_start_matches('/'), options)?;
        let mut offset = 0;
        while offset < contents.len() {
            offset += file.write_at(offset as u64, &[&contents[offset..]])?;
        }
        Ok(())
    }

    /// Reads a file of at most `limit` bytes; what is beyond is cut.
    pub fn read_file(self: &Arc<Self>, path: &str, limit: usize) -> Result<Vec<u8>, Errno> {
        let options = OpenOptions {
            follow: true,
            read: true,
            ..OpenOptions::default()
        };
        let file = self.open().open_at(path.trim_start_matches('/'), options)?;
        let size = usize::try_from(file.stat()?.size).unwrap_or(usize::MAX);
        let mut contents = vec![0; size.min(limit)];
        let mut length = 0;
        while length < contents.len() {
            match file.read_at(length as u64, &mut contents[length..])? {
                0 => break,
                count => length += count,
            }
        }
        contents.truncate(length);
        Ok(contents)
    }
}
