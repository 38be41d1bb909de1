//! How a host function is entered and left.

use wasmtime::{Caller, Memory};

use super::P1;
use super::errno::Code;
use super::guest::Guest;
use crate::runtime::fs::errno::Errno;
use crate::runtime::net;

/// Finds the program's state in the store's data.
pub(super) type Get<T> = fn(&mut T) -> &mut P1;

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Why a function did not do its work: a number for the guest, or the guest's end.
#[derive(Debug)]
pub(super) enum Failure {
    Code(Code),
    Trap(wasmtime::Error),
}

impl Failure {
    pub(super) fn outside(pointer: u32) -> Self {
        let message = format!("pointer {pointer:#x} reaches outside the memory");
        Self::Trap(wasmtime::Error::msg(message))
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Code(errno.into())
    }
}

impl From<net::Error> for Failure {
    fn from(error: net::Error) -> Self {
        Self::Code(error.into())
    }
}

/// Runs a function's body on the state and the memory; answers the number for the guest.
pub(super) fn call<T: 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    body: impl FnOnce(&mut P1, &mut Guest<'_>) -> Result<()>,
) -> wasmtime::Result<u32> {
    answer(with(caller, get, body))
}

/// The same for a part of a function that goes on afterwards.
pub(super) fn with<T: 'static, R>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    body: impl FnOnce(&mut P1, &mut Guest<'_>) -> Result<R>,
) -> Result<R> {
    let memory = memory(caller, get)?;
    let (bytes, data) = memory.data_and_store_mut(caller);
    body(get(data), &mut Guest::new(bytes))
}

pub(super) fn answer(result: Result<()>) -> wasmtime::Result<u32> {
    match result {
        Ok(()) => Ok(0),
        Err(Failure::Code(code)) => Ok(code.0.into()),
        Err(Failure::Trap(error)) => Err(error),
    }
}

fn memory<T: 'static>(caller: &mut Caller<'_, T>, get: Get<T>) -> Result<Memory> {
    if let Some(memory) = get(caller.data_mut()).memory {
        return Ok(memory);
    }
    let export = caller.get_export("memory");
    let memory = export.and_then(wasmtime::Extern::into_memory);
    let missing = || wasmtime::Error::msg("the module exports no memory named `memory`");
    let memory = memory.ok_or_else(|| Failure::Trap(missing()))?;
    get(caller.data_mut()).memory = Some(memory);
    Ok(memory)
}
