//! One child process: started, watched, restarted with backoff, ended in good order.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::app::shutdown::PARENT_PIPE;
use crate::backoff::Backoff;
use crate::tasks::TaskGroup;

/// A child that ran this long starts with a clean record.
const GOOD_CONDUCT: Duration = Duration::from_secs(30);
const RESTART: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// What to start.
pub struct Child {
    name: String,
    arguments: Vec<OsString>,
    /// Secrets go this way: arguments can be read by everybody on the machine.
    environment: Vec<(&'static str, OsString)>,
    log: PathBuf,
    verbose: bool,
}

/// Something happened to a child.
#[derive(Debug)]
pub enum Report {
    Started {
        name: String,
        pid: u32,
    },
    Exited {
        name: String,
        how: String,
        restart_in: Duration,
    },
    Failed {
        name: String,
        why: String,
    },
}

/// The handle of a supervised child.
pub struct Supervised {
    name: String,
    pid: Arc<AtomicU32>,
    stop: CancellationToken,
    ended: watch::Receiver<bool>,
}

impl Child {
    pub fn new(name: &str, role: &str, log: PathBuf, verbose: bool) -> Self {
        Self {
            name: name.to_owned(),
            arguments: vec![role.into()],
            environment: Vec::new(),
            log,
            verbose,
        }
    }

    pub fn arg(&mut self, flag: &str, value: impl Into<OsString>) {
        self.arguments.push(flag.into());
        self.arguments.push(value.into());
    }

    pub fn flag(&mut self, flag: &str) {
        self.arguments.push(flag.into());
    }

    pub fn env(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    fn spawn(&self) -> std::io::Result<tokio::process::Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let stderr = if self.verbose {
            Stdio::inherit()
        } else {
            log.try_clone()?.into()
        };
        Command::new(std::env::current_exe()?)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(PARENT_PIPE, "1")
            // A backtrace per WASI error code costs microseconds on every failing call.
            .env("RUST_LIB_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(stderr)
            // Ctrl-C reaches the whole group; the children are to be ended in order instead.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

impl Supervised {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The current process id, 0 while there is none.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Asks the child to end; it is not restarted.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the child has ended, at most until `deadline`.
    pub async fn ended(mut self, deadline: Instant) {
        let wait = self.ended.wait_for(|ended| *ended);
        if tokio::time::timeout_at(deadline.into(), wait)
            .await
            .is_err()
        {
            tracing::warn!(child = self.name, "did not end in time; it is killed");
        }
    }
}

/// Starts the child and keeps it running until it is stopped.
pub fn supervise(child: Child, reports: mpsc::Sender<Report>, tasks: &TaskGroup) -> Supervised {
    let (done, ended) = watch::channel(false);
    let handle = Supervised {
        name: child.name.clone(),
        pid: Arc::default(),
        // Not a child of the group's token: Ctrl-C cancels the group, and the children end in order.
        stop: CancellationToken::new(),
        ended,
    };
    let (pid, stop) = (Arc::clone(&handle.pid), handle.stop.clone());
    tasks.spawn("child", async move {
        run(&child, &pid, &stop, &reports).await;
        let _ = done.send(true);
    });
    handle
}

async fn run(
    child: &Child,
    pid: &AtomicU32,
    stop: &CancellationToken,
    reports: &mpsc::Sender<Report>,
) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let mut process = match child.spawn() {
            Ok(process) => process,
            Err(error) => {
                let _ = reports
                    .send(Report::Failed {
                        name: child.name.clone(),
                        why: error.to_string(),
                    })
                    .await;
                return;
            }
        };
        // Held open and never written to: its end tells the child that this process is gone. `wait`
        // would close it if the handle still had it.
        let _pipe = process.stdin.take();
        // A restart is told only after the first start: the banner has told that one.
        let id = process.id().unwrap_or_default();
        let first = pid.swap(id, Ordering::Relaxed) == 0 && failures == 0;
        if !first {
            let _ = reports
                .send(Report::Started {
                    name: child.name.clone(),
                    pid: id,
                })
                .await;
        }
        let since = Instant::now();
        let how = tokio::select! {
            status = process.wait() => status.map_or_else(|error| error.to_string(), |status| status.to_string()),
            () = stop.cancelled() => return end(process).await,
        };
        failures = if since.elapsed() > GOOD_CONDUCT {
            1
        } else {
            failures + 1
        };
        let restart_in = RESTART.delay(failures);
        let _ = reports
            .send(Report::Exited {
                name: child.name.clone(),
                how,
                restart_in,
            })
            .await;
        tokio::select! {
            () = tokio::time::sleep(restart_in) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// SIGTERM, then the patience of the caller; dropping the handle kills what is left.
async fn end(mut process: tokio::process::Child) {
    let id = process
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
    if let Some(id) = id {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
    let _ = tokio::time::timeout(super::DRAIN, process.wait()).await;
}
