//! The two streams: data goes to stdout, everything else to stderr.
//!
//! Both strip styles when they are not a terminal (or `NO_COLOR` says so). A reader that went away
//! (`wasmorch get pods | head`) ends the command in peace.

use std::io::{BufRead as _, ErrorKind, IsTerminal as _, Write as _};

use super::failure::{Failure, Result};

/// Writes data.
pub(super) fn print(text: &str) -> Result {
    write(anstream::stdout().lock(), text.as_bytes())
}

/// Writes data that may be no text, byte by byte as it is.
pub(super) fn print_raw(bytes: &[u8]) -> Result {
    write(std::io::stdout().lock(), bytes)
}

/// Whether a person sees what is printed.
pub(super) fn is_seen() -> bool {
    std::io::stdout().is_terminal()
}

fn write(mut stdout: impl std::io::Write, bytes: &[u8]) -> Result {
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::failed(
            "Output",
            format!("write to stdout: {error}"),
        )),
    }
}

/// Tells the user something that is not data. There is nobody to tell when this fails.
pub(super) fn note(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Replaces the current line of the terminal by a passing remark; nothing where there is none.
pub(super) fn progress(text: &str) {
    if is_interactive() {
        let _ = write!(anstream::stderr().lock(), "\r\x1b[2K{text}");
    }
}

/// Whether a person sees stderr.
pub(super) fn is_interactive() -> bool {
    std::io::stderr().is_terminal()
}

/// Asks before something that cannot be undone. Without a person to ask, only `--yes` will do.
pub(super) fn confirm(question: &str, yes: bool) -> Result {
    if yes {
        return Ok(());
    }
    if !is_interactive() || !std::io::stdin().is_terminal() {
        return Err(
            Failure::usage(format!("{question} There is no terminal to ask on"))
                .help("add --yes to do it without asking"),
        );
    }
    let _ = write!(anstream::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) | Err(_) => Err(Failure::failed("Cancelled", "nothing was done")),
    }
}
