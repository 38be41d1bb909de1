//! How a program's end is told: exit code, reason, and what an operator needs to read.
//!
//! Codes are those that a shell would show: 128 + the signal that a kernel sends for the same thing.
//! Unreachable code is an abort (6), a division by zero is 8, memory and stack out of bounds are 11, a
//! kill and a passed memory limit are 9. What the program wrote to its termination message file comes
//! first in the message, as in Kubernetes; a trap's own text follows it.
//! A refused `memory.grow` is not an end by itself; it becomes `OOMKilled`
//! when the program then fails, because nearly every program that gets no memory aborts in its own
//! way and the way tells nobody anything.

use wasmtime::component::ResourceTableError;
use wasmtime_wasi::I32Exit;

use super::budget::Exceeded;
use super::container::{Ended, Scene};
use super::cpu::KilledError;
use super::limits::{Handles, MAX_HOST_CALL_BYTES};
use super::spec::{Exit, ExitReason};
use crate::api::quantity;

const ABORTED: i32 = 128 + 6;
const ARITHMETIC: i32 = 128 + 8;
const SEGMENT: i32 = 128 + 11;
const KILLED: i32 = 128 + 9;
/// What is kept of a trap's message and backtrace.
const MAX_MESSAGE: usize = 4 << 10;

/// wasmtime's errors for these limits have no public type.
const FUEL_IN_WORDS: &str = "fuel allocated for hostcalls";
const HANDLES_IN_WORDS: &str = "store handle limit exceeded";

/// What a call of a program's entry came to.
pub(super) type Outcome = wasmtime::Result<Result<(), ()>>;

impl Exit {
    /// A container that ended by itself and in good order.
    pub(super) fn completed() -> Self {
        Self {
            code: 0,
            reason: ExitReason::Completed,
            message: String::new(),
        }
    }

    /// A container that was killed from outside.
    pub(super) fn killed() -> Self {
        Self {
            code: KILLED,
            reason: ExitReason::Killed,
            message: String::new(),
        }
    }

    /// The end of a program, with the last growth that its limit refused.
    pub(super) fn of(outcome: Outcome, refusal: Option<Exceeded>) -> Self {
        let (code, message) = match outcome {
            Ok(Ok(())) => return Self::completed(),
            Ok(Err(())) => (1, String::new()),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(0)) => return Self::completed(),
                Some(I32Exit(code)) => (code & 0xff, String::new()),
                None if error.is::<KilledError>() => return Self::killed(),
                None => (trap_code(&error), trap_message(&error, Handles::PROCESS)),
            },
        };
        match refusal {
            Some(exceeded) => Self {
                code: KILLED,
                reason: ExitReason::OomKilled,
                message: oom_message(exceeded),
            },
            None => Self {
                code,
                reason: ExitReason::Error,
                message,
            },
        }
    }
}

impl Exit {
    /// Whether the program did not end but was ended, by itself or by a limit, with a text for it.
    pub(super) fn is_trap(&self) -> bool {
        self.code >= 128 && self.reason != ExitReason::Killed && !self.message.is_empty()
    }

    /// With what the program left in its termination message file.
    pub(super) fn with_termination_message(mut self, scene: Option<Scene>) -> Self {
        let written = scene.and_then(|scene| {
            let path = scene.spec.termination_message_path?;
            scene.root.read_file(&path, MAX_MESSAGE).ok()
        });
        let written = written.unwrap_or_default();
        let written = String::from_utf8_lossy(&written);
        let written = written.trim_end();
        if !written.is_empty() {
            self.message = match self.message.as_str() {
                "" => written.to_owned(),
                own => format!("{written}\n{own}"),
            };
            cut(&mut self.message);
        }
        self
    }
}

/// The signal that a kernel would send for the same.
fn trap_code(error: &wasmtime::Error) -> i32 {
    use wasmtime::Trap;
    match error.downcast_ref::<Trap>() {
        Some(
            Trap::IntegerDivisionByZero | Trap::IntegerOverflow | Trap::BadConversionToInteger,
        ) => ARITHMETIC,
        Some(Trap::MemoryOutOfBounds | Trap::HeapMisaligned | Trap::StackOverflow) => SEGMENT,
        // The list is wasmtime's and grows; all else is the program giving up.
        Some(_) | None => ABORTED,
    }
}

fn cut(message: &mut String) {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE - 3));
        message.push('…');
    }
}

/// The limit that ended the guest, where wasmtime's own words name none.
pub(super) fn limit(error: &wasmtime::Error) -> Option<Ended> {
    let cause = error.root_cause().to_string();
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full))
        || cause.contains(HANDLES_IN_WORDS)
    {
        return Some(Ended::Handles);
    }
    cause.contains(FUEL_IN_WORDS).then_some(Ended::HostCall)
}

/// The same with its number.
fn limit_in_words(ended: Ended, handles: Handles) -> String {
    let Handles { objects } = handles;
    match ended {
        Ended::Handles => format!(
            "limit of {objects} host objects (descriptors, sockets, streams, pollables, headers) and handles reached"
        ),
        Ended::HostCall => format!(
            "limit of {} in one call to the host passed",
            quantity::readable_bytes(MAX_HOST_CALL_BYTES as u64)
        ),
    }
}

/// What happened inside the guest: the cause first, then the frames.
pub(super) fn trap_message(error: &wasmtime::Error, handles: Handles) -> String {
    let cause = match limit(error) {
        Some(ended) => limit_in_words(ended, handles),
        None => error.root_cause().to_string(),
    };
    let mut message = match error.downcast_ref::<wasmtime::WasmBacktrace>() {
        Some(backtrace) => {
            let frames = backtrace.to_string();
            let frames = frames
                .strip_prefix("error while executing at wasm backtrace:\n")
                .unwrap_or(&frames);
            format!("{cause}\n{frames}")
        }
        None if error.is::<super::limits::OverLimitError>() => cause,
        None => format!("{error:#}"),
    };
    cut(&mut message);
    message.truncate(message.trim_end().len());
    message
}

/// The limit and the numbers.
pub(super) fn oom_message(exceeded: Exceeded) -> String {
    format!(
        "memory limit {}: {} in use, {} more wanted",
        quantity::from_bytes(exceeded.max).0,
        mebibytes(exceeded.used),
        mebibytes(exceeded.wanted)
    )
}

/// Exact numbers of bytes tell a reader less than their size.
fn mebibytes(bytes: u64) -> String {
    format!("{:.1}Mi", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(outcome: Outcome, refusal: Option<Exceeded>, code: i32, reason: ExitReason) -> Exit {
        let exit = Exit::of(outcome, refusal);
        assert_eq!((exit.code, exit.reason), (code, reason), "{exit:?}");
        exit
    }

    #[test]
    fn every_end_has_its_code_and_reason() {
        let refused = Exceeded {
            wanted: 4 << 20,
            used: 62 << 20,
            max: 64 << 20,
        };
        let exit = |code| Err(I32Exit(code).into());
        check(Ok(Ok(())), None, 0, ExitReason::Completed);
        check(Ok(Err(())), None, 1, ExitReason::Error);
        check(exit(0), None, 0, ExitReason::Completed);
        check(exit(3), None, 3, ExitReason::Error);
        check(exit(-1), None, 255, ExitReason::Error);
        let killed = Err(KilledError.into());
        check(killed, None, 137, ExitReason::Killed);
        let trap = || Err(wasmtime::Trap::UnreachableCodeReached.into());
        let exit = check(trap(), None, 134, ExitReason::Error);
        assert!(exit.message.contains("unreachable"), "{exit:?}");
        for (trap, code) in [
            (wasmtime::Trap::StackOverflow, 139),
            (wasmtime::Trap::MemoryOutOfBounds, 139),
            (wasmtime::Trap::IntegerDivisionByZero, 136),
            (wasmtime::Trap::IndirectCallToNull, 134),
        ] {
            let exit = check(Err(trap.into()), None, code, ExitReason::Error);
            assert!(exit.is_trap());
        }
        let exit = check(trap(), Some(refused), 137, ExitReason::OomKilled);
        assert_eq!(
            exit.message,
            "memory limit 64Mi: 62.0Mi in use, 4.0Mi more wanted"
        );
        // It coped without the memory.
        check(Ok(Ok(())), Some(refused), 0, ExitReason::Completed);
    }
}
