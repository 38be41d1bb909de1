//! The peer: wasmtime with its own WASI and nothing of ours.
//!
//! It has what makes bare wasmtime fast and no more. Handlers: the same pool and the same compiler
//! settings as ours, an instance for each request, but no epochs, no limits, no accounts, no
//! deadline. Commands: on demand, files read on the caller's own thread as `wasmtime run` does.

use std::path::Path;
use std::pin::Pin;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::oneshot;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView, p3,
};

const HANDLERS: u32 = 512;
const KEEP_RESIDENT: usize = 256 << 10;
const KEEP_RESIDENT_TABLE: usize = 64 << 10;
/// More than any measured program prints.
const MAX_OUTPUT: usize = 64 << 10;

/// The state of a bare instance.
pub(super) struct Bare {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: NoCalls,
}

impl WasiView for Bare {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Bare {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
}

type BodyRead = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// The library's own behaviour, except that nobody is called: the measured handlers call nobody.
struct NoCalls;

type Answer = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for NoCalls {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Error>> + Send> {
        Box::new(async { Err(Error::ConnectionRefused) })
    }
}

fn store(engine: &Engine, wasi: WasiCtx) -> Store<Bare> {
    let state = Bare {
        table: ResourceTable::new(),
        wasi,
        http: WasiHttpCtx::new(),
        hooks: NoCalls,
    };
    Store::new(engine, state)
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Bare>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

/// Which `wasi:http` a handler speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    P2,
    P3,
}

/// An engine for handlers.
pub(super) fn handlers(version: Version) -> anyhow::Result<Engine> {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(HANDLERS)
        .total_core_instances(HANDLERS * 12)
        .total_memories(HANDLERS * 2)
        .total_tables(HANDLERS * 6)
        .total_stacks(HANDLERS * 4)
        .max_unused_warm_slots(HANDLERS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT_TABLE)
        .async_stack_keep_resident(KEEP_RESIDENT_TABLE)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .concurrency_support(version == Version::P3)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(Engine::new(&config)?)
}

/// A handler that is ready to be instantiated.
pub(super) enum Handler {
    P2(ProxyPre<Bare>),
    P3(ServicePre<Bare>),
}

impl Handler {
    /// Compiles the component in this process.
    pub(super) fn compile(engine: &Engine, version: Version, wasm: &[u8]) -> anyhow::Result<Self> {
        Self::link(&Component::new(engine, wasm)?, version)
    }

    /// Maps code that was compiled before.
    pub(super) fn map(engine: &Engine, version: Version, code: &Path) -> anyhow::Result<Self> {
        // SAFETY: the file was written by this process with `precompile`, into a directory of its own.
        let component = unsafe { Component::deserialize_file(engine, code)? };
        Self::link(&component, version)
    }

    fn link(component: &Component, version: Version) -> anyhow::Result<Self> {
        let mut linker = linker(component.engine())?;
        Ok(match version {
            Version::P2 => Self::P2(ProxyPre::new(linker.instantiate_pre(component)?)?),
            Version::P3 => {
                wasmtime_wasi::p3::add_to_linker(&mut linker)?;
                p3::add_to_linker(&mut linker)?;
                Self::P3(ServicePre::new(linker.instantiate_pre(component)?)?)
            }
        })
    }

    /// One request in an instance of its own; gives the length of the response's body.
    pub(super) async fn get(&self, uri: &str) -> anyhow::Result<usize> {
        let request = http::Request::get(uri).body(Empty::<Bytes>::new())?;
        match self {
            Self::P2(pre) => get2(pre, request).await,
            Self::P3(pre) => get3(pre, request).await,
        }
    }
}

async fn get2(pre: &ProxyPre<Bare>, request: http::Request<Empty<Bytes>>) -> anyhow::Result<usize> {
    let mut store = store(pre.engine(), WasiCtx::builder().build());
    let (head, head_set) = oneshot::channel();
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam(head)?;
    let proxy = pre.instantiate_async(&mut store).await?;
    let calling = proxy
        .wasi_http_incoming_handler()
        .call_handle(&mut store, request, out);
    let reading = async {
        let response = head_set.await.context("the guest set no response")?;
        let response = response.map_err(|code| anyhow::anyhow!("the guest failed: {code:?}"))?;
        Ok(response.into_body().collect().await?.to_bytes().len())
    };
    let (called, read) = tokio::join!(calling, reading);
    called?;
    read
}

async fn get3(
    pre: &ServicePre<Bare>,
    request: http::Request<Empty<Bytes>>,
) -> anyhow::Result<usize> {
    let mut store = store(pre.engine(), WasiCtx::builder().build());
    let service = pre.instantiate_async(&mut store).await?;
    let serving = async |accessor: &wasmtime::component::Accessor<Bare>| {
        let (request, body_read) = accessor.with(|mut store| {
            let http = store.get().http();
            let (request, body_read) = p3::Request::from_http(http.hooks, request);
            let body_read: BodyRead = Box::pin(body_read);
            wasmtime::error::Ok((http.table.push(request)?, body_read))
        })?;
        let handler = service.wasi_http_handler();
        let answer = handler.call_handle(accessor, request).await?;
        let response = accessor.with(|mut store| {
            let response = store.get().http().table.delete(answer?)?;
            response.into_http_with_getter(&mut store, body_read, Bare::http)
        })?;
        let body = response.into_body().collect().await;
        wasmtime::error::Ok(
            body.map_err(|error: Error| wasmtime::format_err!("{error}"))?
                .to_bytes()
                .len(),
        )
    };
    Ok(store.run_concurrent(serving).await??)
}

/// A command that is ready to be instantiated.
pub(super) struct Command(CommandPre<Bare>);

/// What a bare command may reach.
#[derive(Clone, Copy)]
pub(super) enum Reach<'a> {
    /// Nothing but its output.
    Nothing,
    /// The kernel's loopback.
    Network,
    /// A directory of the host, as `/`.
    Directory(&'a Path),
}

impl Command {
    pub(super) fn compile(wasm: &[u8]) -> anyhow::Result<Self> {
        let engine = Engine::default();
        let component = Component::new(&engine, wasm)?;
        let pre = linker(&engine)?.instantiate_pre(&component)?;
        Ok(Self(CommandPre::new(pre)?))
    }

    /// Runs it to its end and gives what it printed.
    pub(super) async fn run(&self, args: &[String], reach: Reach<'_>) -> anyhow::Result<String> {
        let output = MemoryOutputPipe::new(MAX_OUTPUT);
        let mut wasi = WasiCtxBuilder::new();
        wasi.arg("meter")
            .args(args)
            .stdout(output.clone())
            .stderr(output.clone())
            .allow_blocking_current_thread(true);
        match reach {
            Reach::Nothing => {}
            Reach::Network => {
                wasi.inherit_network().allow_tcp(true);
            }
            Reach::Directory(path) => {
                wasi.preopened_dir(path, "/", FsPerms::ReadWrite)?;
            }
        }
        let mut store = store(self.0.engine(), wasi.build());
        let command = self.0.instantiate_async(&mut store).await?;
        let ended = command.wasi_cli_run().call_run(&mut store).await?;
        let text = String::from_utf8_lossy(&output.contents()).into_owned();
        anyhow::ensure!(ended.is_ok(), "{args:?} failed in bare wasmtime: {text}");
        Ok(text)
    }
}
