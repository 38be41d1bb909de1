//! From a pod's labels to the Services that select it, without asking every Service.
//!
//! A Service is filed under one pair of its selector; a pod that it selects has that pair, so
//! looking up each of the pod's labels finds every candidate. With ten thousand Services a pod's
//! change costs as many look-ups as the pod has labels.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::selector::Labels;
use crate::controllers::runtime::Key;

/// Namespace, label, value.
type Pair = (String, String, String);

#[derive(Default)]
pub(super) struct SelectorIndex(Mutex<HashMap<Pair, HashMap<String, Labels>>>);

impl SelectorIndex {
    /// Follows a Service.
    pub(super) fn update(&self, before: Option<&Service>, after: Option<&Service>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((pair, name, _)) = before.and_then(filed)
            && let Some(services) = index.get_mut(&pair)
        {
            services.remove(&name);
            if services.is_empty() {
                index.remove(&pair);
            }
        }
        if let Some((pair, name, selector)) = after.and_then(filed) {
            index.entry(pair).or_default().insert(name, selector);
        }
    }

    /// The Services that select an object with this metadata.
    pub(super) fn services_of(&self, meta: &ObjectMeta) -> impl Iterator<Item = Key> + use<> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = meta.namespace.clone().unwrap_or_default();
        let mut keys = Vec::new();
        for (label, value) in meta.labels.iter().flatten() {
            let pair = (namespace.clone(), label.clone(), value.clone());
            for (name, selector) in index.get(&pair).into_iter().flatten() {
                if selector.matches(meta.labels.as_ref()) {
                    keys.push(Key::new(&namespace, name));
                }
            }
        }
        keys.into_iter()
    }
}

fn filed(service: &Service) -> Option<(Pair, String, Labels)> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    // The last pair, by name: the first is often one that everything has, such as `app`.
    let (label, value) = selector.iter().next_back()?;
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    let name = service.metadata.name.clone()?;
    let pair = (namespace, label.clone(), value.clone());
    Some((pair, name, Labels::from_map(selector)))
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(name: &str, selector: Value) -> Service {
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"selector": selector}}),
        )
        .unwrap()
    }

    fn found(index: &SelectorIndex, namespace: &str, labels: Value) -> Vec<String> {
        let meta: ObjectMeta =
            serde_json::from_value(json!({"namespace": namespace, "labels": labels})).unwrap();
        let mut names: Vec<String> = index.services_of(&meta).map(|key| key.name).collect();
        names.sort();
        names
    }

    #[test]
    fn finds_what_selects_and_forgets_what_does_not() {
        let index = SelectorIndex::default();
        let web = service("web", json!({"app": "web"}));
        let both = service("both", json!({"app": "web", "tier": "front"}));
        index.update(None, Some(&web));
        index.update(None, Some(&both));
        index.update(None, Some(&service("none", json!(null))));
        assert_eq!(
            found(&index, "a", json!({"app": "web", "tier": "front"})),
            ["both", "web"]
        );
        assert_eq!(found(&index, "a", json!({"app": "web"})), ["web"]);
        assert!(found(&index, "b", json!({"app": "web"})).is_empty());
        index.update(Some(&web), Some(&service("web", json!({"app": "db"}))));
        assert!(found(&index, "a", json!({"app": "web"})).is_empty());
        index.update(Some(&both), None);
        assert!(found(&index, "a", json!({"app": "web", "tier": "front"})).is_empty());
    }
}
