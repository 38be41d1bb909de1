//! `--files DIR[:PATH]`: a directory becomes the files of an image.
//!
//! The archive is made the same from the same files wherever and whenever it is made (sorted, without
//! times and owners), so pushing again what has not changed changes no digest.

use std::path::Path;

use super::failure::{Failure, Result};
use crate::api::image_files;
use crate::errors::chain;

/// Appends the files to a wasm as a section; nothing to append changes nothing.
pub(super) fn append(wasm: &mut Vec<u8>, files: &[String]) -> Result {
    if files.is_empty() {
        return Ok(());
    }
    let mut archive = tar::Builder::new(Vec::new());
    for one in files {
        let (from, to) = one.rsplit_once(':').unwrap_or((one, "/"));
        let to = to.trim_matches('/');
        add(&mut archive, Path::new(from), Path::new(to)).map_err(|error| {
            Failure::failed("W0112", format!("cannot take the files of {from}"))
                .because(error.to_string())
        })?;
    }
    let archive = archive.into_inner();
    let archive = archive.map_err(|error| Failure::failed("W0112", error.to_string()))?;
    // What the server would refuse is refused before it is sent.
    image_files::read(&archive).map_err(|error| {
        Failure::failed("W0112", "these files cannot be an image's".to_owned())
            .because(chain(&error).to_string())
    })?;
    let head = image_files::section_head(archive.len() as u64)
        .ok_or_else(|| Failure::failed("W0112", "the files are more than 4 GiB".to_owned()))?;
    wasm.extend(head);
    wasm.extend(archive);
    Ok(())
}

fn add(archive: &mut tar::Builder<Vec<u8>>, from: &Path, to: &Path) -> std::io::Result<()> {
    // What is named is meant, also if it is a link; what is inside is taken as it is.
    let metadata = std::fs::metadata(from)?;
    if metadata.is_dir() {
        return add_directory(archive, from, to);
    }
    let name = if to.as_os_str().is_empty() {
        Path::new(from.file_name().unwrap_or_default())
    } else {
        to
    };
    add_file(archive, from, name)
}

fn add_directory(
    archive: &mut tar::Builder<Vec<u8>>,
    from: &Path,
    to: &Path,
) -> std::io::Result<()> {
    if !to.as_os_str().is_empty() {
        let mut header = header(tar::EntryType::Directory, 0);
        archive.append_data(&mut header, to, &[][..])?;
    }
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(from)?.collect();
    let mut entries = entries?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, inside) = (entry.path(), to.join(entry.file_name()));
        let file_type = entry.file_type()?;
        if file_type.is_dir() {
            add_directory(archive, &path, &inside)?;
        } else if file_type.is_symlink() {
            let mut header = header(tar::EntryType::Symlink, 0);
            archive.append_link(&mut header, inside, std::fs::read_link(&path)?)?;
        } else if file_type.is_file() {
            add_file(archive, &path, &inside)?;
        } else {
            let what = format!(
                "{} is neither a file nor a directory nor a link",
                path.display()
            );
            return Err(std::io::Error::other(what));
        }
    }
    Ok(())
}

fn add_file(archive: &mut tar::Builder<Vec<u8>>, from: &Path, to: &Path) -> std::io::Result<()> {
    let contents = std::fs::read(from)?;
    let mut header = header(tar::EntryType::Regular, contents.len() as u64);
    archive.append_data(&mut header, to, contents.as_slice())
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::image_files::Entry;

    fn entries(files: &[String]) -> Vec<Entry> {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        append(&mut wasm, files).unwrap();
        let again = image_files::find(&mut std::io::Cursor::new(&wasm))
            .unwrap()
            .unwrap();
        let archive = &wasm[again.start as usize..again.end as usize];
        image_files::read(archive).unwrap().entries
    }

    #[test]
    fn a_directory_a_file_and_where_they_go() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/b"), "2").unwrap();
        std::fs::write(root.path().join("a"), "1").unwrap();
        std::os::unix::fs::symlink("a", root.path().join("link")).unwrap();
        let path = root.path().display();
        let names = |files: &[String]| -> Vec<String> {
            let names = entries(files).into_iter().map(|entry| match entry {
                Entry::Directory(path) => format!("{path}/"),
                Entry::File(path, _) => path,
                Entry::Link(path, target) => format!("{path} -> {target}"),
            });
            names.collect()
        };
        assert_eq!(names(&[path.to_string()]), ["a", "d/", "d/b", "link -> a"]);
        assert_eq!(
            names(&[format!("{path}:/srv/x"), format!("{path}/a:/etc/b")]),
            [
                "srv/x/",
                "srv/x/a",
                "srv/x/d/",
                "srv/x/d/b",
                "srv/x/link -> a",
                "etc/b"
            ]
        );
        assert_eq!(names(&[format!("{path}/a")]), ["a"]);
        assert_eq!(entries(&[path.to_string()]), entries(&[path.to_string()]));
        assert!(append(&mut Vec::new(), &[format!("{path}/none")]).is_err());
        assert!(append(&mut Vec::new(), &[format!("{path}:/run")]).is_err());
        let mut untouched = Vec::new();
        append(&mut untouched, &[]).unwrap();
        assert!(untouched.is_empty());
    }
}
