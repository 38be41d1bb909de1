//! Events: what happened, for people. One store, two groups: `v1` and `events.k8s.io/v1` name the
//! same fields differently, and the stored form is that of `v1`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSeries, EventSource};
use k8s_openapi::api::events::v1 as new;
use serde_json::{Value, json};

use super::super::decode::{self, WrongType};
use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::path::Path;
use super::super::strategy::{Decoded, Hooks, Strategy, schema_of};
use super::cell;
use crate::api::table::{self, Column};

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Last Seen"),
    Column::text("Type"),
    Column::text("Reason"),
    Column::text("Object"),
    Column::text("Subobject").wide(),
    Column::text("Source").wide(),
    Column::text("Message"),
    Column::text("First Seen").wide(),
    Column::text("Count").wide(),
    Column::text("Name").wide(),
];

pub(crate) const FIELDS: &[Selectable] = &[
    Selectable::field("involvedObject.kind"),
    Selectable::field("involvedObject.namespace"),
    Selectable::field("involvedObject.name"),
    Selectable::field("involvedObject.uid"),
    Selectable::field("involvedObject.apiVersion"),
    Selectable::field("involvedObject.resourceVersion"),
    Selectable::field("involvedObject.fieldPath"),
    Selectable::field("reason"),
    Selectable::field("type"),
    Selectable::field("reportingComponent"),
    Selectable::field("source.component").called("source"),
];

pub(crate) const FIELDS_V1: &[Selectable] = &[
    Selectable::field("involvedObject.kind").called("regarding.kind"),
    Selectable::field("involvedObject.namespace").called("regarding.namespace"),
    Selectable::field("involvedObject.name").called("regarding.name"),
    Selectable::field("involvedObject.uid").called("regarding.uid"),
    Selectable::field("involvedObject.apiVersion").called("regarding.apiVersion"),
    Selectable::field("involvedObject.resourceVersion").called("regarding.resourceVersion"),
    Selectable::field("involvedObject.fieldPath").called("regarding.fieldPath"),
    Selectable::field("reason"),
    Selectable::field("type"),
    Selectable::field("reportingComponent").called("reportingController"),
];

/// The hooks of the row in `events.k8s.io`.
pub(crate) const HOOKS_V1: Hooks = Hooks {
    decode: decode_v1,
    present: Some(present_v1),
    schema: schema_of::<new::Event>,
    ..Hooks::of::<Event>()
};

impl Strategy for Event {
    fn validate(&self, errors: &mut Errors) {
        // An event is kept in the namespace of the object it is about; cluster-scoped objects'
        // events go to `default`.
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let about = self
            .involved_object
            .namespace
            .as_deref()
            .unwrap_or_default();
        let path = Path::Root.field("involvedObject");
        if !about.is_empty() && about != namespace {
            errors.invalid(
                &path.field("namespace"),
                about,
                "does not match event.namespace",
            );
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let first = self.first_timestamp.as_ref().map(|time| time.0);
        let event_time = self.event_time.as_ref().map(|time| time.0);
        let last = self
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref().map(|time| time.0));
        let last = last.or(self.last_timestamp.as_ref().map(|time| time.0));
        let first = first.or(event_time);
        let object = &self.involved_object;
        let target = match (object.kind.as_deref(), object.name.as_deref()) {
            (Some(kind), Some(name)) => format!("{}/{name}", kind.to_lowercase()),
            (kind, name) => kind.or(name).unwrap_or_default().to_lowercase(),
        };
        let count = self
            .series
            .as_ref()
            .and_then(|series| series.count)
            .or(self.count);
        vec![
            table::age(last.or(first), now).into(),
            self.type_.clone().unwrap_or_default().into(),
            self.reason.clone().unwrap_or_default().into(),
            target.into(),
            object.field_path.clone().unwrap_or_default().into(),
            source(self).into(),
            self.message.as_deref().unwrap_or_default().trim().into(),
            table::age(first, now).into(),
            count.unwrap_or(1).into(),
            cell::name(&self.metadata),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "sample"},
            "involvedObject": {"kind": "Pod", "name": "web"}, "reason": "Started", "message": "Started container main", "type": "Normal"})
    }
}

pub(crate) fn sample_v1() -> Value {
    json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "sample"},
        "regarding": {"kind": "Pod", "name": "web"}, "reason": "Started", "note": "Started container main", "type": "Normal"})
}

fn source(event: &Event) -> String {
    let old = event.source.clone().unwrap_or_default();
    let component = old.component.or_else(|| event.reporting_component.clone());
    let instance = old.host.or_else(|| event.reporting_instance.clone());
    let parts = [component, instance].into_iter().flatten();
    parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

fn decode_v1(value: &Value) -> Result<Decoded, WrongType> {
    let decoded = decode::decode::<new::Event>(value)?;
    Ok((Box::new(to_stored(decoded.object)), decoded.unknown))
}

fn present_v1(stored: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(from_stored(serde::Deserialize::deserialize(stored)?))
}

fn to_stored(event: new::Event) -> Event {
    Event {
        action: event.action,
        count: event.deprecated_count,
        event_time: event.event_time,
        first_timestamp: event.deprecated_first_timestamp,
        involved_object: event.regarding.unwrap_or_default(),
        last_timestamp: event.deprecated_last_timestamp,
        message: event.note,
        metadata: event.metadata,
        reason: event.reason,
        related: event.related,
        reporting_component: event.reporting_controller,
        reporting_instance: event.reporting_instance,
        series: event.series.map(|series| EventSeries {
            count: Some(series.count),
            last_observed_time: Some(series.last_observed_time),
        }),
        source: event.deprecated_source,
        type_: event.type_,
    }
}

fn from_stored(event: Event) -> new::Event {
    let series = event.series.and_then(|series| {
        Some(new::EventSeries {
            count: series.count.unwrap_or(0),
            last_observed_time: series.last_observed_time?,
        })
    });
    new::Event {
        action: event.action,
        deprecated_count: event.count,
        deprecated_first_timestamp: event.first_timestamp,
        deprecated_last_timestamp: event.last_timestamp,
        deprecated_source: event
            .source
            .filter(|source| *source != EventSource::default()),
        event_time: event.event_time,
        metadata: event.metadata,
        note: event.message,
        reason: event.reason,
        regarding: Some(event.involved_object),
        related: event.related,
        reporting_controller: event.reporting_component,
        reporting_instance: event.reporting_instance,
        series,
        type_: event.type_,
    }
}
