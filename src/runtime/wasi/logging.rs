//! `wasi:logging`: lines in the container's log, with their level.
//!
//! A message becomes one line of standard error, `LEVEL context: message`, with line breaks inside it
//! indented, so that a reader can tell where the next one begins. A guest that logs more than the
//! log takes waits, as one does that writes to standard error.

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::runtime::host::Host;

/// With and without its version, which some SDKs leave away.
const NAMES: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];
/// What is longer is cut, and says so.
const MAX_MESSAGE: usize = 16 << 10;

#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[expect(dead_code, reason = "guests make them")]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

pub(in crate::runtime) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut instance = linker.instance(name)?;
        instance.func_wrap_async(
            "log",
            |mut store, (level, context, message): (Level, String, String)| {
                let log = store.data_mut().diagnostics();
                Box::new(async move {
                    log.line(&line(level, &context, &message)).await;
                    Ok(())
                })
            },
        )?;
    }
    Ok(())
}

fn line(level: Level, context: &str, message: &str) -> String {
    let mut line = level.word().to_owned();
    if !context.is_empty() {
        line.push(' ');
        push(&mut line, context);
    }
    line.push_str(": ");
    push(&mut line, message.trim_end());
    line.push('\n');
    line
}

fn push(line: &mut String, text: &str) {
    let shown = &text[..text.floor_char_boundary(MAX_MESSAGE)];
    for (number, part) in shown.lines().enumerate() {
        line.push_str(if number == 0 { "" } else { "\n  " });
        line.push_str(part);
    }
    if shown.len() < text.len() {
        line.push_str(" (");
        line.push_str(&(text.len() - shown.len()).to_string());
        line.push_str(" bytes more)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_bounded() {
        let cases = [
            ("db", "connected\n", "INFO db: connected\n"),
            ("", "one\ntwo", "INFO: one\n  two\n"),
            ("", "", "INFO: \n"),
            ("a\nb", "c", "INFO a\n  b: c\n"),
        ];
        for (context, message, expected) in cases {
            assert_eq!(line(Level::Info, context, message), expected);
        }
        let long = "\u{20ac}".repeat(MAX_MESSAGE);
        let line = line(Level::Critical, "", &long);
        assert!(line.len() < MAX_MESSAGE + 40 && line.ends_with(" bytes more)\n"));
    }
}
