//! WASI over the pod's filesystem and network: three thin faces of one core.
//!
//! `p2` and `p3` hold wasmtime-wasi's own interfaces for what touches neither (clocks, random,
//! standard streams) and ours for what does; `p1` is native functions over the same core. `config`,
//! `keyvalue` and `logging` are proposals of no version of WASI, `lifecycle` is our own; all are offered
//! to components of both.
//!
//! What is linked here and what `api::interfaces` tells guests' authors is the same; the test below
//! holds them together.

mod config;
mod environment;
mod keyvalue;
pub(super) mod lifecycle;
mod logging;
pub mod p1;
pub mod p2;
pub mod p3;

use wasmtime::component::Linker;

use super::host::Host;

/// Adds the interfaces that belong to no version of WASI.
pub(super) fn add_proposals(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    config::add_to_linker(linker)?;
    keyvalue::add_to_linker(linker)?;
    lifecycle::add_to_linker(linker)?;
    logging::add_to_linker(linker)
}

#[cfg(test)]
mod tests {
    use wasmtime::{Config, Engine};

    use super::*;
    use crate::api::interfaces::{check_import, provided};

    /// Whether the name is taken: nothing else can be defined under it.
    fn links(linker: &mut Linker<Host>, import: &str) -> bool {
        let defined = linker.root().func_wrap(import, |_, (): ()| Ok(()));
        defined.is_err()
    }

    #[test]
    fn the_table_of_interfaces_is_what_is_linked() {
        let engine = Engine::new(&Config::new()).unwrap();
        let mut linker = Linker::<Host>::new(&engine);
        p2::add_to_linker(&mut linker).unwrap();
        p3::add_to_linker(&mut linker).unwrap();
        add_proposals(&mut linker).unwrap();
        lifecycle::add_async_to_linker(&mut linker).unwrap();
        for import in provided() {
            assert_eq!(check_import(&import), Ok(()), "{import}");
            // These two have types and no functions.
            let is_empty =
                ["wasi:cli/types@0.3.0", "wasi:clocks/types@0.3.0"].contains(&import.as_str());
            assert!(
                is_empty || links(&mut linker, &import),
                "{import} is not linked"
            );
        }
        for import in [
            "wasi:keyvalue/watcher@0.2.0-draft",
            "wasi:keyvalue/store@0.2.0-draft2",
            "wasi:clocks/timezone@0.2.12",
            "wasi:blobstore/container@0.2.0-draft",
        ] {
            assert!(
                check_import(import).is_err() && !links(&mut linker, import),
                "{import}"
            );
        }
    }
}
