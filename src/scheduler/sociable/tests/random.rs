//! Random clusters against the plain definitions of what may be, and a measurement.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{HOST, REQUIRED, apart, constraint, near, node, pod, term};
use crate::scheduler::decide::{Decider, Decision};
use crate::scheduler::pod_info::PodInfo;

/// One pod of a random cluster: its app, and the terms that it requires.
#[derive(Clone, Debug)]
struct Wish {
    app: u8,
    near: Vec<(u8, bool)>,
    apart: Vec<(u8, bool)>,
    spread: Option<(u32, bool)>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let terms = || prop::collection::vec((0_u8..3, any::<bool>()), 0..2);
    let spread = prop::option::weighted(0.3, (1_u32..3, any::<bool>()));
    (0_u8..3, terms(), terms(), spread).prop_map(|(app, near, apart, spread)| Wish {
        app,
        near,
        apart,
        spread,
    })
}

fn key(is_zone: bool) -> &'static str {
    if is_zone { "zone" } else { HOST }
}

impl Wish {
    fn info(&self, name: &str) -> PodInfo {
        let terms = |terms: &[(u8, bool)]| -> Vec<Value> {
            let terms = terms.iter();
            terms
                .map(|(app, zone)| term(&format!("app{app}"), key(*zone)))
                .collect()
        };
        let mut spec = json!({"affinity": {
            "podAffinity": {REQUIRED: terms(&self.near)},
            "podAntiAffinity": {REQUIRED: terms(&self.apart)}}});
        if let Some((skew, zone)) = self.spread {
            let mut one = constraint(key(zone), skew, "DoNotSchedule");
            one["labelSelector"]["matchLabels"]["app"] = format!("app{}", self.app).into();
            spec["topologySpreadConstraints"] = json!([one]);
        }
        pod(name, &format!("app{}", self.app), &spec)
    }
}

/// A node by its number: two of each of three zones, and two without.
fn domain(node: usize, is_zone: bool) -> Option<usize> {
    if is_zone {
        (node < 6).then_some(node / 2)
    } else {
        Some(node)
    }
}

/// The plain definition of what may be.
fn may_be(wish: &Wish, on: usize, placed: &[(Wish, usize)], nodes: usize) -> bool {
    let same = |a: usize, b: usize, zone: bool| {
        domain(a, zone).is_some() && domain(a, zone) == domain(b, zone)
    };
    let selected = |other: &Wish| wish.near.iter().all(|(app, _)| *app == other.app);
    let has_keys = wish
        .near
        .iter()
        .all(|(_, zone)| domain(on, *zone).is_some());
    let is_there = |zone: bool| {
        let mut placed = placed.iter();
        placed.any(|(other, at)| selected(other) && same(on, *at, zone))
    };
    let nowhere = wish.near.iter().all(|(_, zone)| {
        let mut placed = placed.iter();
        !placed.any(|(other, at)| selected(other) && domain(*at, *zone).is_some())
    });
    let near = has_keys
        && (wish.near.iter().all(|(_, zone)| is_there(*zone)) || (nowhere && selected(wish)));
    let apart = wish.apart.iter().all(|(app, zone)| {
        let mut placed = placed.iter();
        !placed.any(|(other, at)| other.app == *app && same(on, *at, *zone))
    });
    let welcome = placed.iter().all(|(other, at)| {
        let mut apart = other.apart.iter();
        !apart.any(|(app, zone)| *app == wish.app && same(on, *at, *zone))
    });
    let even = wish.spread.is_none_or(|(skew, zone)| {
        let count = |of: usize| {
            let placed = placed.iter();
            let alike = placed.filter(|(other, _)| other.app == wish.app);
            alike
                .filter(|(_, at)| domain(*at, zone) == Some(of))
                .count()
        };
        let domains = (0..nodes).filter_map(|node| domain(node, zone));
        let least = domains.map(count).min().unwrap_or(0);
        domain(on, zone).is_some_and(|here| count(here) + 1 - least <= skew as usize)
    });
    near && apart && welcome && even
}

proptest! {
    #[test]
    fn no_required_term_is_broken_and_none_is_invented(
        wishes in prop::collection::vec((wish(), any::<prop::sample::Index>(), prop::bool::weighted(0.2)), 1..60),
    ) {
        const NODES: usize = 8;
        let mut decider = Decider::default();
        for n in 0..NODES {
            let zone = domain(n, true).map(|zone| format!("z{zone}")).unwrap_or_default();
            decider.cache.set_node(&node(&format!("n{n}"), &zone, 110));
        }
        let mut placed: Vec<(Wish, usize)> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for (number, (wish, which, is_removal)) in wishes.into_iter().enumerate() {
            if is_removal && !placed.is_empty() {
                let gone = which.index(placed.len());
                placed.remove(gone);
                prop_assert!(decider.cache.remove_pod(&names.remove(gone)));
            }
            let name = format!("p{number}");
            let possible: Vec<usize> = (0..NODES).filter(|on| may_be(&wish, *on, &placed, NODES)).collect();
            match decider.decide(&wish.info(&name)) {
                Decision::Bind(node) => {
                    let on: usize = node[1..].parse().unwrap();
                    prop_assert!(possible.contains(&on), "{wish:?} on {on}, possible {possible:?}");
                    placed.push((wish, on));
                    names.push(name);
                }
                Decision::Unschedulable(_) | Decision::Gated => {
                    prop_assert!(possible.is_empty(), "{wish:?}: possible {possible:?}");
                }
            }
        }
    }
}

/// Run by hand: `cargo test --release sociable -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn decisions_per_second() {
    type Wanted = fn(&str) -> Value;
    let wishes: [(&str, Wanted); 4] = [
        ("nothing", |_| json!({})),
        ("apart on hosts", |app| apart(app, HOST)),
        ("near in zones", |app| near(app, "zone")),
        ("spread over zones", |app| {
            let mut one = constraint("zone", 5, "DoNotSchedule");
            one["labelSelector"]["matchLabels"]["app"] = app.into();
            json!({"topologySpreadConstraints": [one]})
        }),
    ];
    for (what, spec) in wishes {
        let mut decider = Decider::default();
        for n in 0..5000 {
            let zone = format!("z{}", n % 3);
            decider.cache.set_node(&node(&format!("n{n}"), &zone, 110));
        }
        let infos: Vec<PodInfo> = (0..50_000)
            .map(|n| {
                let app = format!("app{}", n % 100);
                pod(&format!("p{n}"), &app, &spec(&app))
            })
            .collect();
        let start = std::time::Instant::now();
        let bound = infos
            .iter()
            .filter(|info| matches!(decider.decide(info), Decision::Bind(_)));
        let bound = bound.count();
        let rate = 50_000.0 / start.elapsed().as_secs_f64();
        println!("{what}: {bound} bound, {rate:.0} decisions/s");
    }
}
