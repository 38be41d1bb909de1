//! What is printed: a line for each program, a sum for each directory.

use std::path::{Path, PathBuf};

/// What came of one program.
pub(super) enum Verdict {
    Passed,
    Failed(String),
    NotApplicable(String),
}

pub(super) struct Report {
    directory: PathBuf,
    passed: usize,
    failed: usize,
    not_applicable: usize,
}

impl Report {
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            passed: 0,
            failed: 0,
            not_applicable: 0,
        }
    }

    pub(super) fn add(&mut self, program: &Path, verdict: Verdict) {
        let name = program.file_stem().unwrap().to_string_lossy();
        match verdict {
            Verdict::Passed => {
                self.passed += 1;
                eprintln!("passed  {name}");
            }
            Verdict::Failed(reason) => {
                self.failed += 1;
                eprintln!("FAILED  {name}: {reason}");
            }
            Verdict::NotApplicable(reason) => {
                self.not_applicable += 1;
                eprintln!("n/a     {name}: {reason}");
            }
        }
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{}: {} passed, {} failed, {} not applicable",
            self.directory.display(),
            self.passed,
            self.failed,
            self.not_applicable
        )
    }

    pub(super) fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}
