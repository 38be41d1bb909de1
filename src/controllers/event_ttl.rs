//! Removes events that are old, and the oldest when there are too many.
//!
//! Kubernetes leaves this to leases of etcd. Here it is a periodic pass like any other, with a
//! ceiling on the number as well, so that no amount of trouble fills the store.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use super::runtime::{Controller, Counters, Key, Outcome};
use super::{Config, Context, Error, doing};
use crate::registry;
use crate::registry::{Api, DeleteOptions};

const COMPONENT: &str = "event-ttl-controller";
const PERIOD: Duration = Duration::from_secs(30);
/// Deleted in one commit; the rest follows at once.
const BATCH: usize = 500;

pub(super) fn start(ctx: &Context) -> (&'static str, Arc<Counters>) {
    let api: Api<Event> = ctx.api(COMPONENT);
    let config = Arc::clone(&ctx.config);
    let clock = ctx.clock.clone();
    let controller = Controller::new("eventttl", ctx).single();
    controller.every(PERIOD, || Ok(vec![Key::new("", "events")]));
    controller.start(move |_| {
        let (api, config, now) = (api.clone(), Arc::clone(&config), clock.now());
        async move {
            let events = api.list(None).map_err(doing("list", "events"))?;
            let expired = plan(&events, &config, now);
            let all = expired.len();
            delete(&api, expired.into_iter().take(BATCH)).await?;
            let more = (all > BATCH).then_some(Duration::ZERO);
            Ok(Outcome::after(more))
        }
    })
}

async fn delete(api: &Api<Event>, events: impl Iterator<Item = &Arc<Event>>) -> Result<(), Error> {
    let deletions = events.map(|event| {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let name = event.metadata.name.as_deref().unwrap_or_default();
        async move { api.delete(namespace, name, &DeleteOptions::default()).await }
    });
    for result in join_all(deletions).await {
        match result {
            Ok(()) | Err(registry::Error::NotFound { .. }) => {}
            Err(error) => return Err(doing("delete", "old events")(error)),
        }
    }
    Ok(())
}

/// The events to remove, the oldest first.
fn plan<'a>(events: &'a [Arc<Event>], config: &Config, now: Timestamp) -> Vec<&'a Arc<Event>> {
    let mut sorted: Vec<&Arc<Event>> = events.iter().collect();
    sorted.sort_by_key(|event| last_seen(event));
    let surplus = sorted.len().saturating_sub(config.max_events);
    let is_old = |event: &Arc<Event>| {
        let seen = last_seen(event);
        seen.is_some_and(|seen| {
            Duration::try_from(now.duration_since(seen)).is_ok_and(|age| age >= config.event_ttl)
        })
    };
    let old = sorted.partition_point(|event| last_seen(event).is_none() || is_old(event));
    sorted.truncate(old.max(surplus));
    sorted
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    series
        .map(|time| time.0)
        .or(event.last_timestamp.as_ref().map(|time| time.0))
        .or(event.event_time.as_ref().map(|time| time.0))
        .or(event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(name: &str, last: i64) -> Arc<Event> {
        let last = Timestamp::from_second(last).unwrap().to_string();
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name}, "involvedObject": {}, "lastTimestamp": last}),
            )
            .unwrap(),
        )
    }

    #[test]
    fn old_ones_go_and_the_number_is_bounded() {
        let events = [
            event("b", 5000),
            event("a", 100),
            event("c", 9000),
            event("d", 9100),
        ];
        let names = |max_events: usize, now: i64| -> Vec<String> {
            let config = Config {
                max_events,
                ..Config::default()
            };
            plan(&events, &config, Timestamp::from_second(now).unwrap())
                .into_iter()
                .map(|event| event.metadata.name.clone().unwrap())
                .collect()
        };
        assert!(names(10, 3000).is_empty());
        assert_eq!(names(10, 8600), ["a", "b"]);
        assert_eq!(names(1, 3000), ["a", "b", "c"]);
        assert_eq!(names(10, 99_999), ["a", "b", "c", "d"]);
    }
}
