//! One child process: started, watched, restarted with backoff, ended in good order.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
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
        /// Not its first start.
        again: bool,
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
    stop: CancellationToken,
    kill: CancellationToken,
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

    /// Asks the child to end; it is not restarted.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the child has ended, at most until `deadline`; tells whether it has.
    pub async fn ended(&mut self, deadline: Instant) -> bool {
        let wait = self.ended.wait_for(|ended| *ended);
        tokio::time::timeout_at(deadline.into(), wait).await.is_ok()
    }

    /// `kill -9`, for whoever did not end when asked.
    pub async fn kill(&mut self) {
        self.kill.cancel();
        // A supervisor that is gone has ended its child.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

/// Starts the child and keeps it running until it is stopped.
pub fn supervise(child: Child, reports: mpsc::Sender<Report>, tasks: &TaskGroup) -> Supervised {
    let (done, ended) = watch::channel(false);
    let handle = Supervised {
        name: child.name.clone(),
        // Not children of the group's token: Ctrl-C cancels the group, and the children end in order.
        stop: CancellationToken::new(),
        kill: CancellationToken::new(),
        ended,
    };
    let (stop, kill) = (handle.stop.clone(), handle.kill.clone());
    tasks.spawn("child", async move {
        let supervisor = Supervisor {
            child,
            stop,
            kill,
            reports,
        };
        supervisor.run().await;
        let _ = done.send(true);
    });
    handle
}

struct Supervisor {
    child: Child,
    stop: CancellationToken,
    kill: CancellationToken,
    reports: mpsc::Sender<Report>,
}

impl Supervisor {
    async fn run(&self) {
        let (mut failures, mut again) = (0, false);
        while !self.stop.is_cancelled() {
            let mut process = match self.child.spawn() {
                Ok(process) => process,
                Err(error) => {
                    return self
                        .report(|name| Report::Failed {
                            name,
                            why: error.to_string(),
                        })
                        .await;
                }
            };
            // Held open and never written to: its end tells the child that this process is gone.
            // `wait` would close it if the handle still had it.
            let _pipe = process.stdin.take();
            let pid = process.id().unwrap_or_default();
            let since = Instant::now();
            self.report(|name| Report::Started { name, pid, again })
                .await;
            again = true;
            let how = tokio::select! {
                status = process.wait() => status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                () = self.stop.cancelled() => return self.end(process).await,
            };
            failures = if since.elapsed() > GOOD_CONDUCT {
                1
            } else {
                failures + 1
            };
            let restart_in = RESTART.delay(failures);
            self.report(|name| Report::Exited {
                name,
                how,
                restart_in,
            })
            .await;
            tokio::select! {
                () = tokio::time::sleep(restart_in) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Nobody listens any more once `dev` is stopping; then nothing has to be told.
    async fn report(&self, report: impl FnOnce(String) -> Report) {
        tokio::select! {
            _ = self.reports.send(report(self.child.name.clone())) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// SIGTERM, then the patience of whoever holds the handle.
    async fn end(&self, mut process: tokio::process::Child) {
        let id = process
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(id) = id {
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
        tokio::select! {
            _ = process.wait() => {}
            () = self.kill.cancelled() => {
                let _ = process.kill().await;
            }
        }
    }
}
