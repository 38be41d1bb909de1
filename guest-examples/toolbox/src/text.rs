//! Commands on text: cat, echo, head, tail, wc, grep, tee.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};

use crate::io::{Io, words};
use crate::{Result, about, flags};

pub fn cat(io: &mut Io, args: &[String]) -> Result {
    let (_, mut paths) = flags(args, "u")?;
    if paths.is_empty() {
        paths.push("-");
    }
    let mut code = 0;
    for path in paths {
        let copied = match io.open(Some(path)) {
            Ok(mut from) => io.copy(&mut from).map_err(about(path)),
            Err(message) => Err(message),
        };
        if let Err(message) = copied {
            io.complain(&format!("cat: {message}"));
            code = 1;
        }
    }
    Ok(code)
}

pub fn echo(io: &mut Io, args: &[String]) -> Result {
    let (newline, words) = match args {
        [first, rest @ ..] if first == "-n" => ("", rest),
        words => ("\n", words),
    };
    io.print(&format!("{}{newline}", words.join(" ")));
    Ok(0)
}

/// `-n N`, `-c N` or `-N`, and the files.
struct Counted<'a> {
    count: usize,
    is_bytes: bool,
    /// The number was written `+N`: for `tail`, where to begin, counted from one.
    is_place: bool,
    files: Vec<&'a str>,
}

fn counted(args: &[String]) -> Result<Counted<'_>> {
    let (mut count, mut is_bytes, mut is_place, mut files) = (10, false, false, Vec::new());
    let mut number = |text: &str| {
        is_place = text.starts_with('+');
        let parsed = text.parse::<usize>();
        parsed.map_err(|_| format!("`{text}` is not a number"))
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let rest = arg.strip_prefix("-n").or_else(|| arg.strip_prefix("-c"));
        match rest {
            Some("") => count = number(args.next().ok_or("how many?")?)?,
            Some(text) => count = number(text)?,
            None => match arg.strip_prefix('-').map(str::parse) {
                Some(Ok(lines)) => count = lines,
                Some(Err(_)) if arg != "-" => return Err(format!("unknown option {arg}")),
                _ => files.push(arg.as_str()),
            },
        }
        is_bytes |= arg.starts_with("-c");
    }
    Ok(Counted {
        count,
        is_bytes,
        is_place,
        files,
    })
}

pub fn head(io: &mut Io, args: &[String]) -> Result {
    let Counted {
        count,
        is_bytes,
        files,
        ..
    } = counted(args)?;
    let from = io.open(files.first().copied())?;
    if is_bytes {
        io.copy(&mut from.take(count as u64))
            .map_err(|error| words(&error))?;
        return Ok(0);
    }
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    for _ in 0..count {
        line.clear();
        let read = from.read_until(b'\n', &mut line);
        if read.map_err(|error| words(&error))? == 0 || io.broken.is_some() {
            break;
        }
        io.write(&line);
    }
    Ok(0)
}

pub fn tail(io: &mut Io, args: &[String]) -> Result {
    let Counted {
        count,
        is_bytes,
        is_place,
        files,
    } = counted(args)?;
    let mut from = BufReader::new(io.open(files.first().copied())?);
    if is_place {
        skip(&mut from, count.saturating_sub(1), is_bytes)?;
        io.copy(&mut from).map_err(|error| words(&error))?;
        return Ok(0);
    }
    if is_bytes {
        let mut all = Vec::new();
        from.read_to_end(&mut all).map_err(|error| words(&error))?;
        io.write(&all[all.len().saturating_sub(count)..]);
        return Ok(0);
    }
    let mut last = VecDeque::new();
    loop {
        let mut line = Vec::new();
        let read = from.read_until(b'\n', &mut line);
        if read.map_err(|error| words(&error))? == 0 {
            break;
        }
        last.push_back(line);
        if last.len() > count {
            last.pop_front();
        }
    }
    for line in last {
        io.write(&line);
    }
    Ok(0)
}

/// Reads over the first bytes or lines.
fn skip(from: &mut impl BufRead, count: usize, is_bytes: bool) -> Result<()> {
    if is_bytes {
        let skipped = std::io::copy(&mut from.take(count as u64), &mut std::io::sink());
        return skipped.map(drop).map_err(|error| words(&error));
    }
    for _ in 0..count {
        let read = from.read_until(b'\n', &mut Vec::new());
        if read.map_err(|error| words(&error))? == 0 {
            break;
        }
    }
    Ok(())
}

pub fn wc(io: &mut Io, args: &[String]) -> Result {
    let (flags, mut paths) = flags(args, "lwc")?;
    if paths.is_empty() {
        paths.push("-");
    }
    for path in paths {
        let mut bytes = Vec::new();
        let mut from = io.open(Some(path))?;
        from.read_to_end(&mut bytes).map_err(about(path))?;
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let parts = bytes.split(u8::is_ascii_whitespace);
        let count = parts.filter(|word| !word.is_empty()).count();
        let all = [('l', lines), ('w', count), ('c', bytes.len())];
        let shown = all
            .iter()
            .filter(|(flag, _)| flags.is_empty() || flags.contains(*flag));
        let shown: Vec<String> = shown.map(|(_, number)| number.to_string()).collect();
        let name = if path == "-" { "" } else { path };
        io.print(format!("{} {name}", shown.join(" ")).trim_end());
        io.print("\n");
    }
    Ok(0)
}

/// Lines that contain the text; no patterns.
pub fn grep(io: &mut Io, args: &[String]) -> Result {
    let (flags, words_given) = flags(args, "vicqF")?;
    let (text, files) = words_given.split_first().ok_or("which text?")?;
    let fold = |line: &str| match flags.contains('i') {
        true => line.to_lowercase(),
        false => line.to_owned(),
    };
    let text = fold(text);
    let mut found = 0;
    let files: Vec<Option<&str>> = match files {
        [] => vec![None],
        files => files.iter().copied().map(Some).collect(),
    };
    for file in files {
        let from = BufReader::new(io.open(file)?);
        for line in from.split(b'\n') {
            let line = line.map_err(|error| words(&error))?;
            let line = String::from_utf8_lossy(&line).into_owned();
            if fold(&line).contains(&text) != flags.contains('v') {
                found += 1;
                if !flags.contains(['c', 'q']) {
                    io.print(&format!("{line}\n"));
                }
            }
        }
    }
    if flags.contains('c') {
        io.print(&format!("{found}\n"));
    }
    Ok(i32::from(found == 0))
}

pub fn tee(io: &mut Io, args: &[String]) -> Result {
    let (flags, paths) = flags(args, "a")?;
    let mut files = Vec::new();
    for path in paths {
        let mut options = std::fs::OpenOptions::new();
        let options = options.create(true).write(true);
        let options = match flags.contains('a') {
            true => options.append(true),
            false => options.truncate(true),
        };
        files.push((path, options.open(io.path(path)).map_err(about(path))?));
    }
    let mut from = io.open(None)?;
    let mut buffer = vec![0; 32 << 10];
    loop {
        let count = from.read(&mut buffer).map_err(|error| words(&error))?;
        if count == 0 {
            return Ok(0);
        }
        io.write(&buffer[..count]);
        io.flush();
        for (path, file) in &mut files {
            file.write_all(&buffer[..count]).map_err(about(path))?;
        }
    }
}
