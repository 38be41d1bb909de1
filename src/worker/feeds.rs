//! What feeds the worker's components while it runs: the wire secret, the refresh ticks of volumes,
//! the node's `podCIDR`.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::network::{Network, OwnNode};
use crate::backoff::Backoff;
use crate::errors::chain;
use crate::ids;
use crate::tasks::TaskGroup;

const SECRET_RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// Resolves when one of the two is cancelled.
pub(super) async fn either(one: CancellationToken, other: CancellationToken) {
    tokio::select! {
        () = one.cancelled() => {}
        () = other.cancelled() => {}
    }
}

/// The secret that routers and workers prove themselves with; asked for until it is there.
pub(super) async fn wire_secret(client: &Client) -> Vec<u8> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let mut failures = 0;
    loop {
        match secrets.get("wasmorch-wire").await {
            Ok(secret) => {
                let data = secret.data.unwrap_or_default();
                match data.get("secret") {
                    Some(bytes) if !bytes.0.is_empty() => return bytes.0.clone(),
                    Some(_) | None => tracing::warn!("secret kube-system/wasmorch-wire is empty"),
                }
            }
            Err(error) if failures == 0 => {
                tracing::warn!(error = %chain(&error), "read the wire secret; trying again");
            }
            Err(error) => tracing::debug!(error = %chain(&error), "read the wire secret"),
        }
        failures += 1;
        tokio::time::sleep(SECRET_RETRY.delay_with_jitter(failures, ids::jitter())).await;
    }
}

/// One timer for all pods: each tick is a look at the objects behind volumes.
pub(super) fn refresh_ticks(period: Duration, tasks: &TaskGroup) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    let cancelled = tasks.cancelled();
    tasks.spawn("volume refresh", async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => sender.send_modify(|count| *count += 1),
                () = cancelled.cancelled() => return,
            }
        }
    });
    receiver
}

/// Hands the node's `podCIDR` to the address pool, when it comes and when it changes.
pub(super) fn follow_cidr(network: &Arc<Network>, context: &Arc<Context>, tasks: &TaskGroup) {
    let (mut own, context) = (network.own_node(), Arc::clone(context));
    let cancelled = tasks.cancelled();
    tasks.spawn("pod CIDR", async move {
        loop {
            if let OwnNode::Present(node) = &*own.borrow_and_update()
                && let Some(cidr) = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref())
                && let Err(error) = context.addresses.set_cidr(cidr)
            {
                tracing::error!(cidr, error = %chain(&error), "take the node's podCIDR");
            }
            tokio::select! {
                changed = own.changed() => if changed.is_err() { return },
                () = cancelled.cancelled() => return,
            }
        }
    });
}
