//! Requests that no client sends: whatever comes, the answer is a `Status` that says what is wrong,
//! and nothing has changed.
//!
//! A request is derived from a row of numbers that proptest makes, so a failing one shrinks to
//! something a person can read. `WASMORCH_TEST_FUZZ_SECONDS` lets it look for longer.

mod bodies;
mod choices;
mod requests;

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use proptest::prelude::{Strategy as _, any};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use wasmorch::registry::{ListOptions, WriteOptions};

use super::world::{PATIENCE, World, is_named_by_content, namespace, object};
use choices::Choices;
use requests::Request;

/// How long one request may take, on a machine that has other things to do.
const SLOW: Duration = Duration::from_secs(5);
/// After so many requests the world begins anew: what was accepted by then is in the way.
const BATCH: u32 = 256;

fn duration() -> Duration {
    let said = std::env::var("WASMORCH_TEST_FUZZ_SECONDS").ok();
    Duration::from_secs(said.map_or(15, |text| text.parse().unwrap()))
}

#[test]
fn whatever_comes_is_answered_with_a_status() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let until = Instant::now() + duration();
    let mut codes = std::collections::BTreeMap::new();
    while Instant::now() < until {
        let world = runtime.block_on(peopled());
        let mut runner = TestRunner::new(Config {
            cases: BATCH,
            failure_persistence: None,
            max_shrink_time: 60_000,
            ..Config::default()
        });
        let numbers = proptest::collection::vec(any::<u16>(), 16..80);
        let requests = numbers.prop_map(|numbers| Request::of(&mut Choices::new(&numbers)));
        let codes = std::cell::RefCell::new(&mut codes);
        let tried = runner.run(&requests, |request| {
            if Instant::now() > until {
                return Ok(());
            }
            let code = runtime
                .block_on(attempt(&world, &request))
                .map_err(TestCaseError::fail)?;
            *codes.borrow_mut().entry(code).or_insert(0_u64) += 1;
            Ok(())
        });
        if let Err(error) = tried {
            panic!("{error}");
        }
    }
    eprintln!("answers by code: {codes:?}");
    let refused: u64 = codes.range(400..500).map(|(_, count)| count).sum();
    assert!(refused > 0, "{codes:?}");
}

/// A world with one object of each kind.
async fn peopled() -> World {
    let world = World::new().await;
    for row in world.rows() {
        if is_named_by_content(row) {
            continue;
        }
        let options = WriteOptions::default();
        let ns = namespace(row);
        let made = world
            .registry
            .create(row, ns, object(row, 1), &options, &world.caller)
            .await;
        assert!(
            made.is_ok() || row.group == "events.k8s.io" || row.group == "autoscaling",
            "{row:?}"
        );
    }
    world
}

/// Every object's revision.
async fn objects(world: &World) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for row in world.registry.stored_kinds() {
        let options = ListOptions::default();
        let list = world.registry.list(row, None, &options).await;
        let items = list.unwrap().items;
        all.extend(
            items
                .iter()
                .map(|it| (format!("{:?}", it.key), it.revision.0)),
        );
    }
    all
}

async fn attempt(world: &World, request: &Request) -> Result<u16, String> {
    let before = (world.revision(), objects(world).await);
    let started = Instant::now();
    let headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let sent = world.send(request.method, &request.path, &headers, &request.body);
    // What the client library does not take for a request is none.
    let Some(response) = sent.await else {
        return Ok(0);
    };
    let code = response.status().as_u16();
    if code < 400 {
        if is_definition(request) && code == 201 {
            serve_definition(world, response).await?;
        }
        return Ok(code);
    }
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
    let body = body.map_err(|_| "the answer does not end")?;
    let body = body.map_err(|error| format!("the answer breaks off: {error}"))?;
    let body: Value = match serde_json::from_slice(&body.to_bytes()) {
        Ok(body) => body,
        // Not a request of HTTP by the server's reading.
        Err(_) if request.method == "HEAD" => return Ok(code),
        Err(error) => return Err(format!("{code} without a Status: {error}")),
    };
    judge(code, &body, request)?;
    if started.elapsed() > SLOW && code != 504 {
        return Err(format!("{code} took {:?}", started.elapsed()));
    }
    let after = (world.revision(), objects(world).await);
    if before != after {
        return Err(format!("{code} and yet something has changed: {body}"));
    }
    Ok(code)
}

/// The answer is a `Status` that fits its code and says why.
fn judge(code: u16, body: &Value, request: &Request) -> Result<(), String> {
    let reasons: &[&str] = match code {
        400 => &["BadRequest"],
        401 => &["Unauthorized"],
        403 => &["Forbidden"],
        404 => &["NotFound"],
        405 => &["MethodNotAllowed"],
        406 => &["NotAcceptable"],
        409 => &["AlreadyExists", "Conflict"],
        410 => &["Expired"],
        413 => &["RequestEntityTooLarge"],
        415 => &["UnsupportedMediaType"],
        422 => &["Invalid"],
        429 => &["TooManyRequests"],
        // Nobody runs the pods here, and nobody knows the future.
        503 if request.path.contains("/proxy") => &["ServiceUnavailable"],
        504 => &["Timeout"],
        _ => &[],
    };
    let reason = body["reason"].as_str().unwrap_or_default();
    let is_status = body["kind"] == "Status"
        && body["apiVersion"] == "v1"
        && body["status"] == "Failure"
        && body["code"] == code
        && reasons.contains(&reason)
        && body["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty());
    if !is_status {
        return Err(format!("{code} with {body}"));
    }
    let causes = body["details"]["causes"].as_array();
    if code == 422 && causes.is_none_or(Vec::is_empty) {
        return Err(format!("422 without a cause: {body}"));
    }
    Ok(())
}

fn is_definition(request: &Request) -> bool {
    request.method == "POST"
        && request.path.contains("customresourcedefinitions")
        && !request.path.contains("dryRun")
}

/// A schema that has been accepted is used: on objects that it does not expect.
async fn serve_definition(
    world: &World,
    response: http::Response<hyper::body::Incoming>,
) -> Result<(), String> {
    let body = response.into_body().collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let Ok(made) = serde_json::from_slice::<Value>(&body) else {
        return Ok(());
    };
    let Some(name) = made["metadata"]["name"].as_str() else {
        return Ok(());
    };
    if !world.establish(name).await {
        return Ok(());
    }
    let spec = &made["spec"];
    let (group, plural) = (&spec["group"], &spec["names"]["plural"]);
    let (Some(group), Some(plural)) = (group.as_str(), plural.as_str()) else {
        return Ok(());
    };
    let kind = &spec["names"]["kind"];
    let root = match spec["scope"].as_str() {
        Some("Cluster") => String::new(),
        _ => "/namespaces/default".to_owned(),
    };
    for version in spec["versions"].as_array().into_iter().flatten() {
        let version = version["name"].as_str().unwrap_or_default();
        let path = format!("/apis/{group}/{version}{root}/{plural}");
        for spec in bodies::STRANGE {
            let spec: Value = serde_json::from_str(spec).unwrap();
            let sent = json!({"apiVersion": format!("{group}/{version}"), "kind": kind,
                "metadata": {"name": "strange"}, "spec": spec, "status": spec});
            let answer = world
                .ask("POST", &path, &[], sent.to_string().as_bytes())
                .await;
            if let Some(answer) = answer
                && answer.code >= 500
            {
                return Err(format!("{sent} is answered with {answer:?}"));
            }
        }
        let listed = world.ask(
            "GET",
            &path,
            &[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")],
            b"",
        );
        if let Some(answer) = listed.await
            && answer.code >= 500
        {
            return Err(format!("the table is answered with {answer:?}"));
        }
    }
    let documents = world.ask("GET", "/openapi/v2", &[], b"").await.unwrap();
    if documents.code != 200 {
        return Err(format!("/openapi/v2 is answered with {documents:?}"));
    }
    Ok(())
}
