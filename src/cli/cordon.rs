//! `cordon` and `uncordon`: whether a node takes new pods.

use serde_json::{Value, json};

use super::console;
use super::discovery::Catalog;
use super::failure::Result;
use super::session::Session;

const EXAMPLES: &str = "\
Examples:
  wasmorch cordon dev-1        # no new pods; those there stay
  wasmorch uncordon dev-1
";

/// Say whether a node takes new pods
#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// Names of nodes
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

pub(super) async fn run(session: &Session, args: Args, cordon: bool) -> Result {
    let catalog = Catalog::read(session).await?;
    let resource = catalog.resolve("nodes")?;
    let word = if cordon { "cordoned" } else { "uncordoned" };
    let mut results = Vec::new();
    for name in &args.nodes {
        let name = name.strip_prefix("node/").unwrap_or(name);
        let path = resource.path("", name);
        let result = match session.get(&path).await {
            Ok(node) if is_cordoned(&node) == cordon => Ok("already "),
            Ok(_) => {
                // Absent is false: a patch with null leaves nothing behind.
                let value = if cordon { json!(true) } else { Value::Null };
                let patch = json!({"spec": {"unschedulable": value}});
                session.merge(&path, &patch).await.map(|_| "")
            }
            Err(failure) => Err(failure),
        };
        results.push(result.and_then(|already| {
            console::print(&format!("{} {already}{word}\n", resource.display(name)))
        }));
    }
    super::report_all(results)
}

fn is_cordoned(node: &Value) -> bool {
    node["spec"]["unschedulable"].as_bool().unwrap_or(false)
}
