//! Commands on files: ls, cp, mv, rm, mkdir, rmdir, touch.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::info::utc;
use crate::io::Io;
use crate::{Result, about, flags};

pub fn ls(io: &mut Io, args: &[String]) -> Result {
    let (flags, mut paths) = flags(args, "la1AhR")?;
    if paths.is_empty() {
        paths.push(".");
    }
    let mut code = 0;
    let is_many = paths.len() > 1;
    for path in paths {
        let full = io.path(path);
        match fs::metadata(&full) {
            Ok(found) if found.is_dir() => {
                if is_many {
                    io.print(&format!("{path}:\n"));
                }
                for line in directory(&full, &flags).map_err(about(path))? {
                    io.print(&line);
                }
            }
            Ok(_) => io.print(&line(&full, path, &flags)),
            Err(error) => {
                io.complain(&format!("ls: {}", about(path)(error)));
                code = 1;
            }
        }
    }
    Ok(code)
}

fn directory(path: &Path, flags: &str) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if flags.contains(['a', 'A']) || !name.starts_with('.') {
            lines.push((name.clone(), line(&path.join(&name), &name, flags)));
        }
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

fn line(path: &Path, name: &str, flags: &str) -> String {
    if !flags.contains('l') {
        return format!("{name}\n");
    }
    let Ok(found) = fs::symlink_metadata(path) else {
        return format!("?          ? {name}\n");
    };
    let kind = match found.file_type() {
        kind if kind.is_dir() => 'd',
        kind if kind.is_symlink() => 'l',
        _ => '-',
    };
    let changed = found.modified().ok();
    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let changed = utc(changed.unwrap_or_default().as_secs());
    let target = match fs::read_link(path) {
        Ok(target) if kind == 'l' => format!(" -> {}", target.display()),
        _ => String::new(),
    };
    format!("{kind} {:>10} {changed} {name}{target}\n", found.len())
}

pub fn cp(io: &mut Io, args: &[String]) -> Result {
    let (flags, paths) = flags(args, "rRapf")?;
    let (to, from) = paths.split_last().ok_or("which files?")?;
    if from.is_empty() {
        return Err(format!("{to}: to where?"));
    }
    for path in from {
        let target = inside(io, path, to);
        let is_recursive = flags.contains(['r', 'R', 'a']);
        copy(&io.path(path), &target, is_recursive).map_err(about(path))?;
    }
    Ok(0)
}

fn copy(from: &Path, to: &Path, is_recursive: bool) -> std::io::Result<()> {
    if !fs::metadata(from)?.is_dir() {
        let mut source = fs::File::open(from)?;
        let mut target = fs::File::create(to)?;
        return std::io::copy(&mut source, &mut target).map(drop);
    }
    if !is_recursive {
        return Err(std::io::Error::other("is a directory (use -r)"));
    }
    if !to.is_dir() {
        fs::create_dir(to)?;
    }
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name), true)?;
    }
    Ok(())
}

pub fn mv(io: &mut Io, args: &[String]) -> Result {
    let (_, paths) = flags(args, "f")?;
    let (to, from) = paths.split_last().ok_or("which files?")?;
    if from.is_empty() {
        return Err(format!("{to}: to where?"));
    }
    for path in from {
        let (source, target) = (io.path(path), inside(io, path, to));
        // Between two volumes a move is a copy.
        if fs::rename(&source, &target).is_err() {
            copy(&source, &target, true).map_err(about(path))?;
            remove(&source).map_err(about(path))?;
        }
    }
    Ok(0)
}

/// The target of `from`: in the directory `to`, or `to` itself.
fn inside(io: &Io, from: &str, to: &str) -> PathBuf {
    let target = io.path(to);
    match Path::new(from).file_name() {
        Some(name) if target.is_dir() => target.join(name),
        _ => target,
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

pub fn rm(io: &mut Io, args: &[String]) -> Result {
    let (flags, paths) = flags(args, "rRf")?;
    let is_forced = flags.contains('f');
    for path in paths {
        let full = io.path(path);
        let result = match fs::symlink_metadata(&full) {
            Ok(found) if found.is_dir() && !flags.contains(['r', 'R']) => {
                Err(std::io::Error::other("is a directory (use -r)"))
            }
            Ok(_) => remove(&full),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_forced => Ok(()),
            Err(error) => Err(error),
        };
        result.map_err(about(path))?;
    }
    Ok(0)
}

pub fn mkdir(io: &mut Io, args: &[String]) -> Result {
    let (flags, paths) = flags(args, "p")?;
    for path in paths {
        let full = io.path(path);
        let made = if flags.contains('p') {
            fs::create_dir_all(full)
        } else {
            fs::create_dir(full)
        };
        made.map_err(about(path))?;
    }
    Ok(0)
}

pub fn rmdir(io: &mut Io, args: &[String]) -> Result {
    let (_, paths) = flags(args, "")?;
    for path in paths {
        fs::remove_dir(io.path(path)).map_err(about(path))?;
    }
    Ok(0)
}

pub fn touch(io: &mut Io, args: &[String]) -> Result {
    let (_, paths) = flags(args, "c")?;
    for path in paths {
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).append(true).open(io.path(path));
        let file = file.map_err(about(path))?;
        file.set_modified(std::time::SystemTime::now())
            .map_err(about(path))?;
    }
    Ok(0)
}
