//! On what it was measured, and what was measured: figures without that are worth nothing.

use std::backtrace::BacktraceStatus;
use std::fmt;

use anyhow::Context as _;
use serde_json::{Value, json};

pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: f64,
    system: String,
    load: String,
    /// Whether each error that is made takes a backtrace, which both sides pay for.
    backtraces: bool,
}

const LOCK: &str = include_str!("../../../../Cargo.lock");
const BUILD: &str = if cfg!(debug_assertions) {
    "DEBUG BUILD, THESE ARE NOT FIGURES"
} else {
    "release build"
};

impl Machine {
    pub(super) fn look() -> anyhow::Result<Self> {
        let read =
            |path: &str| std::fs::read_to_string(path).with_context(|| format!("read {path}"));
        let (cpu, memory, load) = (
            read("/proc/cpuinfo")?,
            read("/proc/meminfo")?,
            read("/proc/loadavg")?,
        );
        let kib = field(&memory, "MemTotal:").and_then(|text| text.split(' ').next()?.parse().ok());
        Ok(Self {
            cpu: field(&cpu, "model name")
                .unwrap_or("unknown CPU")
                .to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: kib.unwrap_or(0.0) / f64::from(1 << 20),
            system: format!("Linux {}", read("/proc/sys/kernel/osrelease")?.trim()),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            backtraces: std::backtrace::Backtrace::capture().status() == BacktraceStatus::Captured,
        })
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "memoryGiB": self.memory_gib, "system": self.system,
            "loadAverage": self.load, "wasmorch": env!("CARGO_PKG_VERSION"), "wasmtime": wasmtime(),
            "build": BUILD, "backtraces": self.backtraces,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "wasmorch {} with wasmtime {}, {BUILD}; {} × {}, {:.0} GiB, {}, load {}",
            env!("CARGO_PKG_VERSION"),
            wasmtime(),
            self.cores,
            self.cpu,
            self.memory_gib,
            self.system,
            self.load
        )?;
        if self.backtraces {
            write!(f, "; RUST_BACKTRACE slows errors down, unset it")?;
        }
        Ok(())
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches([':', '\t', ' ']))
}

/// The version that this was built with, which the crate itself does not tell.
fn wasmtime() -> &'static str {
    let at = LOCK.find("name = \"wasmtime\"\n");
    let rest = at.map_or("", |at| &LOCK[at..]);
    let version = rest.split("version = \"").nth(1);
    version
        .and_then(|text| text.split('"').next())
        .unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_and_the_machine_are_found() {
        assert!(
            wasmtime().starts_with(|c: char| c.is_ascii_digit()),
            "{}",
            wasmtime()
        );
        let machine = Machine::look().unwrap();
        assert!(machine.memory_gib > 0.1 && !machine.system.is_empty());
    }
}
