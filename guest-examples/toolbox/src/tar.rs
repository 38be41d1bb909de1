//! Archives, as far as `kubectl cp` needs them: `tar cf - PATH…` and `tar xmf - -C DIRECTORY`.
//!
//! Written is ustar, with GNU's long names; read are also pax' paths and sizes, which Go writes. There
//! are no owners and no modes in here, so none are kept. No member leaves the directory.

use std::fs;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::io::Io;
use crate::{Result, about};

const BLOCK: usize = 512;
/// A name, or what is said about a file, is no longer.
const MAX_NAME: u64 = 64 << 10;

const FILE: u8 = b'0';
const LINK: u8 = b'2';
const DIRECTORY: u8 = b'5';
const LONG_NAME: u8 = b'L';
const LONG_TARGET: u8 = b'K';
const ABOUT_NEXT: u8 = b'x';
const ABOUT_ALL: u8 = b'g';

#[derive(Default)]
struct Asked<'a> {
    mode: Option<char>,
    archive: Option<&'a str>,
    directory: Option<&'a str>,
    is_verbose: bool,
    paths: Vec<&'a str>,
}

pub fn tar(io: &mut Io, args: &[String]) -> Result {
    let asked = asked(args)?;
    let directory = io.path(asked.directory.unwrap_or_default());
    match asked.mode {
        Some('c') if asked.paths.is_empty() => Err("which files?".to_owned()),
        Some('c') => create(io, &asked, &directory),
        Some('x' | 't') => read(io, &asked, &directory),
        _ => Err("one of c, x and t is needed".to_owned()),
    }
}

fn asked(args: &[String]) -> Result<Asked<'_>> {
    let mut asked = Asked::default();
    let mut args = args.iter().map(String::as_str).enumerate();
    while let Some((at, arg)) = args.next() {
        let letters = match arg.strip_prefix('-') {
            // How a program that knows no owners behaves anyway.
            Some("-no-same-owner" | "-no-same-permissions" | "-no-overwrite-dir" | "-") => continue,
            Some(long) if long.starts_with('-') => return Err(format!("unknown option -{long}")),
            Some(letters) if !letters.is_empty() => letters,
            None if at == 0 => arg,
            _ => {
                asked.paths.push(arg);
                continue;
            }
        };
        for letter in letters.chars() {
            match letter {
                'c' | 'x' | 't' => asked.mode = Some(letter),
                'v' => asked.is_verbose = true,
                // Times, modes and owners.
                'm' | 'p' | 'o' => {}
                'f' | 'C' => {
                    let value = args.next().ok_or(format!("-{letter} needs a value"))?.1;
                    if letter == 'f' {
                        asked.archive = Some(value);
                    } else {
                        asked.directory = Some(value);
                    }
                }
                unknown => return Err(format!("unknown option -{unknown}")),
            }
        }
    }
    Ok(asked)
}

fn create(io: &mut Io, asked: &Asked<'_>, directory: &Path) -> Result {
    let to_file = asked.archive.filter(|name| *name != "-");
    if let Some(name) = to_file {
        let file = fs::File::create(io.path(name)).map_err(about(name))?;
        io.flush();
        io.stdout = Box::new(file);
    }
    let mut code = 0;
    for path in &asked.paths {
        if path.starts_with('/') && !asked.is_verbose {
            io.complain("tar: Removing leading `/' from member names");
        }
        if let Err(message) = add(io, &directory.join(path), inner(path)?) {
            io.complain(&format!("tar: {message}"));
            code = 2;
        }
    }
    io.write(&[0; 2 * BLOCK]);
    Ok(code)
}

/// Adds a file, or a directory with all that is in it.
fn add(io: &mut Io, path: &Path, name: PathBuf) -> Result<()> {
    let shown = path.display().to_string();
    let found = fs::symlink_metadata(path).map_err(about(&shown))?;
    let changed = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let member = Member {
        name: name.to_string_lossy().into_owned(),
        changed: changed.unwrap_or_default().as_secs(),
        ..Member::default()
    };
    if found.is_symlink() {
        let target = fs::read_link(path).map_err(about(&shown))?;
        write_head(io, &Member { kind: LINK, target: target.to_string_lossy().into_owned(), ..member });
        return Ok(());
    }
    if found.is_dir() {
        let name_of_directory = format!("{}/", member.name);
        write_head(io, &Member { kind: DIRECTORY, name: name_of_directory, ..member });
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(about(&shown))? {
            names.push(entry.map_err(about(&shown))?.file_name());
        }
        names.sort();
        for entry in names {
            add(io, &path.join(&entry), name.join(&entry))?;
        }
        return Ok(());
    }
    let file = fs::File::open(path).map_err(about(&shown))?;
    write_head(io, &Member { kind: FILE, size: found.len(), ..member });
    let copied = io.copy(&mut file.take(found.len())).map_err(about(&shown))?;
    // A file that shrinks meanwhile is filled up, for the head is written.
    let mut missing = found.len() - copied + padding(found.len());
    while missing > 0 && io.broken.is_none() {
        let zeros = missing.min(BLOCK as u64);
        io.write(&[0; BLOCK][..zeros as usize]);
        missing -= zeros;
    }
    Ok(())
}

#[derive(Clone, Debug, Default)]
struct Member {
    name: String,
    kind: u8,
    size: u64,
    changed: u64,
    target: String,
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn write_head(io: &mut Io, member: &Member) {
    for (kind, text) in [(LONG_NAME, &member.name), (LONG_TARGET, &member.target)] {
        if text.len() > 100 {
            let name = "././@LongLink".to_owned();
            let size = text.len() as u64 + 1;
            io.write(&head(&Member { name, kind, size, ..Member::default() }));
            io.write(text.as_bytes());
            io.write(&[0; BLOCK + 1][..1 + padding(size) as usize]);
        }
    }
    io.write(&head(member));
}

fn head(member: &Member) -> [u8; BLOCK] {
    let mut head = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    let short = |text: &str| text.as_bytes()[..text.len().min(100)].to_vec();
    put(0, &short(&member.name));
    put(100, if member.kind == DIRECTORY { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", member.size).as_bytes());
    put(136, format!("{:011o}\0", member.changed).as_bytes());
    put(156, &[member.kind]);
    put(157, &short(&member.target));
    put(257, b"ustar\x0000");
    let sum = checksum(&head);
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head
}

/// The sum of a head's bytes, its own place as spaces.
fn checksum(head: &[u8; BLOCK]) -> u32 {
    let bytes = head.iter().enumerate();
    bytes.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum()
}

fn read(io: &mut Io, asked: &Asked<'_>, directory: &Path) -> Result {
    let mut input = io.open(asked.archive)?;
    let mut code = 0;
    let mut long = Member::default();
    while let Some(mut member) = next(&mut input)? {
        match member.kind {
            LONG_NAME | LONG_TARGET | ABOUT_NEXT | ABOUT_ALL => {
                let text = text(&mut input, member.size)?;
                match member.kind {
                    LONG_NAME => long.name = text,
                    LONG_TARGET => long.target = text,
                    ABOUT_NEXT => apply(&mut long, &text)?,
                    _ => {}
                }
                continue;
            }
            _ => {}
        }
        let said = std::mem::take(&mut long);
        if !said.name.is_empty() {
            member.name = said.name;
        }
        if !said.target.is_empty() {
            member.target = said.target;
        }
        if said.size > 0 {
            member.size = said.size;
        }
        if asked.is_verbose || asked.mode == Some('t') {
            io.print(&format!("{}\n", member.name));
        }
        let mut content = input.by_ref().take(member.size);
        if asked.mode == Some('x')
            && let Err(message) = extract(&member, &mut content, directory)
        {
            io.complain(&format!("tar: {message}"));
            code = 2;
        }
        let left = content.limit();
        skip(&mut input, left + padding(member.size))?;
    }
    // Whoever writes must not find a closed pipe.
    std::io::copy(&mut input, &mut std::io::sink()).map_err(about("read"))?;
    Ok(code)
}

fn extract(member: &Member, content: &mut dyn Read, directory: &Path) -> Result<()> {
    let path = directory.join(inner(&member.name)?);
    let failed = about(&member.name);
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(&failed)?;
    }
    match member.kind {
        DIRECTORY => fs::create_dir_all(&path).map_err(&failed),
        #[expect(deprecated, reason = "the only one that WASI has")]
        LINK => fs::soft_link(&member.target, &path).map_err(&failed),
        FILE | 0 => {
            let mut file = fs::File::create(&path).map_err(&failed)?;
            std::io::copy(content, &mut file).map_err(&failed)?;
            file.flush().map_err(&failed)?;
            let changed = UNIX_EPOCH + Duration::from_secs(member.changed);
            // Not every filesystem keeps times.
            let _ = file.set_modified(changed);
            Ok(())
        }
        kind => Err(format!("{}: nothing here is of kind `{}`", member.name, kind as char)),
    }
}

/// A member's path without its root; none leads out of its directory.
fn inner(name: &str) -> Result<PathBuf> {
    let mut inner = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(name) => inner.push(name),
            Component::ParentDir => return Err(format!("{name}: leads out of the directory")),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(inner)
}

/// The next head; `None` at the end, with or without its two empty blocks.
fn next(input: &mut dyn Read) -> Result<Option<Member>> {
    let mut head = [0; BLOCK];
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut head[filled..]).map_err(about("read"))? {
            0 if filled == 0 => return Ok(None),
            0 => return Err("the archive ends too early".to_owned()),
            count => filled += count,
        }
    }
    if head.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    if number(&head[148..156])? != u64::from(checksum(&head)) {
        return Err("this is no tar archive".to_owned());
    }
    let field = |at: usize, length: usize| {
        let bytes = &head[at..at + length];
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(length);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let mut name = field(0, 100);
    let prefix = field(345, 155);
    if &head[257..263] == b"ustar\0" && !prefix.is_empty() {
        name = format!("{prefix}/{name}");
    }
    Ok(Some(Member {
        name,
        kind: head[156],
        size: number(&head[124..136])?,
        changed: number(&head[136..148])?,
        target: field(157, 100),
    }))
}

/// A number in octal digits, or in GNU's binary for what is larger.
fn number(field: &[u8]) -> Result<u64> {
    if field[0] & 0x80 != 0 {
        return Ok(field[1..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    }
    let digits = String::from_utf8_lossy(field);
    let digits = digits.trim_matches([' ', '\0']);
    if digits.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(digits, 8).map_err(|_| "this is no tar archive".to_owned())
}

fn text(input: &mut dyn Read, size: u64) -> Result<String> {
    if size > MAX_NAME {
        return Err("a name is too long".to_owned());
    }
    let mut bytes = vec![0; size as usize];
    input.read_exact(&mut bytes).map_err(about("read"))?;
    skip(input, padding(size))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches('\0').to_owned())
}

/// What pax says about the next member: `LENGTH KEY=VALUE\n`, again and again.
fn apply(long: &mut Member, said: &str) -> Result<()> {
    let mut rest = said;
    while !rest.is_empty() {
        let broken = || "a pax header is broken".to_owned();
        let (length, _) = rest.split_once(' ').ok_or_else(broken)?;
        let length: usize = length.parse().map_err(|_| broken())?;
        let record = rest.get(..length).ok_or_else(broken)?;
        rest = &rest[length..];
        let record = record.trim_end_matches('\n');
        let pair = record.split_once(' ').and_then(|(_, pair)| pair.split_once('='));
        match pair.ok_or_else(broken)? {
            ("path", path) => long.name = path.to_owned(),
            ("linkpath", target) => long.target = target.to_owned(),
            ("size", size) => long.size = size.parse().map_err(|_| broken())?,
            _ => {}
        }
    }
    Ok(())
}

fn skip(input: &mut dyn Read, count: u64) -> Result<()> {
    let skipped = std::io::copy(&mut input.take(count), &mut std::io::sink());
    match skipped.map_err(about("read"))? {
        read if read == count => Ok(()),
        _ => Err("the archive ends too early".to_owned()),
    }
}
