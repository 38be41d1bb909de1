//! `wasi:keyvalue` on the pod's [`Store`](crate::runtime::keyvalue::Store); what it promises is said
//! there.
//!
//! The interface is a draft, so it is linked function by function and no copy of its text is kept
//! here. A batch is its operations one by one, as the draft says: not atomic, and it ends at the first
//! error.

use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};

use crate::runtime::host::Host;
use crate::runtime::keyvalue::{self, Bucket};

const STORE: &str = "wasi:keyvalue/store@0.2.0-draft";
const ATOMICS: &str = "wasi:keyvalue/atomics@0.2.0-draft";
const BATCH: &str = "wasi:keyvalue/batch@0.2.0-draft";

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<keyvalue::Error> for Error {
    fn from(error: keyvalue::Error) -> Self {
        match error {
            keyvalue::Error::NoSuchStore => Self::NoSuchStore,
            other => Self::Other(crate::errors::chain(&other).to_string()),
        }
    }
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<u64>,
}

type Handle = Resource<Bucket>;
type Answer<T> = Result<T, Error>;
type Pair = (String, Vec<u8>);

pub(in crate::runtime) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    add_store(&mut linker.instance(STORE)?)?;
    linker.instance(ATOMICS)?.func_wrap(
        "increment",
        |store, (bucket, key, delta): (Handle, String, u64)| {
            on(&store, &bucket, |bucket| bucket.increment(&key, delta))
        },
    )?;
    add_batch(&mut linker.instance(BATCH)?)
}

fn add_store(instance: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    instance.resource(
        "bucket",
        ResourceType::host::<Bucket>(),
        |mut store, rep| {
            let table = &mut store.data_mut().table;
            table.delete(Handle::new_own(rep))?;
            Ok(())
        },
    )?;
    instance.func_wrap("open", |mut store, (name,): (String,)| {
        let host: &mut Host = store.data_mut();
        let answer: Answer<Handle> = match host.keyvalue().open(&name) {
            Ok(bucket) => Ok(host.table.push(bucket)?),
            Err(error) => Err(error.into()),
        };
        Ok((answer,))
    })?;
    instance.func_wrap(
        "[method]bucket.get",
        |store, (bucket, key): (Handle, String)| on(&store, &bucket, |bucket| bucket.get(&key)),
    )?;
    instance.func_wrap(
        "[method]bucket.set",
        |store, (bucket, key, value): (Handle, String, Vec<u8>)| {
            on(&store, &bucket, |bucket| bucket.set(&key, value))
        },
    )?;
    instance.func_wrap(
        "[method]bucket.delete",
        |store, (bucket, key): (Handle, String)| on(&store, &bucket, |bucket| bucket.delete(&key)),
    )?;
    instance.func_wrap(
        "[method]bucket.exists",
        |store, (bucket, key): (Handle, String)| on(&store, &bucket, |bucket| bucket.exists(&key)),
    )?;
    instance.func_wrap(
        "[method]bucket.list-keys",
        |store, (bucket, cursor): (Handle, Option<u64>)| {
            on(&store, &bucket, |bucket| {
                let (keys, cursor) = bucket.keys(cursor.unwrap_or(0))?;
                Ok(KeyResponse { keys, cursor })
            })
        },
    )
}

fn add_batch(instance: &mut LinkerInstance<'_, Host>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "get-many",
        |store, (bucket, keys): (Handle, Vec<String>)| {
            on(&store, &bucket, |bucket| {
                let mut room = MAX_ANSWER;
                let get = |key: String| {
                    let value = bucket.get(&key)?;
                    room = value
                        .as_ref()
                        .map_or(Some(room), |value| room.checked_sub(value.len()))
                        .ok_or_else(|| keyvalue::Error::Full("one answer has 16 MiB".to_owned()))?;
                    Ok(value.map(|value| (key, value)))
                };
                keys.into_iter()
                    .map(get)
                    .collect::<Result<Vec<Option<Pair>>, _>>()
            })
        },
    )?;
    instance.func_wrap("set-many", |store, (bucket, pairs): (Handle, Vec<Pair>)| {
        on(&store, &bucket, |bucket| {
            pairs
                .into_iter()
                .try_for_each(|(key, value)| bucket.set(&key, value))
        })
    })?;
    instance.func_wrap(
        "delete-many",
        |store, (bucket, keys): (Handle, Vec<String>)| {
            on(&store, &bucket, |bucket| {
                keys.iter().try_for_each(|key| bucket.delete(key))
            })
        },
    )
}

/// Bytes of the values that one `get-many` copies out.
const MAX_ANSWER: usize = 16 << 20;

/// Does something with a guest's bucket.
fn on<T>(
    store: &StoreContextMut<'_, Host>,
    bucket: &Handle,
    work: impl FnOnce(&Bucket) -> Result<T, keyvalue::Error>,
) -> wasmtime::Result<(Answer<T>,)> {
    let bucket = store.data().table.get(bucket)?;
    Ok((work(bucket).map_err(Error::from),))
}
