//! `wasi:config`: the container's environment under another name.
//!
//! What `env` and `envFrom` give a container (literal values, ConfigMaps, Secrets, the downward API) is
//! its configuration, by the same names; there is nothing more to learn and nothing more to set.
//! Like the environment it is fixed when the container starts. It never fails.

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::runtime::host::Host;

/// The interface under all the names it has had.
const NAMES: [&str; 3] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/runtime@0.2.0-draft",
];

/// Part of the signatures; never made.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type All = Vec<(String, String)>;

pub(in crate::runtime) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut instance = linker.instance(name)?;
        instance.func_wrap("get", |mut store, (key,): (String,)| {
            let env = &store.data_mut().environment().env;
            let found = env.iter().rev().find(|(name, _)| *name == key);
            let value = found.map(|(_, value)| value.clone());
            Ok((Ok::<Option<String>, Error>(value),))
        })?;
        instance.func_wrap("get-all", |mut store, (): ()| {
            let all = store.data_mut().environment().env.clone();
            Ok((Ok::<All, Error>(all),))
        })?;
    }
    Ok(())
}
