//! Aggregated ClusterRoles: their rules are those of the ClusterRoles that their selectors find, in
//! the order of names and each once, whatever anybody writes there.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::api::selector::Labels;
use crate::registry::Api;
use crate::registry::rbac::rule;

const COMPONENT: &str = "clusterrole-aggregation-controller";

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let api: Api<ClusterRole> = ctx.api(COMPONENT);
    let controller = Controller::new("clusterrole-aggregation", ctx);
    controller.root(&mut sources.cluster_roles, api.clone());
    let all = api.clone();
    controller.on(&mut sources.cluster_roles, move |_: &ClusterRole| {
        // An unreadable list wakes nobody; the periodic look at every role does.
        let roles = all.list(None).unwrap_or_else(|error| {
            tracing::warn!(error = %crate::errors::chain(&error), "list cluster roles");
            Vec::new()
        });
        let aggregated = roles.iter().filter(|role| role.aggregation_rule.is_some());
        aggregated.map(|role| Key::of(&role.metadata)).collect()
    });
    controller.start(move |key| {
        let api = api.clone();
        async move { reconcile(&api, &key.name).await }
    })
}

async fn reconcile(api: &Api<ClusterRole>, name: &str) -> Result<Outcome, Error> {
    let found = api.try_get("", name);
    let Some(role) = found.map_err(doing("get cluster role", name))? else {
        return Ok(Outcome::Done);
    };
    if role.aggregation_rule.is_none() {
        return Ok(Outcome::Done);
    }
    let all = api
        .list(None)
        .map_err(doing("list for cluster role", name))?;
    let rules = plan(&role, &all)?;
    if role.rules.as_deref().unwrap_or_default() != rules {
        let mut updated = role.as_ref().clone();
        updated.rules = Some(rules);
        let written = api.update("", &updated).await;
        written.map_err(doing("update cluster role", name))?;
    }
    Ok(Outcome::Done)
}

fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Result<Vec<PolicyRule>, Error> {
    let aggregation = role.aggregation_rule.as_ref();
    let selectors = aggregation
        .and_then(|rule| rule.cluster_role_selectors.as_deref())
        .unwrap_or_default();
    let mut selected = Vec::new();
    for selector in selectors {
        let labels = Labels::from_selector(selector).map_err(|source| Error::Selector {
            object: super::path(&role.metadata),
            source,
        })?;
        selected.extend(all.iter().filter(|one| {
            one.metadata.name != role.metadata.name && labels.matches(one.metadata.labels.as_ref())
        }));
    }
    let rules = selected.iter().flat_map(|one| one.rules.iter().flatten());
    Ok(rule::unique(rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_those_of_the_selected_roles_each_once() {
        let role = |name: &str, labels: &[&str], resources: &[&str]| -> Arc<ClusterRole> {
            let labels: std::collections::BTreeMap<_, _> =
                labels.iter().map(|label| (*label, "true")).collect();
            let rules: Vec<_> = resources
                .iter()
                .map(|one| json!({"apiGroups": [""], "resources": [one], "verbs": ["get"]}))
                .collect();
            let role = json!({"metadata": {"name": name, "labels": labels}, "rules": rules});
            Arc::new(serde_json::from_value(role).unwrap())
        };
        let mut whole = role("whole", &["a"], &["stale"]).as_ref().clone();
        let selectors = json!({"clusterRoleSelectors": [
            {"matchLabels": {"a": "true"}}, {"matchLabels": {"b": "true"}}]});
        whole.aggregation_rule = Some(serde_json::from_value(selectors).unwrap());
        let all = [
            role("one", &["a"], &["pods", "nodes"]),
            role("other", &["b", "a"], &["pods", "secrets"]),
            role("third", &[], &["events"]),
            Arc::new(whole.clone()),
        ];
        let rules = plan(&whole, &all).unwrap();
        let resources: Vec<_> = rules
            .iter()
            .map(|rule| rule.resources.clone().unwrap().remove(0))
            .collect();
        assert_eq!(resources, ["pods", "nodes", "secrets"]);
    }
}
