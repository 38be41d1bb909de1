//! The toolbox: the small commands that `wasmorch exec` and `wasmorch debug` run in a pod whose own
//! program has none. One program, many names: the first argument's last path segment says which,
//! and `toolbox NAME …` runs NAME.
//!
//! It sees what a container of the pod sees and nothing else: the pod's files, its sockets on the
//! pod's network, and what the worker shows below `/proc`. There are no processes to start, so `sh`
//! runs the commands in here, one after the other.

mod file;
mod info;
mod io;
mod net;
mod shell;
mod tar;
mod text;

use io::Io;

/// What a command got wrong, told on standard error.
type Result<T = i32> = std::result::Result<T, String>;

type Applet = fn(&mut Io, &[String]) -> Result;

const APPLETS: &[(&str, Applet)] = &[
    ("[", info::test),
    ("cat", text::cat),
    ("cp", file::cp),
    ("curl", net::http),
    ("date", info::date),
    ("echo", text::echo),
    ("env", info::env),
    ("false", |_, _| Ok(1)),
    ("grep", text::grep),
    ("head", text::head),
    ("hostname", info::hostname),
    ("http", net::http),
    ("ls", file::ls),
    ("mkdir", file::mkdir),
    ("mv", file::mv),
    ("nc", net::nc),
    ("netstat", net::netstat),
    ("nslookup", net::nslookup),
    ("printenv", info::env),
    ("ps", info::ps),
    ("pwd", info::pwd),
    ("rm", file::rm),
    ("rmdir", file::rmdir),
    ("sh", shell::sh),
    ("sleep", info::sleep),
    ("ss", net::netstat),
    ("tail", text::tail),
    ("tar", tar::tar),
    ("tee", text::tee),
    ("test", info::test),
    ("touch", file::touch),
    ("true", |_, _| Ok(0)),
    ("wc", text::wc),
];

/// What a shell answers when there is no such command.
const NOT_FOUND: i32 = 127;

fn main() {
    let mut args: Vec<String> = std::env::args().collect();
    let mut io = Io::standard();
    if args.is_empty() {
        args.push("toolbox".to_owned());
    }
    let own = name(&args[0]) == "toolbox";
    if own {
        args.remove(0);
    }
    let code = match args.first() {
        Some(_) => run(&mut io, &args),
        None => run(&mut io, &["sh".to_owned()]),
    };
    io.flush();
    // The standard library's exit knows success and failure only.
    wasip2::cli::exit::exit_with_code(code as u8);
}

/// Runs a command by its words; what goes wrong is told and becomes a code.
fn run(io: &mut Io, words: &[String]) -> i32 {
    let Some((command, args)) = words.split_first() else {
        return 0;
    };
    let command = name(command);
    if command == "toolbox" || command == "--help" || command == "help" {
        let names: Vec<&str> = APPLETS.iter().map(|(name, _)| *name).collect();
        io.print(&format!("toolbox has: {}\n", names.join(" ")));
        return 0;
    }
    let Some((_, applet)) = APPLETS.iter().find(|(name, _)| *name == command) else {
        io.complain(&format!("{command}: not found (try `toolbox`)"));
        return NOT_FOUND;
    };
    let code = match applet(io, args) {
        Ok(code) => code,
        Err(message) => {
            io.complain(&format!("{command}: {message}"));
            1
        }
    };
    io.flush();
    match io.broken.take() {
        None => code,
        Some(error) => {
            io.complain(&format!("{command}: write: {error}"));
            1
        }
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Flags like `-la`, then the rest; `--` ends the flags. A lone `-` is no flag.
fn flags<'a>(args: &'a [String], known: &str) -> Result<(String, Vec<&'a str>)> {
    let mut set = String::new();
    let mut rest = Vec::new();
    let mut is_over = false;
    for arg in args {
        match arg.strip_prefix('-') {
            Some("-") if !is_over => is_over = true,
            Some(letters) if !is_over && !letters.is_empty() => {
                if let Some(unknown) = letters.chars().find(|letter| !known.contains(*letter)) {
                    return Err(format!("unknown option -{unknown}"));
                }
                set.push_str(letters);
            }
            _ => rest.push(arg.as_str()),
        }
    }
    Ok((set, rest))
}

/// `error` about `what`, as one reads it everywhere.
fn about(what: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{what}: {}", io::words(&error))
}
