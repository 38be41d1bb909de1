//! What `probes` promises, case by case.

use super::*;
use serde_json::json;

#[expect(
    clippy::needless_pass_by_value,
    reason = "cases read better without `&`"
)]
fn specs(value: serde_json::Value) -> Result<Specs, Error> {
    let mut container = json!({"name": "a", "ports": [{"name": "web", "containerPort": 8080}]});
    container
        .as_object_mut()
        .unwrap()
        .extend(value.as_object().unwrap().clone());
    Specs::of(&serde_json::from_value(container).unwrap())
}

#[test]
fn probes_parse_with_defaults() {
    let parsed = specs(json!({"readinessProbe": {"httpGet": {"path": "up", "port": "web"}},
                              "livenessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 2, "failureThreshold": 1}}))
    .unwrap();
    let readiness = parsed.readiness.unwrap();
    assert_eq!(
        readiness.action,
        Action::HttpGet {
            path: "/up".into(),
            port: 8080,
            headers: vec![]
        }
    );
    assert_eq!(
        (readiness.period.as_secs(), readiness.timeout.as_secs()),
        (10, 1)
    );
    assert_eq!(
        (readiness.success_threshold, readiness.failure_threshold),
        (1, 3)
    );
    assert_eq!(parsed.liveness.unwrap().period.as_secs(), 2);
    let parsed = specs(json!({"startupProbe": {"exec": {"command": ["cat", "/ok"]}}}));
    let command = vec!["cat".to_owned(), "/ok".to_owned()];
    let startup = parsed.unwrap().startup.unwrap();
    assert_eq!(startup.action, Action::Exec { command });
}

#[test]
fn what_cannot_be_asked_is_refused_in_words() {
    let cases = [
        json!({"livenessProbe": {"exec": {"command": []}}}),
        json!({"livenessProbe": {"grpc": {"port": 1}}}),
        json!({"livenessProbe": {"httpGet": {"port": 1, "host": "10.0.0.1"}}}),
        json!({"livenessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}}),
        json!({"livenessProbe": {"httpGet": {"port": "nope"}}}),
        json!({"livenessProbe": {}}),
    ];
    for case in cases {
        assert!(specs(case.clone()).is_err(), "{case}");
    }
}

fn running(value: serde_json::Value, now: Instant) -> Probes {
    Probes::new(&specs(value).unwrap(), now)
}

#[test]
fn startup_gates_the_others() {
    let now = Instant::now();
    let mut probes = running(
        json!({"startupProbe": {"tcpSocket": {"port": 1}}, "readinessProbe": {"tcpSocket": {"port": 1}}}),
        now,
    );
    assert_eq!(probes.due(now), [Kind::Startup]);
    assert_eq!(probes.due(now), [], "in flight");
    assert_eq!(probes.next(), None, "in flight");
    assert!(!probes.is_started());
    assert_eq!(probes.record(Kind::Startup, true, now), Outcome::Started);
    assert!(!probes.is_ready());
    assert_eq!(probes.due(now), [Kind::Readiness]);
    assert_eq!(
        probes.record(Kind::Readiness, true, now),
        Outcome::Ready(true)
    );
    assert!(probes.is_ready());
}

#[test]
fn early_tries_are_quick_and_do_not_count() {
    let start = Instant::now();
    let mut probes = running(
        json!({"startupProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 2}}),
        start,
    );
    let mut now = start;
    let mut asked = 0;
    loop {
        assert_eq!(probes.due(now), [Kind::Startup]);
        asked += 1;
        if probes.record(Kind::Startup, false, now) == Outcome::Unhealthy {
            break;
        }
        now = probes.next().unwrap();
    }
    assert!(asked > 4, "{asked}");
    assert!(now - start >= Duration::from_secs(1));
    assert!(now - start <= Duration::from_secs(2));
}

#[test]
fn readiness_comes_and_goes_by_thresholds() {
    let now = Instant::now();
    let mut probes = running(
        json!({"readinessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 2, "successThreshold": 2}}),
        now,
    );
    let answers = [
        (true, Outcome::Unchanged),
        (true, Outcome::Ready(true)),
        (false, Outcome::Unchanged),
        (false, Outcome::Ready(false)),
        (true, Outcome::Unchanged),
        (true, Outcome::Ready(true)),
    ];
    for (healthy, expected) in answers {
        assert_eq!(probes.record(Kind::Readiness, healthy, now), expected);
    }
}

#[test]
fn liveness_kills_after_its_threshold() {
    let now = Instant::now();
    let mut probes = running(
        json!({"livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 2, "initialDelaySeconds": 5}}),
        now,
    );
    assert_eq!(probes.due(now), []);
    assert_eq!(probes.next(), Some(now + Duration::from_secs(5)));
    assert_eq!(
        probes.record(Kind::Liveness, false, now),
        Outcome::Unchanged
    );
    assert_eq!(
        probes.record(Kind::Liveness, false, now),
        Outcome::Unhealthy
    );
}
