//! The roles that every cluster starts with, under Kubernetes' names and with its rules for the
//! kinds that there are (and for some that may come: a rule about nothing allows nothing).
//!
//! `admin`, `edit` and `view` are aggregated: their rules are whatever roles with the right label
//! say, so that a new kind extends them with a role of its own. What a start finds missing in a
//! role that has not been taken out of automatic update is added; nothing is ever taken away.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::{Value, json};

use super::super::Registry;
use super::super::error::Error;
use super::super::kinds::VERBS as ALL;
use super::super::options::{Caller, WriteOptions};
use super::{GROUP, rule};

const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

fn on(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn urls(urls: &[&str]) -> Value {
    json!({"nonResourceURLs": urls, "verbs": ["get"]})
}

fn metadata(name: &str, label: Option<&str>) -> Value {
    let mut labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    if let Some(role) = label {
        labels[format!("{GROUP}/aggregate-to-{role}")] = "true".into();
    }
    json!({"name": name, "labels": labels, "annotations": {AUTOUPDATE: "true"}})
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the rows below read better without `&`"
)]
fn role(name: &str, label: Option<&str>, rules: Vec<Value>) -> Value {
    json!({"metadata": metadata(name, label), "rules": rules})
}

fn aggregated(name: &str, label: Option<&str>) -> Value {
    let selector = json!({"matchLabels": {(format!("{GROUP}/aggregate-to-{name}")): "true"}});
    json!({
        "metadata": metadata(name, label),
        "aggregationRule": {"clusterRoleSelectors": [selector]},
    })
}

fn binding(name: &str, role: &str, groups: &[&str]) -> Value {
    let subjects: Vec<Value> = groups
        .iter()
        .map(|group| json!({"apiGroup": GROUP, "kind": "Group", "name": group}))
        .collect();
    json!({
        "metadata": metadata(name, None),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": subjects,
    })
}

/// `deployments` with what hangs below it.
fn with<'a>(names: &[&'a str], subs: &[&str]) -> Vec<String> {
    let of = |name: &&'a str| {
        let below = subs.iter().map(|sub| format!("{name}/{sub}"));
        std::iter::once((*name).to_owned()).chain(below.collect::<Vec<_>>())
    };
    names.iter().flat_map(of).collect()
}

fn words(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn view() -> Vec<Value> {
    let scaled = with(
        &["deployments", "replicasets", "statefulsets"],
        &["scale", "status"],
    );
    let plain = with(&["daemonsets"], &["status"]);
    let elder = with(&["replicationcontrollers"], &["scale", "status"]);
    let apps: Vec<String> = [vec!["controllerrevisions".to_owned()], scaled, plain].concat();
    vec![
        on(
            "",
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            READ,
        ),
        on(
            "",
            &[
                "bindings",
                "events",
                "limitranges",
                "namespaces/status",
                "pods/log",
                "pods/status",
                "resourcequotas",
                "resourcequotas/status",
            ],
            READ,
        ),
        on("", &["namespaces"], READ),
        on("", &words(&elder), READ),
        on("discovery.k8s.io", &["endpointslices"], READ),
        on("apps", &words(&apps), READ),
        on(
            "autoscaling",
            &words(&with(&["horizontalpodautoscalers"], &["status"])),
            READ,
        ),
        on(
            "batch",
            &words(&with(&["cronjobs", "jobs"], &["status"])),
            READ,
        ),
        on(
            "networking.k8s.io",
            &words(&with(&["ingresses", "networkpolicies"], &["status"])),
            READ,
        ),
        on(
            "policy",
            &words(&with(&["poddisruptionbudgets"], &["status"])),
            READ,
        ),
        on("events.k8s.io", &["events"], READ),
        on("metrics.k8s.io", &["nodes", "pods"], READ),
        on("wasmorch.dev", &["modules", "modules/content"], READ),
    ]
}

fn edit() -> Vec<Value> {
    let sessions = ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy"];
    let apps = with(&["deployments", "replicasets", "statefulsets"], &["scale"]);
    let apps: Vec<String> = [apps, vec!["daemonsets".to_owned()]].concat();
    let elder = with(&["replicationcontrollers"], &["scale"]);
    vec![
        on(
            "",
            &[&sessions[..], &["secrets", "services/proxy"]].concat(),
            READ,
        ),
        on("", &["serviceaccounts"], &["impersonate"]),
        on("", &[&["pods"], &sessions[..]].concat(), WRITE),
        on("", &["pods/eviction", "serviceaccounts/token"], &["create"]),
        on(
            "",
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
            WRITE,
        ),
        on("", &words(&elder), WRITE),
        on("apps", &words(&apps), WRITE),
        on("autoscaling", &["horizontalpodautoscalers"], WRITE),
        on("batch", &["cronjobs", "jobs"], WRITE),
        on("coordination.k8s.io", &["leases"], ALL),
        on(
            "networking.k8s.io",
            &["ingresses", "networkpolicies"],
            WRITE,
        ),
        on("policy", &["poddisruptionbudgets"], WRITE),
        on("wasmorch.dev", &["modules", "modules/content"], WRITE),
        on("wasmorch.dev", &["uploads"], &["create"]),
    ]
}

fn cluster_roles() -> Vec<Value> {
    let discovery = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
    ];
    let issuer = [
        "/.well-known/openid-configuration",
        "/.well-known/openid-configuration/",
        "/openid/v1/jwks",
        "/openid/v1/jwks/",
    ];
    vec![
        role(
            "cluster-admin",
            None,
            vec![
                on("*", &["*"], &["*"]),
                json!({"nonResourceURLs": ["*"], "verbs": ["*"]}),
            ],
        ),
        role("system:aggregate-to-view", Some("view"), view()),
        role("system:aggregate-to-edit", Some("edit"), edit()),
        role(
            "system:aggregate-to-admin",
            Some("admin"),
            vec![
                on(
                    "authorization.k8s.io",
                    &["localsubjectaccessreviews"],
                    &["create"],
                ),
                on(GROUP, &["rolebindings", "roles"], ALL),
            ],
        ),
        aggregated("view", Some("edit")),
        aggregated("edit", Some("admin")),
        aggregated("admin", None),
        role(
            "system:basic-user",
            None,
            vec![
                on(
                    "authorization.k8s.io",
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                    &["create"],
                ),
                on(
                    "authentication.k8s.io",
                    &["selfsubjectreviews"],
                    &["create"],
                ),
            ],
        ),
        role("system:discovery", None, vec![urls(&discovery)]),
        role(
            "system:public-info-viewer",
            None,
            vec![urls(&[
                "/healthz",
                "/livez",
                "/readyz",
                "/version",
                "/version/",
            ])],
        ),
        role(
            "system:monitoring",
            None,
            vec![urls(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/readyz",
                "/readyz/*",
            ])],
        ),
        role(
            "system:service-account-issuer-discovery",
            None,
            vec![urls(&issuer)],
        ),
        role(
            "system:auth-delegator",
            None,
            vec![
                on("authentication.k8s.io", &["tokenreviews"], &["create"]),
                on(
                    "authorization.k8s.io",
                    &["subjectaccessreviews"],
                    &["create"],
                ),
            ],
        ),
    ]
}

fn cluster_role_bindings() -> Vec<Value> {
    const EVERYONE: &str = "system:authenticated";
    vec![
        binding("cluster-admin", "cluster-admin", &["system:masters"]),
        binding("system:basic-user", "system:basic-user", &[EVERYONE]),
        binding("system:discovery", "system:discovery", &[EVERYONE]),
        binding(
            "system:public-info-viewer",
            "system:public-info-viewer",
            &[EVERYONE, "system:unauthenticated"],
        ),
        binding(
            "system:monitoring",
            "system:monitoring",
            &["system:monitoring"],
        ),
        binding(
            "system:service-account-issuer-discovery",
            "system:service-account-issuer-discovery",
            &["system:serviceaccounts"],
        ),
    ]
}

impl Registry {
    /// Makes the first roles and bindings that are not there, in one commit.
    pub(in super::super) async fn bootstrap_roles(&self) -> Result<(), Error> {
        let caller = Caller::system("bootstrap");
        let options = WriteOptions::default();
        let mut missing = Vec::new();
        for (plural, objects) in [
            ("clusterroles", cluster_roles()),
            ("clusterrolebindings", cluster_role_bindings()),
        ] {
            let res = self
                .find(GROUP, "v1", plural)
                .ok_or(Error::MethodNotAllowed)?;
            for object in objects {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                match self.get(res, None, name) {
                    Ok(stored) => self.extend_role(&stored.object, &object).await?,
                    Err(Error::NotFound { .. }) => missing.push((res, None, object)),
                    Err(error) => return Err(error),
                }
            }
        }
        if !missing.is_empty() {
            self.create_all(missing, &options, &caller).await?;
        }
        Ok(())
    }

    /// Adds what a role of an earlier version does not allow yet.
    async fn extend_role(&self, found: &Value, wanted: &Value) -> Result<(), Error> {
        let is_kept = found["metadata"]["annotations"][AUTOUPDATE] == "true";
        if found["kind"] != "ClusterRole" || !is_kept || wanted.get("rules").is_none() {
            return Ok(());
        }
        let api = self.api::<ClusterRole>(Caller::system("bootstrap"));
        let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
        let mut role = api.get("", name)?.as_ref().clone();
        let wanted: Vec<PolicyRule> = serde_json::from_value(wanted["rules"].clone())
            .expect("the rules of this file are rules; a test reads them");
        let rules = role.rules.get_or_insert_default();
        let missing: Vec<PolicyRule> = rule::uncovered(rules, &wanted).collect();
        if missing.is_empty() {
            return Ok(());
        }
        rules.extend(missing);
        api.update("", &role).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_a_rule_and_every_binding_has_its_role() {
        let roles = cluster_roles();
        for role in &roles {
            if let Some(rules) = role.get("rules") {
                serde_json::from_value::<Vec<PolicyRule>>(rules.clone()).unwrap();
            }
        }
        for binding in cluster_role_bindings() {
            let name = &binding["roleRef"]["name"];
            assert!(roles.iter().any(|role| &role["metadata"]["name"] == name));
        }
    }
}
