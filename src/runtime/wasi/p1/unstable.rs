//! `wasi_unstable`, the WASI before 0.1, which programs of 2019 and 2020 import.
//!
//! It is WASI 0.1 under another name but for four functions: seeking counts its origins in another
//! order, a file's attributes have a narrower link count, and a clock to wait for has one more
//! field. Everything else is the same function.

use wasmtime::{Caller, Linker};

use super::MODULE;
use super::call::{Get, call};
use super::descriptors::{filestat, seek, stat};
use super::paths::follow;
use super::poll::{self, OLD_LAYOUT};

/// The module that such programs import from.
pub const UNSTABLE: &str = "wasi_unstable";

/// Adds the old names; the functions of 0.1 must be there.
pub(super) fn add<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.alias_module(MODULE, UNSTABLE)?;
    linker.allow_shadowing(true);
    linker.func_wrap(
        UNSTABLE,
        "fd_seek",
        move |mut caller: Caller<'_, T>, fd: u32, offset: i64, whence: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let position = seek(&mut p1.table, fd, offset, whence_of_old(whence))?;
                guest.put_u64(out, position)
            })
        },
    )?;
    linker.func_wrap(
        UNSTABLE,
        "fd_filestat_get",
        move |mut caller: Caller<'_, T>, fd: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                guest.put(out, &old_filestat(&stat(&p1.table, fd)?))
            })
        },
    )?;
    linker.func_wrap(
        UNSTABLE,
        "path_filestat_get",
        move |mut caller: Caller<'_, T>, fd: u32, lookup: u32, path: u32, length: u32, out: u32| {
            call(&mut caller, get, |p1, guest| {
                let path = guest.path(path, length)?;
                let directory = &p1.table.directory(fd)?.descriptor;
                let stat = directory.stat_at(path, follow(lookup)?)?;
                guest.put(out, &old_filestat(&filestat(&stat)))
            })
        },
    )?;
    poll::add_as(linker, get, UNSTABLE, OLD_LAYOUT)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Its order is current, end, start.
fn whence_of_old(whence: u32) -> u32 {
    match whence {
        0 => 1,
        1 => 2,
        2 => 0,
        other => other,
    }
}

/// The link count has four bytes, right before the size.
fn old_filestat(stat: &[u8; 64]) -> [u8; 56] {
    let mut old = [0; 56];
    old[..17].copy_from_slice(&stat[..17]);
    old[20..24].copy_from_slice(&stat[24..28]);
    old[24..].copy_from_slice(&stat[32..]);
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs() {
        let mut stat = [0; 64];
        stat[16] = 4;
        stat[24] = 3;
        stat[32] = 9;
        stat[63] = 7;
        let old = old_filestat(&stat);
        assert_eq!((old[16], old[20], old[24], old[55]), (4, 3, 9, 7));
        assert_eq!([0, 1, 2, 3].map(whence_of_old), [1, 2, 0, 3]);
    }
}
