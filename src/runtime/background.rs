//! Guests that compute beyond their share, on threads to which the kernel gives only what nobody else
//! wants.
//!
//! A guest that computes without end is interrupted at every slice, but the thread it runs on is to the
//! kernel one like those that do I/O: whoever wakes up on that core waits for the kernel's own slice
//! (some milliseconds, measured as a neighbour's p99). So a guest that used up its slice and is over
//! what its container requested ([`Cpu::is_over_share`]) moves to a thread of the policy
//! `SCHED_IDLE`, which every other thread interrupts at once, and comes back as soon as it waits for
//! something or its guarantee has grown again. Among each other these guests take turns by their shares:
//! whoever has many runs for longer, whoever has few lets turns pass ([`Cpu::passes`]), which takes no
//! time when nobody else is there.
//!
//! A guest that has a directory of the host is never polled at home: any of its calls may wait for a
//! disk, and the thread waits with it, so each of its polls is a visit to its pod's [`Lane`] (`disk`).
//!
//! The guest's future moves, not its task: [`Metered`] is polled where it always was and waits for the
//! guest's return. Timers and sockets that a guest opens away from home belong to its home runtime.
//! Dropping [`Metered`] ends a guest that is away at its next tick, or when the disk has answered it.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::cpu::Cpu;
use super::disk::{Lane, Wanted, Woken};
use super::guests::Guests;
use super::ticker::Presence;
use super::turn;

/// A guest's future whose polls are counted as its container's CPU time.
pub(super) struct Metered<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    place: Place<F>,
    guests: Guests,
}

enum Place<F: Future> {
    Home(Guest<F>),
    Away(oneshot::Receiver<Return<F>>),
    Gone,
}

struct Guest<F> {
    future: Pin<Box<F>>,
    cpu: Arc<Cpu>,
    presence: Presence,
    disk: Option<Disk>,
}

/// What a guest has that may wait for a disk.
struct Disk {
    lane: Arc<Lane>,
    woken: Arc<Woken>,
    wanted: Wanted,
}

/// What comes back from another thread: the guest that waits for something, its output, or its panic.
enum Return<F: Future> {
    Waits(Guest<F>),
    Done(F::Output),
    Panicked(Box<dyn Any + Send>),
}

impl<F> Metered<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    pub(super) fn new(future: F, cpu: Arc<Cpu>, guests: Guests, lane: Option<&Arc<Lane>>) -> Self {
        let guest = Guest {
            future: Box::pin(future),
            cpu,
            presence: guests.presence(),
            disk: lane.map(|lane| Disk {
                lane: Arc::clone(lane),
                woken: Arc::default(),
                wanted: Wanted::Now,
            }),
        };
        Self {
            place: Place::Home(guest),
            guests,
        }
    }

    fn send_away(&mut self) {
        if let Place::Home(guest) = std::mem::replace(&mut self.place, Place::Gone) {
            let (back, returned) = oneshot::channel();
            self.guests
                .spawn_background("guest", guest.compute(Handle::current(), back));
            self.place = Place::Away(returned);
        }
    }

    /// Has the guest polled where its disk may let it wait.
    fn send_to_disk(&mut self) {
        if let Place::Home(guest) = std::mem::replace(&mut self.place, Place::Gone)
            && let Some(disk) = &guest.disk
        {
            let (back, returned) = oneshot::channel();
            let (lane, wanted, home) = (Arc::clone(&disk.lane), disk.wanted, Handle::current());
            lane.submit(wanted, move || guest.visit(&home, back));
            self.place = Place::Away(returned);
        }
    }
}

// The guest is boxed, so nothing here is pinned in place.
impl<F> Unpin for Metered<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
}

impl<F> Drop for Metered<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn drop(&mut self) {
        // Closing a file may wait for the disk, too.
        if let Place::Home(guest) = std::mem::replace(&mut self.place, Place::Gone)
            && let Some(disk) = &guest.disk
        {
            let lane = Arc::clone(&disk.lane);
            lane.submit(Wanted::Now, move || drop(guest));
        }
    }
}

impl<F> Future for Metered<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        loop {
            match &mut self.place {
                Place::Home(guest) if let Some(disk) = &guest.disk => {
                    if !disk.woken.take(cx.waker()) {
                        return Poll::Pending;
                    }
                    self.send_to_disk();
                }
                Place::Home(guest) => {
                    let (polled, computes) = guest.poll(cx);
                    if polled.is_ready() {
                        self.place = Place::Gone;
                        return polled;
                    }
                    if !computes {
                        return Poll::Pending;
                    }
                    self.send_away();
                }
                Place::Away(returned) => match ready!(Pin::new(returned).poll(cx)) {
                    Ok(Return::Waits(guest)) => self.place = Place::Home(guest),
                    Ok(Return::Done(output)) => {
                        self.place = Place::Gone;
                        return Poll::Ready(output);
                    }
                    Ok(Return::Panicked(payload)) => std::panic::resume_unwind(payload),
                    // The threads end with the worker only.
                    Err(_) => self.place = Place::Gone,
                },
                Place::Gone => return Poll::Pending,
            }
        }
    }
}

impl<F> Guest<F>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    /// Polls the guest once; tells also whether it was interrupted while it computes beyond its share.
    fn poll(&mut self, cx: &mut Context<'_>) -> (Poll<F::Output>, bool) {
        let _running = self.presence.enter();
        let turn = match &self.disk {
            None => turn::begin(),
            // Waiting for a disk is not computing.
            Some(_) => turn::begin_exact(),
        };
        let polled = self.future.as_mut().poll(cx);
        let spent = turn.end();
        self.cpu.charge(spent.total_ns);
        let computes = spent.preempted && self.cpu.is_over_share(Instant::now());
        (polled, computes)
    }

    /// Runs the guest for as long as it computes beyond its share and somebody waits for it.
    async fn compute(mut self, home: Handle, back: oneshot::Sender<Return<F>>) {
        let mut passes = 0;
        let computing = poll_fn(|cx| {
            if back.is_closed() {
                return Poll::Ready(None);
            }
            if passes > 0 {
                passes -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let _inside = home.enter();
            match self.poll(cx) {
                (Poll::Ready(output), _) => Poll::Ready(Some(output)),
                (Poll::Pending, true) => {
                    passes = self.cpu.passes();
                    Poll::Pending
                }
                (Poll::Pending, false) => Poll::Ready(None),
            }
        });
        let returned = match AssertUnwindSafe(computing).catch_unwind().await {
            Ok(None) => Return::Waits(self),
            Ok(Some(output)) => Return::Done(output),
            Err(payload) => Return::Panicked(payload),
        };
        // Nobody waits any longer: the guest ends here.
        drop(back.send(returned));
    }

    /// Polls the guest once, on a thread that may wait; in the background for as long as it computes
    /// beyond its share and somebody waits for it.
    fn visit(mut self, home: &Handle, back: oneshot::Sender<Return<F>>) {
        let Some(disk) = &self.disk else {
            return;
        };
        let (waker, wanted) = (Waker::from(Arc::clone(&disk.woken)), disk.wanted);
        let polling = AssertUnwindSafe(|| {
            let _inside = home.enter();
            let mut cx = Context::from_waker(&waker);
            while !back.is_closed() {
                let (polled, computes) = self.poll(&mut cx);
                if polled.is_ready() || !computes || wanted == Wanted::Now {
                    return (polled, computes);
                }
            }
            (Poll::Pending, false)
        });
        let returned = match catch_unwind(polling) {
            Ok((Poll::Ready(output), _)) => Return::Done(output),
            Ok((Poll::Pending, computes)) => {
                if let Some(disk) = &mut self.disk {
                    disk.wanted = Wanted::of(computes);
                }
                Return::Waits(self)
            }
            Err(payload) => Return::Panicked(payload),
        };
        // Nobody waits any longer: the guest ends here.
        drop(back.send(returned));
    }
}

/// Makes the calling thread one that runs when nothing else wants its core.
pub(super) fn yield_to_everybody() {
    #[cfg(target_os = "linux")]
    {
        let parameter = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameter is valid for the call, which changes this thread's policy alone.
        let refused =
            unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
        if refused != 0 {
            tracing::warn!(
                error = %std::io::Error::last_os_error(),
                "guests that compute beyond their share compete with all others"
            );
        }
    }
}

#[cfg(test)]
mod tests;
