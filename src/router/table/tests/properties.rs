//! What must hold whatever the order of changes: an answer is an endpoint that is ready now, and
//! whoever has none is told so.

use proptest::prelude::*;
use serde_json::json;

use super::super::Index;
use super::{key, route, service, slice};

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
