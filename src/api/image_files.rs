//! The read-only files that an image carries beside its program.
//!
//! They are an uncompressed tar in a custom section `wasmorch:files` at the end of the wasm. So a
//! module and its files are one blob under one digest: a pod that is pinned to the digest is pinned to
//! the files, nothing has to be kept together, and every other WebAssembly tool takes the same file
//! and ignores the section. The price: changing a file compiles the program again.
//!
//! An archive is hostile until it was read here: entries are counted, paths cannot leave the root,
//! names are bounded as in the pod's filesystem, and what is no file, directory or symbolic link is
//! refused. Links may point anywhere, because whoever follows them is confined.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;

/// The name of the custom section.
pub const SECTION: &str = "wasmorch:files";
/// Entries of one image.
pub const MAX_ENTRIES: usize = 20_000;
/// As in the pod's filesystem.
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4096;
/// What a pod has of its own; an image that brought them would hide them from itself.
const RESERVED: [&str; 2] = ["tmp", "run"];

/// Why an archive cannot be an image's files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the archive")]
    Archive(#[source] io::Error),
    #[error("more than {MAX_ENTRIES} entries")]
    TooMany,
    #[error("`{path}`: {why}")]
    Entry { path: String, why: &'static str },
    #[error("there is more than one section `{SECTION}`")]
    Twice,
}

/// One entry, with its path split into names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Directory(String),
    /// Where the contents are in the archive.
    File(String, Range<usize>),
    Link(String, String),
}

/// What an archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    pub entries: Vec<Entry>,
    /// The latest time of modification, in seconds since 1970.
    pub modified: u64,
    /// Contents together.
    pub bytes: u64,
}

/// Reads and judges an archive.
pub fn read(archive: &[u8]) -> Result<Files, Error> {
    let mut files = Files::default();
    let mut tar = tar::Archive::new(Cursor::new(archive));
    for entry in tar.entries_with_seek().map_err(Error::Archive)? {
        let entry = entry.map_err(Error::Archive)?;
        if files.entries.len() == MAX_ENTRIES {
            return Err(Error::TooMany);
        }
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let refuse = |why| Error::Entry {
            path: raw.clone(),
            why,
        };
        let names = names(&entry.path_bytes()).map_err(refuse)?;
        let path = names.join("/");
        let kind = entry.header().entry_type();
        let is_reserved = names
            .first()
            .is_some_and(|name| RESERVED.contains(&&**name));
        if is_reserved && !(kind.is_dir() && names.len() == 1) {
            return Err(refuse("`tmp` and `run` belong to the pod"));
        }
        let made = if kind.is_dir() {
            Entry::Directory(path)
        } else if names.is_empty() {
            return Err(refuse("only a directory can be the root"));
        } else if kind.is_file() || kind.is_contiguous() {
            let start = usize::try_from(entry.raw_file_position()).unwrap_or(usize::MAX);
            let size = usize::try_from(entry.size()).unwrap_or(usize::MAX);
            let range = start..start.saturating_add(size);
            if range.end > archive.len() {
                return Err(refuse("the archive ends inside of it"));
            }
            files.bytes += entry.size();
            Entry::File(path, range)
        } else if kind.is_symlink() {
            let target = entry.link_name_bytes().unwrap_or_default();
            Entry::Link(path, link_target(&target).map_err(refuse)?)
        } else {
            return Err(refuse(
                "is neither a file nor a directory nor a symbolic link",
            ));
        };
        files.modified = files.modified.max(entry.header().mtime().unwrap_or(0));
        if !is_reserved {
            files.entries.push(made);
        }
    }
    Ok(files)
}

/// The names of a path; a leading `/` or `./` is how archives write it.
fn names(path: &[u8]) -> Result<Vec<String>, &'static str> {
    let path = std::str::from_utf8(path).map_err(|_| "the path is not UTF-8")?;
    if path.len() >= MAX_PATH {
        return Err("the path is too long");
    }
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => return Err("the path contains `..`"),
            name if name.len() > MAX_NAME => return Err("a name is longer than 255 bytes"),
            name if name.contains('\0') => return Err("the path contains a NUL"),
            name => names.push(name.to_owned()),
        }
    }
    Ok(names)
}

fn link_target(target: &[u8]) -> Result<String, &'static str> {
    let target = std::str::from_utf8(target).map_err(|_| "the link's target is not UTF-8")?;
    match target.len() {
        0 => Err("the link has no target"),
        length if length >= MAX_PATH => Err("the link's target is too long"),
        _ => Ok(target.to_owned()),
    }
}

/// What stands before an archive of `size` bytes to make it a section at a wasm file's end.
pub fn section_head(size: u64) -> Option<Vec<u8>> {
    let name = SECTION.as_bytes();
    // The name's length fits in one byte of LEB128.
    let content = u32::try_from(size.checked_add(1 + name.len() as u64)?).ok()?;
    let mut head = vec![0];
    let mut rest = content;
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        head.push(if rest == 0 { low } else { low | 0x80 });
        if rest == 0 {
            break;
        }
    }
    head.push(name.len() as u8);
    head.extend_from_slice(name);
    Some(head)
}

/// The place of the archive in a wasm file, module or component. Only the heads of sections are read,
/// so the size of the file does not matter. A file that is no wasm has none.
pub fn find(file: &mut (impl Read + Seek)) -> Result<Option<Range<u64>>, Error> {
    let mut found = None;
    let end = file.seek(SeekFrom::End(0)).map_err(Error::Archive)?;
    let mut at = 8;
    while at < end {
        file.seek(SeekFrom::Start(at)).map_err(Error::Archive)?;
        let Some((id, size, head)) = section(file).map_err(Error::Archive)? else {
            break;
        };
        let (start, after) = (at + head, at + head + size);
        if after > end {
            break;
        }
        if id == 0 {
            file.seek(SeekFrom::Start(start)).map_err(Error::Archive)?;
            if is_ours(file, size).map_err(Error::Archive)? {
                if found.is_some() {
                    return Err(Error::Twice);
                }
                found = Some(start + 1 + SECTION.len() as u64..after);
            }
        }
        at = after;
    }
    Ok(found)
}

/// A section's number, its size, and the size of its head.
fn section(file: &mut impl Read) -> io::Result<Option<(u8, u64, u64)>> {
    let mut bytes = [0; 6];
    let count = read_up_to(file, &mut bytes)?;
    let mut size = 0;
    for (index, byte) in bytes[..count].iter().enumerate().skip(1) {
        size |= u64::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            return Ok(Some((bytes[0], size, index as u64 + 1)));
        }
    }
    Ok(None)
}

/// Whether the section whose contents begin here has our name.
fn is_ours(file: &mut impl Read, size: u64) -> io::Result<bool> {
    let mut name = [0; 1 + SECTION.len()];
    if size < name.len() as u64 || read_up_to(file, &mut name)? < name.len() {
        return Ok(false);
    }
    Ok(usize::from(name[0]) == SECTION.len() && &name[1..] == SECTION.as_bytes())
}

fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::find as locate;
    use super::*;

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(7);
        header
    }

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    /// An entry with its path as it is, however bad.
    fn raw(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType) {
        let mut header = header(kind, 0);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, &[][..]).unwrap();
    }

    #[test]
    fn files_directories_and_links() {
        let long = format!("d/{}", "n".repeat(200));
        let bytes = archive(|builder| {
            raw(builder, "./", tar::EntryType::Directory);
            raw(builder, "tmp/", tar::EntryType::Directory);
            let mut entry = header(tar::EntryType::Regular, 5);
            builder
                .append_data(&mut entry, "./a/b", &b"hello"[..])
                .unwrap();
            let mut entry = header(tar::EntryType::Regular, 2);
            builder.append_data(&mut entry, &long, &b"xy"[..]).unwrap();
            let mut entry = header(tar::EntryType::Symlink, 0);
            builder.append_link(&mut entry, "link", "/a/../b").unwrap();
        });
        let files = read(&bytes).unwrap();
        let Entry::File(path, range) = &files.entries[1] else {
            panic!("{files:?}")
        };
        assert_eq!(
            (path.as_str(), &bytes[range.clone()]),
            ("a/b", &b"hello"[..])
        );
        assert!(matches!(&files.entries[2], Entry::File(path, _) if *path == long));
        assert_eq!(
            files.entries[3],
            Entry::Link("link".into(), "/a/../b".into())
        );
        assert_eq!(
            (files.entries.len(), files.bytes, files.modified),
            (4, 7, 7)
        );
    }

    #[test]
    fn what_could_do_harm_is_refused() {
        use tar::EntryType;
        let cases = [
            ("../x", EntryType::Regular, "the path contains `..`"),
            ("a/../../x", EntryType::Regular, "the path contains `..`"),
            ("dev", EntryType::Char, "is neither"),
            ("pipe", EntryType::Fifo, "is neither"),
            ("hard", EntryType::Link, "is neither"),
            ("link", EntryType::Symlink, "the link has no target"),
            ("run/x", EntryType::Regular, "belong to the pod"),
            ("/", EntryType::Regular, "only a directory"),
        ];
        for (path, kind, words) in cases {
            let error = read(&archive(|builder| raw(builder, path, kind))).unwrap_err();
            assert!(error.to_string().contains(words), "{path}: {error}");
        }
        let mut cut = archive(|builder| {
            let mut entry = header(EntryType::Regular, 5000);
            builder
                .append_data(&mut entry, "f", &[0; 5000][..])
                .unwrap();
        });
        cut.truncate(1024);
        assert!(read(&cut).is_err());
        assert!(read(b"no archive at all, but long enough to be taken for one").is_err());
        let many = archive(|builder| {
            for number in 0..=MAX_ENTRIES {
                raw(builder, &number.to_string(), EntryType::Directory);
            }
        });
        assert!(matches!(read(&many), Err(Error::TooMany)));
    }

    #[test]
    fn the_section_is_found_where_it_is() {
        let wasm = b"\0asm\x01\0\0\0\x00\x05\x04name";
        let find = |bytes: &[u8]| locate(&mut Cursor::new(bytes));
        assert_eq!(find(wasm).unwrap(), None);
        for size in [0, 1, 100, 5000, 70_000] {
            let mut with = wasm.to_vec();
            with.extend(section_head(size).unwrap());
            let start = with.len() as u64;
            with.resize(with.len() + size as usize, b'x');
            assert_eq!(find(&with).unwrap(), Some(start..start + size));
            with.extend(section_head(1).unwrap());
            with.push(0);
            assert!(matches!(find(&with), Err(Error::Twice)));
        }
        assert_eq!(find(b"not wasm").unwrap(), None);
        assert_eq!(find(b"").unwrap(), None);
        assert!(section_head(u64::from(u32::MAX)).is_none());
    }
}
