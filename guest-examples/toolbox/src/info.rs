//! Commands about the pod and the time in it: env, ps, date, sleep, test.

use std::fs;
use std::thread::sleep as wait;
use std::time::{Duration, Instant, SystemTime};

use crate::io::{Io, plain};
use crate::{Result, flags};

/// How often a sleeping command looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);
/// What a shell shows for a program that was asked to stop: 128 + SIGTERM.
const STOPPED: i32 = 143;

pub fn env(io: &mut Io, args: &[String]) -> Result {
    let mut all: Vec<(String, String)> = std::env::vars().collect();
    all.sort();
    if args.is_empty() {
        for (name, value) in all {
            io.print(&format!("{name}={value}\n"));
        }
        return Ok(0);
    }
    let mut code = 0;
    for name in args {
        match all.iter().find(|(known, _)| known == name) {
            Some((_, value)) => io.print(&format!("{value}\n")),
            None => code = 1,
        }
    }
    Ok(code)
}

pub fn hostname(io: &mut Io, _: &[String]) -> Result {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.or_else(|_| std::env::var("HOSTNAME").map(|name| name + "\n"));
    io.print(&name.map_err(|_| "the pod does not say its name")?);
    Ok(0)
}

pub fn pwd(io: &mut Io, _: &[String]) -> Result {
    let directory = match io.directory.as_os_str().is_empty() {
        true => std::env::var("PWD")
            .unwrap_or_else(|_| "/".to_owned())
            .into(),
        false => plain(&io.directory),
    };
    io.print(&format!("{}\n", directory.display()));
    Ok(0)
}

pub fn date(io: &mut Io, _: &[String]) -> Result {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    io.print(&format!("{}\n", utc(now.unwrap_or_default().as_secs())));
    Ok(0)
}

/// Seconds since 1970 as a date.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

pub fn sleep(_: &mut Io, args: &[String]) -> Result {
    let mut length = Duration::ZERO;
    for arg in args {
        length += duration(arg).ok_or(format!("`{arg}` is no time"))?;
    }
    let stop = std::env::var("WASMORCH_TERM_FILE");
    let since = Instant::now();
    loop {
        let left = length.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Ok(0);
        }
        if stop.as_ref().is_ok_and(|path| fs::metadata(path).is_ok()) {
            return Ok(STOPPED);
        }
        wait(left.min(LOOK));
    }
}

fn duration(text: &str) -> Option<Duration> {
    if text == "infinity" || text == "inf" {
        return Some(Duration::from_secs(u64::from(u32::MAX)));
    }
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let unit = match unit {
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => 1.0,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

/// The programs of the pod, as the worker shows them.
pub fn ps(io: &mut Io, args: &[String]) -> Result {
    flags(args, "aefuxw")?;
    let listing = fs::read_dir("/proc").map_err(|_| "the worker shows no /proc here")?;
    let mut found = Vec::new();
    for entry in listing.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<u32>() else {
            continue;
        };
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let command = read("cmdline").unwrap_or_default().replace('\0', " ");
        let container = read("comm").unwrap_or_default();
        found.push((pid, container.trim().to_owned(), command.trim().to_owned()));
    }
    found.sort();
    io.print(&format!("{:>5} {:<24} COMMAND\n", "PID", "CONTAINER"));
    for (pid, container, command) in found {
        io.print(&format!("{pid:>5} {container:<24} {command}\n"));
    }
    Ok(0)
}

/// `test`: files and texts; `-e -f -d -s -r -w -n -z`, `=`, `!=`, `!`.
pub fn test(io: &mut Io, args: &[String]) -> Result {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let words = match words.split_last() {
        Some((&"]", words)) => words.to_vec(),
        _ => words,
    };
    let (is_negated, words) = match words.split_first() {
        Some((&"!", words)) => (true, words),
        _ => (false, &words[..]),
    };
    let file = |path: &str| fs::metadata(io.path(path));
    let is_true = match words {
        [] => false,
        [text] => !text.is_empty(),
        ["-e" | "-r" | "-w", path] => file(path).is_ok(),
        ["-f", path] => file(path).is_ok_and(|found| found.is_file()),
        ["-d", path] => file(path).is_ok_and(|found| found.is_dir()),
        ["-s", path] => file(path).is_ok_and(|found| found.len() > 0),
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        [left, "=" | "==", right] => left == right,
        [left, "!=", right] => left != right,
        _ => return Err(format!("not understood: {}", words.join(" "))),
    };
    Ok(i32::from(is_true == is_negated))
}
