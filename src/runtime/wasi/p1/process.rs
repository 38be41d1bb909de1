//! Arguments, environment, clocks, randomness, exit.

use std::time::{Duration, SystemTime};

use rand::RngCore;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::I32Exit;

use super::call::{Failure, Get, Result, answer, call, with};
use super::errno::Code;
use super::guest::Guest;
use super::{MODULE, P1};

/// Bytes of randomness between two chances for others to run.
const RANDOM_CHUNK: u32 = 256 << 10;

pub(super) fn add<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    add_texts(linker, get)?;
    linker.func_wrap(
        MODULE,
        "clock_res_get",
        move |mut caller: Caller<'_, T>, id: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                p1.clock(id)?;
                guest.put_u64(out, 1)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "clock_time_get",
        move |mut caller: Caller<'_, T>, id: u32, _precision: u64, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let time = p1.clock(id)?;
                guest.put_u64(out, time)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "random_get",
        move |mut caller: Caller<'_, T>, (pointer, length): (u32, u32)| {
            Box::new(async move { answer(random(&mut caller, get, pointer, length).await) })
        },
    )?;
    linker.func_wrap_async(MODULE, "sched_yield", |_: Caller<'_, T>, (): ()| {
        Box::new(async {
            tokio::task::yield_now().await;
            0u32
        })
    })?;
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(wasmtime::Error::new(I32Exit(code)))
    })?;
    linker.func_wrap(MODULE, "proc_raise", |_signal: u32| {
        u32::from(Code::NOTSUP.0)
    })?;
    Ok(())
}

fn add_texts<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "args_sizes_get",
        move |mut caller: Caller<'_, T>, count: u32, size: u32| {
            call(&mut caller, get, |p1, guest| {
                put_sizes(guest, &p1.args, count, size)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "args_get",
        move |mut caller: Caller<'_, T>, pointers: u32, text: u32| {
            call(&mut caller, get, |p1, guest| {
                put_texts(guest, &p1.args, pointers, text)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_sizes_get",
        move |mut caller: Caller<'_, T>, count: u32, size: u32| {
            call(&mut caller, get, |p1, guest| {
                put_sizes(guest, &p1.env, count, size)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "environ_get",
        move |mut caller: Caller<'_, T>, pointers: u32, text: u32| {
            call(&mut caller, get, |p1, guest| {
                put_texts(guest, &p1.env, pointers, text)
            })
        },
    )?;
    Ok(())
}

/// Sizes with the NUL of each text.
fn put_sizes(guest: &mut Guest<'_>, texts: &[String], count: u32, size: u32) -> Result<()> {
    let total: usize = texts.iter().map(|text| text.len() + 1).sum();
    guest.put_u32(
        count,
        u32::try_from(texts.len()).map_err(|_| Code::OVERFLOW)?,
    )?;
    guest.put_u32(size, u32::try_from(total).map_err(|_| Code::OVERFLOW)?)
}

fn put_texts(
    guest: &mut Guest<'_>,
    texts: &[String],
    mut pointers: u32,
    mut at: u32,
) -> Result<()> {
    for text in texts {
        guest.put_u32(pointers, at)?;
        guest.put(at, text.as_bytes())?;
        let end = at.checked_add(text.len() as u32);
        let end = end.ok_or_else(|| Failure::outside(at))?;
        guest.put(end, &[0])?;
        // Both were written, so both are inside.
        at = end.wrapping_add(1);
        pointers = pointers.wrapping_add(4);
    }
    Ok(())
}

/// Fills in pieces, because a guest may ask for gigabytes.
async fn random<T: 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    mut pointer: u32,
    mut length: u32,
) -> Result<()> {
    with(caller, get, |_, guest| {
        guest.slice(pointer, length).map(|_| ())
    })?;
    while length > 0 {
        let piece = length.min(RANDOM_CHUNK);
        with(caller, get, |_, guest| {
            rand::rng().fill_bytes(guest.slice_mut(pointer, piece)?);
            Ok(())
        })?;
        // The whole buffer was checked to end inside the address space.
        pointer = pointer.wrapping_add(piece);
        length -= piece;
        if length > 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

impl P1 {
    /// Nanoseconds of a clock. The monotonic one counts from the program's start.
    pub(super) fn clock(&self, id: u32) -> Result<u64> {
        match id {
            0 => Ok(nanoseconds(self.clock.now().into())),
            1 => Ok(to_u64(self.clock.monotonic() - self.started)),
            2 | 3 => Err(Code::BADF.into()),
            _ => Err(Code::INVAL.into()),
        }
    }
}

/// A time as 0.1 tells it; what is before 1970 or after 2554 is cut.
pub(super) fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, to_u64)
}

fn to_u64(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
