//! Waiting for an object to be as one wants it: list, then watch from there.
//!
//! The condition is judged on every version seen, so nothing that stays true is missed; when a watch
//! ends, for whatever reason, the list begins it anew.

use std::time::Duration;

use futures::{AsyncBufReadExt as _, StreamExt as _};
use serde_json::Value;

use super::discovery::Resource;
use super::failure::Result;
use super::session::{self, Session, query};

/// Between two attempts to watch.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits until `done` gives something for the object (`None`: there is none), or `None` when
/// the time is over.
pub(super) async fn until<T>(
    session: &Session,
    resource: &Resource,
    (namespace, name): (&str, &str),
    timeout: Duration,
    mut done: impl FnMut(Option<&Value>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let attempts = async {
        loop {
            if let Some(result) = attempt(session, resource, (namespace, name), &mut done).await? {
                return Ok(result);
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(timeout, attempts).await {
        Ok(result) => result.map(Some),
        Err(_) => Ok(None),
    }
}

async fn attempt<T>(
    session: &Session,
    resource: &Resource,
    (namespace, name): (&str, &str),
    done: &mut impl FnMut(Option<&Value>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let collection = resource.collection(Some(namespace));
    let field = format!("metadata.name={name}");
    let list = session
        .get(&format!(
            "{collection}{}",
            query(&[("fieldSelector", &field)])
        ))
        .await?;
    if let Some(result) = done(list["items"].get(0))? {
        return Ok(Some(result));
    }
    let since = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let query = query(&[
        ("watch", "1"),
        ("fieldSelector", &field),
        ("resourceVersion", since),
    ]);
    let stream = session
        .stream(&format!("{collection}{query}"), session::JSON)
        .await?;
    let mut lines = stream.lines();
    while let Some(Ok(line)) = lines.next().await {
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            break;
        };
        let object = &event["object"];
        let result = match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => done(Some(object))?,
            Some("DELETED") => done(None)?,
            Some("BOOKMARK") => None,
            _ => break,
        };
        if result.is_some() {
            return Ok(result);
        }
    }
    Ok(None)
}
