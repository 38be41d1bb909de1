//! One server per store: a lock file that the kernel frees when its holder dies.
//!
//! SQLite's own locks would let a second server in between two transactions, and its memory would
//! then be wrong. The lock is `flock` on a file of its own beside the database; the file holds the
//! pid of the holder, for the message, and is never removed (removing it would let two servers hold
//! two files of one name).
//!
//! A lock that is held is asked for again for [`PATIENCE`]: a holder that was killed frees it a
//! moment later than its supervisor hears of the death, and a process that the holder starts has the
//! descriptor between fork and exec.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::Error;

const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// Held for as long as the store may write.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) async fn acquire(database: &Path) -> Result<Self, Error> {
        let mut attempts = PATIENCE.as_millis() / PAUSE.as_millis();
        loop {
            match Self::try_acquire(database) {
                Err(Error::Locked { .. }) if attempts > 0 => attempts -= 1,
                answer => return answer,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn try_acquire(database: &Path) -> Result<Self, Error> {
        let path = lock_path(database);
        let open = |source: std::io::Error| Error::Open {
            path: path.clone(),
            source: source.into(),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(open)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Locked {
                    path: database.to_owned(),
                    pid: read_pid(&mut file),
                });
            }
            Err(errno) => return Err(open(errno.into())),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(open)?;
        Ok(Self { _file: file })
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Zero when the holder has not written it yet.
fn read_pid(file: &mut File) -> u32 {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => text.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}
