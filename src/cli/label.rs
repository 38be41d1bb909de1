//! `label` and `annotate`: `KEY=VALUE` sets, `KEY-` removes.

use serde_json::{Map, Value, json};

use super::console;
use super::discovery::Catalog;
use super::failure::{Failure, Result};
use super::session::Session;
use super::target;

const EXAMPLES: &str = "\
Examples:
  wasmorch label pods hello-x2k4 tier=front
  wasmorch label deploy/hello tier=back --overwrite
  wasmorch annotate svc/hello note-                   # removes it
";

/// The two maps of `metadata`, and what a changed object is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Which {
    field: &'static str,
    word: &'static str,
    removed: &'static str,
}

pub(super) const LABELS: Which = Which {
    field: "labels",
    word: "labeled",
    removed: "unlabeled",
};
pub(super) const ANNOTATIONS: Which = Which {
    field: "annotations",
    word: "annotated",
    removed: "annotated",
};

/// Set or remove labels or annotations
#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// TYPE NAME… or TYPE/NAME…, then KEY=VALUE or KEY-
    #[arg(required = true, value_name = "TYPE/NAME KEY=VALUE")]
    words: Vec<String>,
    /// Also change what is set already
    #[arg(long)]
    overwrite: bool,
}

pub(super) async fn run(session: &Session, args: Args, which: Which) -> Result {
    let (objects, changes) = split(&args.words);
    if changes.is_empty() {
        return Err(
            Failure::usage("nothing to change is named").help("KEY=VALUE sets, KEY- removes")
        );
    }
    let catalog = Catalog::read(session).await?;
    let mut results = Vec::new();
    for target in target::parse(&objects)? {
        let resource = catalog.resolve(&target.kind)?;
        if target.names.is_empty() {
            return Err(Failure::usage(format!("which {}?", resource.plural)));
        }
        for name in &target.names {
            let path = resource.path(session.namespace(), name);
            let result = change(session, &path, &changes, &args, which).await;
            results.push(
                result.and_then(|word| {
                    console::print(&format!("{} {word}\n", resource.display(name)))
                }),
            );
        }
    }
    super::report_all(results)
}

async fn change(
    session: &Session,
    path: &str,
    changes: &Map<String, Value>,
    args: &Args,
    which: Which,
) -> Result<&'static str> {
    let live = session.get(path).await?;
    let current = &live["metadata"][which.field];
    let differs =
        |(key, value): (&String, &Value)| current.get(key).unwrap_or(&Value::Null) != value;
    if !changes.iter().any(differs) {
        return Ok("unchanged");
    }
    let taken = changes.iter().find(|(key, value)| {
        !value.is_null() && current.get(*key).is_some_and(|known| known != *value)
    });
    if let Some((key, _)) = taken.filter(|_| !args.overwrite) {
        return Err(
            Failure::failed("Conflict", format!("{key} is {} already", current[key]))
                .help("add --overwrite to change it"),
        );
    }
    let patch = json!({"metadata": {which.field: changes}});
    session.merge(path, &patch).await?;
    let only_removes = changes.values().all(Value::is_null);
    Ok(if only_removes {
        which.removed
    } else {
        which.word
    })
}

/// The objects first, then the changes.
fn split(words: &[String]) -> (Vec<String>, Map<String, Value>) {
    let mut objects = Vec::new();
    let mut changes = Map::new();
    for word in words {
        if let Some((key, value)) = word.split_once('=') {
            changes.insert(key.to_owned(), value.into());
        } else if let Some(key) = word.strip_suffix('-') {
            changes.insert(key.to_owned(), Value::Null);
        } else {
            objects.push(word.clone());
        }
    }
    (objects, changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_objects_and_changes() {
        let words = ["pods", "a", "b", "x=1", "y=", "z-", "u=v=w"].map(str::to_owned);
        let (objects, changes) = split(&words);
        assert_eq!(objects, ["pods", "a", "b"]);
        assert_eq!(
            Value::Object(changes),
            json!({"x": "1", "y": "", "z": null, "u": "v=w"})
        );
    }
}
