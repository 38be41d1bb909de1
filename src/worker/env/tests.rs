//! What a container finds in its environment.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::worker::fields::tests::subject;
use crate::worker::plan::tests::pod;

fn build_with(container: &Value, services: &[ServiceLink]) -> Result<Variables, Error> {
    let pod = pod(&json!({"nodeName": "dev-1", "containers": [container]}));
    let objects = Objects::default()
        .with(
            Kind::ConfigMap,
            "config",
            &[("A", "1"), ("B", "2"), ("bad=key", "x")],
        )
        .with(Kind::Secret, "secret", &[("password", "pw")]);
    let allocatable = BTreeMap::new();
    let subject = subject(&pod, &allocatable);
    build(
        &pod.spec.as_ref().unwrap().containers[0],
        &subject,
        &objects,
        services,
        &mut Budget::default(),
    )
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "cases read better without `&`"
)]
fn check(container: Value, expected: &[(&str, &str)]) {
    let env = build_with(&container, &[]).unwrap().into_list();
    let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, expected, "{container}");
}

#[test]
fn every_source() {
    check(json!({"name": "m"}), &[]);
    check(
        json!({"name": "m", "env": [{"name": "X", "value": "x"}, {"name": "Y", "value": "$(X)/$(Z)"}, {"name": "X", "value": "z"}]}),
        &[("X", "z"), ("Y", "x/$(Z)")],
    );
    check(
        json!({"name": "m", "envFrom": [{"configMapRef": {"name": "config"}, "prefix": "P_"}, {"secretRef": {"name": "none", "optional": true}}],
               "env": [{"name": "P_A", "value": "own"}]}),
        &[("P_A", "own"), ("P_B", "2")],
    );
    check(
        json!({"name": "m", "env": [
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "config", "key": "A"}}},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "password"}}},
            {"name": "O", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "none", "optional": true}}},
            {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "E", "value": "$(S)@$(F)"}]}),
        &[("C", "1"), ("S", "pw"), ("F", "dev-1"), ("E", "pw@dev-1")],
    );
}

#[test]
fn what_is_missing_is_named() {
    let text = |container: Value| build_with(&container, &[]).unwrap_err().to_string();
    assert_eq!(
        text(json!({"name": "m", "envFrom": [{"configMapRef": {"name": "none"}}]})),
        "configmap \"none\" not found"
    );
    assert_eq!(
        text(
            json!({"name": "m", "env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "k"}}}]})
        ),
        "couldn't find key k in secret default/secret"
    );
}

#[test]
fn services_are_told_unless_the_pod_says_otherwise() {
    let service = ServiceLink {
        name: "my-shop".into(),
        cluster_ip: "10.43.0.9".parse().unwrap(),
        ports: vec![("web".into(), 80, "TCP".into())],
    };
    let container = json!({"name": "m", "env": [{"name": "URL", "value": "http://$(MY_SHOP_SERVICE_HOST)"}, {"name": "MY_SHOP_PORT", "value": "own"}]});
    let env = build_with(&container, &[service]).unwrap();
    let value = |name: &str| env.get(name).unwrap();
    assert_eq!(value("URL"), "http://10.43.0.9");
    assert_eq!(value("MY_SHOP_PORT"), "own");
    assert_eq!(value("MY_SHOP_SERVICE_PORT"), "80");
    assert_eq!(value("MY_SHOP_SERVICE_PORT_WEB"), "80");
    assert_eq!(value("MY_SHOP_PORT_80_TCP"), "tcp://10.43.0.9:80");
}

#[test]
fn argv_cases() {
    let cases = [
        (json!({"name": "m"}), vec!["hello"]),
        (
            json!({"name": "m", "args": ["-v", "$(X)"]}),
            vec!["hello", "-v", "x"],
        ),
        (
            json!({"name": "m", "command": ["prog"], "args": ["$$(X)"]}),
            vec!["prog", "$(X)"],
        ),
        (
            json!({"name": "m", "command": ["ls", "-l"]}),
            vec!["ls", "-l"],
        ),
    ];
    let mut env = Variables::default();
    env.put("X".to_owned(), "x".to_owned());
    for (container, expected) in cases {
        let container: Container = serde_json::from_value(container).unwrap();
        let argv = argv(&container, "hello", &env, &mut Budget::default()).unwrap();
        assert_eq!(argv, expected);
    }
}

#[test]
fn a_bomb_of_variables_is_refused() {
    let tenfold = |name: &str| format!("$({name})").repeat(10);
    let mut env = vec![json!({"name": "A0", "value": "x".repeat(100)})];
    for level in 1..12 {
        let value = tenfold(&format!("A{}", level - 1));
        env.push(json!({"name": format!("A{level}"), "value": value}));
    }
    let container = json!({"name": "m", "env": env});
    assert_eq!(
        build_with(&container, &[]).unwrap_err(),
        Error::TooLarge(TooLarge)
    );
}
