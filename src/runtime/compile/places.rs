//! Places for compilers: few, and none is held for long while others wait.
//!
//! A module that keeps the compiler busy until its limit must not keep the pods of everybody else from
//! starting. So whoever has compiled for longer than ordinary modules take goes on in a place of its
//! own, of which there is one. If that is taken, the compilation is ended, because a paused one would
//! hold its memory, and begun anew when its turn has come. Work is lost only where two are that slow.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// See the module.
pub(in crate::runtime) struct Places {
    ordinary: Semaphore,
    slow: Semaphore,
    patience: Duration,
}

impl Places {
    /// So many at a time, each for `patience` at most, besides the slow one.
    pub(in crate::runtime) fn new(ordinary: usize, patience: Duration) -> Self {
        Self {
            ordinary: Semaphore::new(ordinary.max(1)),
            slow: Semaphore::new(1),
            patience,
        }
    }

    /// Compiles when there is a place. Dropping what `begin` gave must end the compiler.
    pub(in crate::runtime) async fn compile<F: Future>(&self, begin: impl Fn() -> F) -> F::Output {
        let place = take(&self.ordinary).await;
        let mut work = Box::pin(begin());
        if let Ok(done) = tokio::time::timeout(self.patience, &mut work).await {
            return done;
        }
        if let Ok(_slow) = self.slow.try_acquire() {
            drop(place);
            return work.await;
        }
        drop(work);
        drop(place);
        let _slow = take(&self.slow).await;
        begin().await
    }
}

async fn take(places: &Semaphore) -> SemaphorePermit<'_> {
    let place = places.acquire().await;
    place.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use futures::FutureExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn who_is_slow_makes_room_and_who_is_slow_beside_another_begins_anew() {
        let places = Places::new(1, PATIENCE);
        let (begun, release) = (Cell::new(0), tokio::sync::Notify::new());
        let bomb = || {
            begun.set(begun.get() + 1);
            release.notified()
        };
        let mut first = Box::pin(places.compile(bomb));
        let mut second = Box::pin(places.compile(bomb));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert_eq!(begun.get(), 1, "there is one ordinary place");
        // Both go on where they do not stand in the way of an ordinary one.
        let ordinary = places.compile(async || "done");
        let done = tokio::select! {
            done = ordinary => done,
            () = &mut first => unreachable!("it was not released"),
            () = &mut second => unreachable!("it was not released"),
        };
        assert_eq!((done, begun.get()), ("done", 2));
        release.notify_waiters();
        first.await;
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(begun.get(), 3, "the second began anew in the first's place");
        release.notify_waiters();
        second.await;
    }

    #[tokio::test]
    async fn a_place_comes_back_from_who_gave_up() {
        let places = Places::new(1, PATIENCE);
        let bomb = places.compile(pending::<()>);
        // The ordinary one comes in when the bomb has left the place, and gives it up then.
        tokio::select! {
            () = bomb => unreachable!("it never ends"),
            () = places.compile(async || ()) => {}
        }
        assert_eq!(places.compile(async || 1).await, 1);
        assert_eq!(places.slow.available_permits(), 1);
    }
}
