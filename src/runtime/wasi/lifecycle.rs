//! `wasmorch:lifecycle/signals`: by which a guest that waits for things learns that it is to stop.
//!
//! WASI has no signals. The stop file is for who looks now and then, the end of standard input for who
//! reads it; this is for an event loop: a pollable in 0.2, a call that returns in 0.3. Both are ready
//! from the stop request on, also for who asks later. Nobody has to import it.

use tokio_util::sync::CancellationToken;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use crate::runtime::host::Host;

/// `terminated: func() -> pollable`
const FOR_0_2: &str = "wasmorch:lifecycle/signals@0.2.0";
/// `terminated: async func()`
const FOR_0_3: &str = "wasmorch:lifecycle/signals@0.3.0";

struct Stopped(CancellationToken);

#[async_trait]
impl Pollable for Stopped {
    async fn ready(&mut self) {
        self.0.cancelled().await;
    }
}

pub(in crate::runtime) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .instance(FOR_0_2)?
        .func_wrap("terminated", |mut store, (): ()| {
            let host: &mut Host = store.data_mut();
            let stopped = host.table.push(Stopped(host.stopped()))?;
            let pollable: Resource<DynPollable> = subscribe(&mut host.table, stopped)?;
            Ok((pollable,))
        })
}

/// The call of 0.3, which an engine without concurrency has no place for.
pub(in crate::runtime) fn add_async_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker
        .instance(FOR_0_3)?
        .func_wrap_concurrent("terminated", |accessor, (): ()| {
            Box::pin(async move {
                let stopped = accessor.with(|mut store| store.get().stopped());
                stopped.cancelled().await;
                Ok(())
            })
        })
}
