//! The engines of a worker: who runs where, and what that costs.
//!
//! | engine | allocation | concurrency | for |
//! |---|---|---|---|
//! | `processes` | on demand | yes | programs that run long: WASI 0.1, 0.2 and 0.3 commands |
//! | `handlers` | pooled | no | `wasi:http` 0.2 handlers, an instance per request |
//! | `async_handlers` | pooled | yes | `wasi:http` 0.3 handlers |
//!
//! A pool keeps the pages of freed slots resident, which is what makes an instance per request cheap
//! (18 µs against 48) and what long-running programs must not pay for. Concurrency support costs
//! every 0.2 request 4 µs more and 0.3 cannot do without. The pools are made at the first handler:
//! a worker without handlers reserves no address space for them.
//!
//! Compiled code fits engines that agree in concurrency support ([`Flavor`]); the way of allocation
//! does not matter to it.

use std::hash::{Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::ticker::{Presence, Ticker};

/// Core instances of one component: a Rust guest has 4, one with adapters and shims about 12.
const CORE_INSTANCES_PER_HANDLER: u32 = 12;
/// Linear memories of one component that was composed of several.
const MEMORIES_PER_HANDLER: u32 = 2;
const TABLES_PER_HANDLER: u32 = 6;
/// Fibers of one 0.3 instance: its tasks may block one by one.
const STACKS_PER_ASYNC_HANDLER: u32 = 4;
/// What a freed slot keeps resident; with `pagemap_scan` only pages that were written are cleared.
const KEEP_RESIDENT: usize = 256 << 10;
const KEEP_RESIDENT_TABLE: usize = 64 << 10;
/// Bytes of wasm stack; deep interpreters (CPython) need more than the default half MiB.
const MAX_WASM_STACK: usize = 1 << 20;
const ASYNC_STACK: usize = 2 << 20;
/// A big guest's instance (vmctx) passes the default 1 MiB.
const MAX_INSTANCE_BYTES: usize = 4 << 20;

/// What compiled code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flavor {
    /// With concurrency support: commands, and 0.3 handlers.
    Concurrent,
    /// Without: 0.2 handlers.
    Sequential,
}

/// See the table above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum EngineKind {
    Processes,
    Handlers,
    AsyncHandlers,
}

impl EngineKind {
    pub(super) fn flavor(self) -> Flavor {
        match self {
            Self::Processes | Self::AsyncHandlers => Flavor::Concurrent,
            Self::Handlers => Flavor::Sequential,
        }
    }
}

impl Flavor {
    pub(super) const ALL: [Self; 2] = [Self::Concurrent, Self::Sequential];

    /// The name in file names.
    fn name(self) -> &'static str {
        match self {
            Self::Concurrent => "concurrent",
            Self::Sequential => "sequential",
        }
    }

    /// Everything that decides what code is compiled and how it behaves.
    fn config(self) -> Config {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .concurrency_support(matches!(self, Self::Concurrent))
            .async_stack_size(ASYNC_STACK)
            .max_wasm_stack(MAX_WASM_STACK);
        config
    }

    /// An engine that compiles and reserves nothing.
    pub(super) fn compiler(self) -> wasmtime::Result<Engine> {
        Engine::new(&self.config())
    }

    /// Names compiled code that this build of wasmorch may load.
    pub(super) fn fingerprint(self, engine: &Engine) -> String {
        let mut hasher = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        format!("{}-{:016x}", self.name(), hasher.finish())
    }
}

/// All engines of one worker process, and the thread that preempts their guests.
pub(super) struct Engines {
    processes: Engine,
    handlers: Mutex<Option<Engine>>,
    async_handlers: Mutex<Option<Engine>>,
    handler_concurrency: u32,
    ticker: Ticker,
}

impl Engines {
    pub(super) fn new(handler_concurrency: u32, tick: Duration) -> wasmtime::Result<Self> {
        let ticker = Ticker::start(tick)?;
        let processes = Engine::new(&Flavor::Concurrent.config())?;
        ticker.add(&processes);
        Ok(Self {
            processes,
            handlers: Mutex::new(None),
            async_handlers: Mutex::new(None),
            handler_concurrency,
            ticker,
        })
    }

    /// The engine, made now if it is a pool that nobody needed before.
    pub(super) fn get(&self, kind: EngineKind) -> wasmtime::Result<Engine> {
        let (pool, stacks) = match kind {
            EngineKind::Processes => return Ok(self.processes.clone()),
            EngineKind::Handlers => (&self.handlers, 1),
            EngineKind::AsyncHandlers => (&self.async_handlers, STACKS_PER_ASYNC_HANDLER),
        };
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*pool {
            return Ok(engine.clone());
        }
        let mut config = kind.flavor().config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(
            self.pool_config(stacks),
        ));
        let engine = Engine::new(&config)?;
        self.ticker.add(&engine);
        *pool = Some(engine.clone());
        Ok(engine)
    }

    /// For those who poll guests.
    pub(super) fn presence(&self) -> Presence {
        self.ticker.presence()
    }

    fn pool_config(&self, stacks_per_instance: u32) -> PoolingAllocationConfig {
        let count = self.handler_concurrency;
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(count)
            .total_core_instances(count * CORE_INSTANCES_PER_HANDLER)
            .total_memories(count * MEMORIES_PER_HANDLER)
            .total_tables(count * TABLES_PER_HANDLER)
            .total_stacks(count * stacks_per_instance)
            .total_gc_heaps(count)
            .max_component_instance_size(MAX_INSTANCE_BYTES)
            .max_core_instance_size(MAX_INSTANCE_BYTES)
            .max_unused_warm_slots(count)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(KEEP_RESIDENT_TABLE)
            .async_stack_keep_resident(KEEP_RESIDENT_TABLE)
            .pagemap_scan(Enabled::Auto);
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_shared_by_engines_of_one_flavour_and_refused_by_the_other() {
        let engines = Engines::new(8, Duration::from_millis(5)).unwrap();
        let fingerprint = |kind: EngineKind| {
            let engine = engines.get(kind).unwrap();
            kind.flavor().fingerprint(&engine)
        };
        let compiled_by = |flavor: Flavor| flavor.fingerprint(&flavor.compiler().unwrap());
        let concurrent = compiled_by(Flavor::Concurrent);
        assert_eq!(fingerprint(EngineKind::Processes), concurrent);
        assert_eq!(fingerprint(EngineKind::AsyncHandlers), concurrent);
        assert_eq!(
            fingerprint(EngineKind::Handlers),
            compiled_by(Flavor::Sequential)
        );
        assert_ne!(concurrent, compiled_by(Flavor::Sequential));
    }
}
