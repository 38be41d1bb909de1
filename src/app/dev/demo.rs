//! The demo: a shop of five services, a customer, and a pod whose two containers share files and
//! loopback. Its guests and its manifest are part of the binary, so that it needs nothing else.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rust_embed::RustEmbed;

use super::apply::Client;

#[derive(RustEmbed)]
#[folder = "guest-examples/prebuilt/"]
#[include = "*.wasm"]
struct Guests;

const SHOP: &str = include_str!("../../../guest-examples/shop.yaml");
/// How many pods the manifest asks for.
const PODS: usize = 13;
const MODULES: [&str; 8] = [
    "shop-gateway",
    "shop-catalog",
    "shop-orders",
    "shop-payments",
    "shop-inventory",
    "shopper",
    "ledger-server",
    "ledger-client",
];

/// A guest that is part of this binary.
pub fn guest(name: &str) -> Option<Bytes> {
    let file = Guests::get(&format!("{name}.wasm"))?;
    Some(match file.data {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    })
}

/// Pushes the modules, applies the manifest and waits until every pod is ready; gives their number.
/// A pod of an earlier run counts when it has been started `since`.
pub async fn install(
    client: &Client,
    since: Timestamp,
    patience: Duration,
) -> anyhow::Result<usize> {
    for module in MODULES {
        let wasm =
            guest(module).ok_or_else(|| anyhow::anyhow!("this build holds no guest `{module}`"))?;
        client.push(module, wasm).await?;
    }
    client.apply("the demo", SHOP).await?;
    client.wait_for_pods("default", PODS, since, patience).await
}
