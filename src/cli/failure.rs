//! How the command line fails: what happened, why, and one thing to do about it.
//!
//! Every error reaches the user in one form (`error[CODE]: what`, `because` lines, `help:`) and
//! every process ends with one of the codes of [`Exit`]; scripts rely on both. A server's `Status`
//! keeps its own words: the reason is the code, the causes are the becauses.

use std::fmt::Write as _;
use std::process::ExitCode;

use kube::core::Status;

use super::style;

pub(super) type Result<T = ()> = std::result::Result<T, Failure>;

/// The exit codes, all of them beside 0 (done) and 130, which is the shell's word for Ctrl-C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// The request failed, or what was waited for did not come.
    Failed = 1,
    /// The command line makes no sense (clap ends with the same code).
    Usage = 2,
    /// Accepted, but no node can take it yet.
    Unplaceable = 3,
    /// Not authenticated, or not allowed.
    Denied = 4,
    /// No server answers.
    Unreachable = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    code: String,
    what: String,
    because: Vec<String>,
    help: Option<String>,
}

impl Failure {
    pub(super) fn new(exit: Exit, code: &str, what: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.to_owned(),
            what: what.into(),
            because: Vec::new(),
            help: None,
        }
    }

    /// The request failed.
    pub(super) fn failed(code: &str, what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, code, what)
    }

    /// The user asked for something that makes no sense.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "Usage", what)
    }

    pub(super) fn because(mut self, reason: impl Into<String>) -> Self {
        self.because.push(reason.into());
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A server's refusal.
    pub(super) fn from_status(status: &Status) -> Self {
        let code = match (status.reason.as_str(), status.code) {
            ("", code) => format!("HTTP {code}"),
            (reason, _) => reason.to_owned(),
        };
        let exit = match status.code {
            401 | 403 => Exit::Denied,
            _ => Exit::Failed,
        };
        let mut failure = Self::new(exit, &code, status.message.clone());
        let details = status.details.iter();
        for cause in details.flat_map(|details| &details.causes) {
            let text = match cause.field.as_str() {
                "" => cause.message.clone(),
                field => format!("{field}: {}", cause.message),
            };
            // The message of an invalid object already tells all of its causes in one line.
            if !failure.what.contains(&text) {
                failure.because.push(text);
            }
        }
        match status.code {
            401 => failure.help(
                "the token of this context is not known to the server; was it started afresh? \
                 wasmorch config path shows the file in use",
            ),
            409 if status.reason == "AlreadyExists" => {
                failure.help("to change what exists: wasmorch apply -f FILE")
            }
            _ => failure,
        }
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.code == "NotFound"
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.code == "Conflict"
    }

    pub(super) fn is_unreachable(&self) -> bool {
        self.exit == Exit::Unreachable
    }

    /// The text for a person, with style codes that the writer strips where nobody sees them.
    pub(super) fn render(&self) -> String {
        let (error, end) = (style::BAD.render(), style::BAD.render_reset());
        let mut text = format!("{error}error[{}]{end}: {}\n", self.code, self.what);
        for reason in &self.because {
            let _ = writeln!(text, "  {}", reason.replace('\n', "\n  "));
        }
        if let Some(help) = &self.help {
            let (quiet, end) = (style::QUIET.render(), style::QUIET.render_reset());
            let _ = writeln!(
                text,
                "  {quiet}help:{end} {}",
                help.replace('\n', "\n        ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.render()).to_string()
    }

    #[test]
    fn an_error_says_what_why_and_what_next() {
        let failure = Failure::new(Exit::Unreachable, "W0202", "cannot reach http://h:1")
            .because("context \"dev\"")
            .help("wasmorch dev");
        assert_eq!(
            plain(&failure),
            "error[W0202]: cannot reach http://h:1\n  context \"dev\"\n  help: wasmorch dev\n"
        );
    }

    #[test]
    fn a_status_keeps_its_words() {
        let status = |code, reason: &str| Status {
            code,
            reason: reason.to_owned(),
            message: "pods \"a\" is bad: spec.x: no".to_owned(),
            details: Some(StatusDetails {
                causes: vec![
                    StatusCause {
                        field: "spec.x".to_owned(),
                        message: "no".to_owned(),
                        reason: String::new(),
                    },
                    StatusCause {
                        field: String::new(),
                        message: "worse".to_owned(),
                        reason: String::new(),
                    },
                ],
                name: String::new(),
                group: String::new(),
                kind: String::new(),
                uid: String::new(),
                retry_after_seconds: 0,
            }),
            ..Status::default()
        };
        let failure = Failure::from_status(&status(422, "Invalid"));
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(
            plain(&failure),
            "error[Invalid]: pods \"a\" is bad: spec.x: no\n  worse\n"
        );
        assert_eq!(
            Failure::from_status(&status(403, "Forbidden")).exit,
            Exit::Denied
        );
        assert_eq!(
            Failure::from_status(&status(401, "Unauthorized")).exit,
            Exit::Denied
        );
        assert!(Failure::from_status(&status(404, "NotFound")).is_not_found());
    }
}
