//! What must hold whatever the order of changes: an answer is an endpoint that is ready now, and
//! whoever has none is told so.

use proptest::prelude::*;
use serde_json::json;

use super::super::{Backend, Index, RoutingTable};
use super::{ingress, key, route, service, slice};

/// The service it belongs to; address, ready and terminating of each endpoint.
type ModelSlice = (u8, Vec<(u8, bool, bool)>);

#[derive(Clone, Debug)]
enum Change {
    Service(u8, bool),
    Slice(u8, u8, Vec<(u8, bool, bool)>),
    NoSlice(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let endpoints = prop::collection::vec((0_u8..6, any::<bool>(), any::<bool>()), 0..5);
    prop_oneof![
        (0_u8..3, any::<bool>()).prop_map(|(name, there)| Change::Service(name, there)),
        (0_u8..4, 0_u8..3, endpoints).prop_map(|(name, of, ips)| Change::Slice(name, of, ips)),
        (0_u8..4).prop_map(Change::NoSlice),
    ]
}

proptest! {
    #[test]
    fn an_answer_is_always_ready(changes in prop::collection::vec(change(), 1..60)) {
        let mut index = Index::default();
        let mut services = [false; 3];
        let mut slices: [Option<ModelSlice>; 4] = Default::default();
        for change in changes {
            match change {
                Change::Service(name, there) => {
                    services[usize::from(name)] = there;
                    let name = format!("ns/s{name}");
                    if there {
                        let ip = format!("10.43.0.{}", &name[4..]);
                        let spec = json!({ "clusterIP": ip, "ports": [{ "port": 80, "name": "http" }] });
                        service(&mut index, &name, spec);
                    } else {
                        index.set_service(&key(&name), None);
                    }
                }
                Change::Slice(name, of, endpoints) => {
                    let ips: Vec<_> = endpoints.iter().map(|it| format!("10.64.0.{}", it.0)).collect();
                    let given: Vec<_> = ips
                        .iter()
                        .zip(&endpoints)
                        .map(|(ip, it)| (ip.as_str(), it.1, it.2, None))
                        .collect();
                    slice(&mut index, &format!("ns/e{name}"), &format!("s{of}"), &given);
                    slices[usize::from(name)] = Some((of, endpoints));
                }
                Change::NoSlice(name) => {
                    index.set_endpoint_slice(&key(&format!("ns/e{name}")), None);
                    slices[usize::from(name)] = None;
                }
            }
            let table = index.table();
            for name in 0_u8..3 {
                let of_service = slices.iter().flatten().filter(|(of, _)| *of == name);
                let ready = of_service.flat_map(|(_, all)| all).filter(|it| it.1 && !it.2);
                let mut expected: Vec<String> =
                    ready.map(|it| format!("10.64.0.{}:8080", it.0)).collect();
                expected.sort();
                expected.dedup();
                let mut seen: Vec<String> = (0..expected.len().max(1))
                    .map(|_| route(&table, &format!("10.43.0.{name}:80")))
                    .collect();
                seen.sort();
                if expected.is_empty() || !services[usize::from(name)] {
                    prop_assert_eq!(seen.first().map(String::as_str), Some("nobody"));
                } else {
                    prop_assert_eq!(seen, expected);
                }
            }
        }
    }
}

/// Host, path, whether it is exact, and the service, of each rule; and a default service.
type ModelIngress = (u8, Vec<(u8, u8, bool, u8)>, Option<u8>);

fn model_ingress() -> impl Strategy<Value = ModelIngress> {
    let rules = prop::collection::vec((0_u8..5, 0_u8..4, any::<bool>(), 0_u8..3), 0..4);
    (0_u8..3, rules, prop::option::of(0_u8..3))
}

const HOSTS: [Option<&str>; 5] = [
    None,
    Some("a.test"),
    Some("b.test"),
    Some("*.test"),
    Some("A.test"),
];
const PATHS: [&str; 4] = ["/", "/x", "/x/y", "/x/"];

fn put(index: &mut Index, name: u8, (age, rules, default): &ModelIngress) {
    let backend = |of: &u8| json!({"service": {"name": format!("s{of}"), "port": {"number": 80}}});
    let rules = rules.iter().map(|(host, path, is_exact, of)| {
        let kind = if *is_exact { "Exact" } else { "Prefix" };
        let path =
            json!({"path": PATHS[usize::from(*path)], "pathType": kind, "backend": backend(of)});
        json!({"host": HOSTS[usize::from(*host)], "http": {"paths": [path]}})
    });
    let spec = json!({
        "rules": rules.collect::<Vec<_>>(),
        "defaultBackend": default.as_ref().map(backend),
    });
    let created = format!("2026-01-0{}T00:00:00Z", age + 1);
    ingress(index, &format!("ns/i{name}"), &created, spec);
}

/// Who answers everything that can be asked.
fn answers(table: &RoutingTable) -> Vec<String> {
    let hosts = ["a.test", "b.test", "c.test", "test", "else"];
    let asked = hosts.iter().flat_map(|host| {
        let paths = ["/", "/x", "/x/", "/x/y", "/x/y/z", "/xy"];
        paths.map(|path| (*host, path))
    });
    let answer = |(host, path): (&str, &str)| match table.http(host, path) {
        Backend::Port(service, _) => format!("{host}{path} {}", service.name),
        Backend::NoRule => format!("{host}{path}"),
        Backend::NoService(key) => format!("{host}{path} no {}", key.name()),
    };
    asked.map(answer).collect()
}

proptest! {
    #[test]
    fn ingresses_one_by_one_come_to_what_they_come_to_together(
        changes in prop::collection::vec((0_u8..4, prop::option::of(model_ingress()), any::<bool>()), 1..40)
    ) {
        let mut index = Index::default();
        let mut known: [Option<ModelIngress>; 4] = Default::default();
        for (name, change, is_published) in changes {
            match &change {
                Some(it) => put(&mut index, name, it),
                None => index.set_ingress(&key(&format!("ns/i{name}")), None),
            }
            known[usize::from(name)] = change;
            if !is_published {
                continue;
            }
            let mut whole = Index::default();
            for (name, it) in known.iter().enumerate().rev() {
                if let Some(it) = it {
                    put(&mut whole, name as u8, it);
                }
            }
            prop_assert_eq!(answers(&index.table()), answers(&whole.table()));
        }
    }
}
