//! What guests made the worker keep goes back to the host when they have ended.
//!
//! Linear memories are mappings of their own and gone with their guest. But header fields, files,
//! tables, handles and buffers are pieces of the worker's heap, and glibc keeps what was freed there in
//! two ways, of which one guest can make a hundred megabytes:
//!
//! - Free pieces below one that lives. So after a guest that may have left such pieces has ended, the
//!   allocator is told to release every whole page that is free in any of its arenas. That holds the
//!   arenas' locks while it walks their free pieces, so it is done at most once a [`PAUSE`], for all
//!   that ended meanwhile, on a thread for blocking calls.
//! - The top of an arena, which that call leaves alone. It is cut when it passes a threshold, but every
//!   large piece that is freed moves this threshold up, to 64 MiB in the end, for each arena. So it is
//!   fixed, at [`LARGE`]. And it is cut only by the freeing of a piece that is merged with it at once,
//!   which small ones are not while they wait in a list of their own (fastbins). So there is no such
//!   list; a thread's own cache of small pieces stays.
//!
//! The allocator is the process' and so is the notice: the one static of the runtime. Other C libraries
//! (musl) have no such calls, and give large pieces back by themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::tasks::TaskGroup;

/// Between two releases, and so the longest that freed memory waits for one.
const PAUSE: Duration = Duration::from_secs(1);
/// An instance of a handler that took less is not worth the walk: the next one takes it again.
const WORTH: u64 = 8 << 20;
/// Pieces of this size are mappings of their own, and so much may be free at the top of an arena. The
/// rings of connections are smaller, for which a mapping each would be slow.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 1 << 20;

static IS_DUE: AtomicBool = AtomicBool::new(false);
static DUE: Notify = Notify::const_new();

/// Something ended that may have left free pages.
pub(super) fn freed() {
    // Read first: among many endings the flag is shared, not fought for.
    if !IS_DUE.load(Ordering::Relaxed) && !IS_DUE.swap(true, Ordering::Relaxed) {
        DUE.notify_one();
    }
}

/// An instance ended that had `bytes` of memory charged.
pub(super) fn freed_bytes(bytes: u64) {
    if bytes >= WORTH {
        freed();
    }
}

/// Gives memory back when it is due, until the group ends.
pub(super) fn keep_trim(tasks: &TaskGroup) {
    configure();
    let stopped = tasks.cancelled();
    tasks.spawn_contained("heap", async move {
        let release = async {
            loop {
                DUE.notified().await;
                // What ends now is mostly one of several, and still in the middle of it.
                tokio::time::sleep(PAUSE).await;
                IS_DUE.store(false, Ordering::Relaxed);
                if tokio::task::spawn_blocking(trim).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = stopped.cancelled() => {}
            () = release => {}
        }
    });
}

fn configure() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (option, value) in [
        (libc::M_MMAP_THRESHOLD, LARGE),
        (libc::M_TRIM_THRESHOLD, LARGE),
        (libc::M_MXFAST, 0),
    ] {
        // SAFETY: it takes no pointer, and takes the allocator's own lock.
        if unsafe { libc::mallopt(option, value) } == 0 {
            tracing::warn!(
                option,
                "the allocator refuses; freed memory may stay resident"
            );
        }
    }
}

fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes no pointer, and takes the allocator's own locks.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    const PIECE: usize = 60_000;
    const TAKEN: usize = 256 << 20;

    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[tokio::test]
    async fn freed_pieces_below_one_that_lives_are_given_back() {
        let tasks = TaskGroup::new();
        keep_trim(&tasks);
        let mut pieces: Vec<Vec<u8>> = (0..TAKEN / PIECE).map(|_| vec![1; PIECE]).collect();
        let last = pieces.pop();
        let full = resident();
        drop(pieces);
        freed();
        let given_back = async {
            // Other tests run beside and take memory, too.
            let mut pause = tokio::time::interval(Duration::from_millis(20));
            while resident() > full - TAKEN / 2 {
                pause.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), given_back)
            .await
            .unwrap();
        drop(last);
    }
}
