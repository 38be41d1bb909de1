//! `poll_oneoff`: waiting for clocks and descriptors at once.
//!
//! Every descriptor in the set is watched once, however often it is named; what is ready when the
//! first event comes is reported together. An unknown descriptor fails the whole call, as in
//! wasmtime. An empty set is an error, because nothing would ever end it.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use wasmtime::{Caller, Linker};

use super::call::{Get, Result, answer, with};
use super::errno::Code;
use super::guest::{Guest, offset};
use super::table::{Interest, Object, Table};
use super::{MODULE, P1};

/// Subscriptions of one call.
const MAX_SUBSCRIPTIONS: u32 = 1 << 16;
/// A timeout that far away never comes; further would overflow the clock.
const FOREVER: Duration = Duration::from_hours(100 * 365 * 24);

const EVENT_SIZE: u32 = 32;
const HANGUP: u16 = 1;

/// How a subscription lies in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    size: u32,
    /// Where the clock's id is; its timeout and flags follow at fixed distances.
    clock: u32,
}

pub(super) const LAYOUT: Layout = Layout {
    size: 48,
    clock: 16,
};

/// Of `wasi_unstable`: a clock begins with an identifier that is not used for anything.
pub(super) const OLD_LAYOUT: Layout = Layout {
    size: 56,
    clock: 24,
};

struct Subscription {
    user_data: u64,
    wanted: Wanted,
}

enum Wanted {
    Clock(Instant),
    Descriptor(u32, Interest),
}

/// What there is to read or write, and whether the other end is gone.
struct Amount {
    bytes: u64,
    hangup: bool,
}

pub(super) fn add<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    add_as(linker, get, MODULE, LAYOUT)
}

/// Adds the function to a module whose subscriptions lie so.
pub(super) fn add_as<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: Get<T>,
    module: &str,
    layout: Layout,
) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        module,
        "poll_oneoff",
        move |mut caller: Caller<'_, T>,
              (subscriptions, events, count, out): (u32, u32, u32, u32)| {
            Box::new(async move {
                let arguments = [subscriptions, events, count, out];
                answer(poll(&mut caller, get, layout, arguments).await)
            })
        },
    )?;
    Ok(())
}

async fn poll<T: Send + 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    layout: Layout,
    [subscriptions, events, count, out]: [u32; 4],
) -> Result<()> {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Code::INVAL.into());
    }
    let subscriptions = with(caller, get, |p1, guest| {
        let indices = 0..count;
        indices
            .map(|index| {
                let at = offset(subscriptions, index, layout.size)?;
                p1.subscription(guest, at, layout)
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let p1 = get(caller.data_mut());
    let ready = p1.wait_any(&subscriptions).await;
    with(caller, get, |p1, guest| {
        let mut written = 0;
        for (subscription, ready) in subscriptions.iter().zip(ready) {
            if ready {
                let event = event(&p1.table, subscription)?;
                guest.put(offset(events, written, EVENT_SIZE)?, &event)?;
                written += 1;
            }
        }
        guest.put_u32(out, written)
    })
}

impl P1 {
    fn subscription(&self, guest: &Guest<'_>, at: u32, layout: Layout) -> Result<Subscription> {
        // Read first: it shows that the whole of it lies inside.
        guest.slice(at, layout.size)?;
        let user_data = guest.u64(at)?;
        let wanted = match guest.u8(at + 8)? {
            0 => {
                let clock = at + layout.clock;
                let id = guest.u32(clock)?;
                let timeout = guest.u64(clock + 8)?;
                let absolute = guest.u8(clock + 24)? & 1 != 0;
                Wanted::Clock(self.deadline(id, timeout, absolute)?)
            }
            1 => self.wanted(guest.u32(at + 16)?, Interest::Read)?,
            2 => self.wanted(guest.u32(at + 16)?, Interest::Write)?,
            _ => return Err(Code::INVAL.into()),
        };
        Ok(Subscription { user_data, wanted })
    }

    fn deadline(&self, id: u32, timeout: u64, absolute: bool) -> Result<Instant> {
        if id > 1 {
            return Err(Code::INVAL.into());
        }
        let passed = if absolute { self.clock(id)? } else { 0 };
        let left = Duration::from_nanos(timeout.saturating_sub(passed)).min(FOREVER);
        Ok(self.clock.monotonic() + left)
    }

    fn wanted(&self, fd: u32, interest: Interest) -> Result<Wanted> {
        let possible = match (&self.table.get(fd)?.object, interest) {
            (Object::File(_) | Object::Connection(_), _)
            | (Object::Input(_) | Object::Listener(_), Interest::Read)
            | (Object::Output(_), Interest::Write) => true,
            (Object::Directory(_), _)
            | (Object::Input(_) | Object::Listener(_), Interest::Write)
            | (Object::Output(_), Interest::Read) => false,
        };
        if !possible {
            return Err(Code::BADF.into());
        }
        Ok(Wanted::Descriptor(fd, interest))
    }

    /// Waits until at least one subscription is ready; tells for each whether it is.
    async fn wait_any(&mut self, subscriptions: &[Subscription]) -> Vec<bool> {
        let mut interests: HashMap<u32, [bool; 2]> = HashMap::new();
        let mut deadline: Option<Instant> = None;
        for subscription in subscriptions {
            match subscription.wanted {
                Wanted::Clock(at) => deadline = Some(deadline.map_or(at, |first| first.min(at))),
                Wanted::Descriptor(fd, interest) => {
                    interests.entry(fd).or_default()[interest as usize] = true;
                }
            }
        }
        let ready = wait_descriptors(&mut self.table, &interests, deadline).await;
        let now = self.clock.monotonic();
        let is_ready = |subscription: &Subscription| match subscription.wanted {
            // The timer may fire a moment early by the clock that is read here.
            Wanted::Clock(at) => at <= now || (ready.is_empty() && Some(at) == deadline),
            Wanted::Descriptor(fd, interest) => ready.contains(&(fd, interest)),
        };
        subscriptions.iter().map(is_ready).collect()
    }
}

type Readiness<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The descriptors that are ready, as soon as there are any or the deadline has come.
async fn wait_descriptors(
    table: &mut Table,
    interests: &HashMap<u32, [bool; 2]>,
    deadline: Option<Instant>,
) -> Vec<(u32, Interest)> {
    let mut waiting: Vec<((u32, Interest), Readiness<'_>)> = Vec::new();
    for (fd, slot) in table.iter_mut() {
        let Some([read, write]) = interests.get(&fd) else {
            continue;
        };
        match (read, write, &mut slot.object) {
            // Both directions of a connection at once.
            (true, true, Object::Connection(conn)) => {
                let conn = &*conn;
                let readable = poll_fn(|cx| conn.poll_readable(cx));
                let writable = poll_fn(|cx| conn.poll_writable(cx));
                waiting.push(((fd, Interest::Read), Box::pin(readable)));
                waiting.push(((fd, Interest::Write), Box::pin(writable)));
            }
            // Of everything else that has two directions, both are ready always.
            (true, true, Object::File(_)) => {
                waiting.push(((fd, Interest::Read), Box::pin(std::future::ready(()))));
                waiting.push(((fd, Interest::Write), Box::pin(std::future::ready(()))));
            }
            (true, _, object) => {
                waiting.push(((fd, Interest::Read), Box::pin(object.ready(Interest::Read))));
            }
            (false, true, object) => {
                let ready = object.ready(Interest::Write);
                waiting.push(((fd, Interest::Write), Box::pin(ready)));
            }
            (false, false, _) => {}
        }
    }
    let any = poll_fn(|cx| {
        let mut ready = Vec::new();
        for (what, readiness) in &mut waiting {
            if readiness.as_mut().poll(cx).is_ready() {
                ready.push(*what);
            }
        }
        if ready.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(ready)
    });
    match deadline {
        None => any.await,
        Some(deadline) => tokio::time::timeout_at(deadline.into(), any)
            .await
            .unwrap_or_else(|_elapsed| Vec::new()),
    }
}

fn event(table: &Table, subscription: &Subscription) -> Result<[u8; EVENT_SIZE as usize]> {
    let (kind, amount) = match subscription.wanted {
        Wanted::Clock(_) => (0, Amount::of(0)),
        Wanted::Descriptor(fd, Interest::Read) => (1, readable(&table.get(fd)?.object)?),
        Wanted::Descriptor(fd, Interest::Write) => (2, writable(&table.get(fd)?.object)),
    };
    let flags = if amount.hangup { HANGUP } else { 0 };
    let mut bytes = [0; EVENT_SIZE as usize];
    bytes[0..8].copy_from_slice(&subscription.user_data.to_le_bytes());
    bytes[10] = kind;
    bytes[16..24].copy_from_slice(&amount.bytes.to_le_bytes());
    bytes[24..26].copy_from_slice(&flags.to_le_bytes());
    Ok(bytes)
}

impl Amount {
    fn of(bytes: u64) -> Self {
        Self {
            bytes,
            hangup: false,
        }
    }

    /// Nothing left means that nothing will come.
    fn or_hangup(bytes: u64) -> Self {
        Self {
            bytes,
            hangup: bytes == 0,
        }
    }
}

fn readable(object: &Object) -> Result<Amount> {
    Ok(match object {
        Object::File(file) => {
            let size = file.descriptor.stat()?.size;
            Amount::or_hangup(size.saturating_sub(file.position))
        }
        Object::Connection(conn) => Amount::or_hangup(conn.readable_bytes() as u64),
        Object::Input(_) | Object::Output(_) | Object::Directory(_) | Object::Listener(_) => {
            Amount::of(1)
        }
    })
}

fn writable(object: &Object) -> Amount {
    match object {
        Object::Connection(conn) => Amount::or_hangup(conn.writable_bytes().unwrap_or(0) as u64),
        Object::File(_)
        | Object::Input(_)
        | Object::Output(_)
        | Object::Directory(_)
        | Object::Listener(_) => Amount::of(1),
    }
}
