//! `scale`: the number of replicas, through the `scale` subresource of whatever has one.

use serde_json::json;

use super::console;
use super::discovery::Catalog;
use super::failure::{Failure, Result};
use super::session::Session;
use super::target;

const EXAMPLES: &str = "\
Examples:
  wasmorch scale deploy/hello --replicas 6
  wasmorch scale deployment hello --replicas 0
";

/// Set the number of replicas
#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES)]
pub(super) struct Args {
    /// TYPE/NAME… or TYPE NAME…
    #[arg(required = true, value_name = "TYPE/NAME")]
    objects: Vec<String>,
    /// How many there shall be
    #[arg(long, value_name = "N")]
    replicas: u32,
    /// Only if there are so many now
    #[arg(long, value_name = "N")]
    current_replicas: Option<u32>,
}

pub(super) async fn run(session: &Session, args: Args) -> Result {
    let catalog = Catalog::read(session).await?;
    let mut results = Vec::new();
    for target in target::parse(&args.objects)? {
        let resource = catalog.resolve(&target.kind)?;
        if target.names.is_empty() {
            return Err(Failure::usage(format!("which {}?", resource.plural)));
        }
        for name in &target.names {
            let path = format!("{}/scale", resource.path(session.namespace(), name));
            let result = scale(session, &path, &args).await;
            results.push(match result {
                Ok(()) => console::print(&format!("{} scaled\n", resource.display(name))),
                Err(failure) => Err(failure),
            });
        }
    }
    super::report_all(results)
}

async fn scale(session: &Session, path: &str, args: &Args) -> Result {
    let mut patch = json!({"spec": {"replicas": args.replicas}});
    if let Some(expected) = args.current_replicas {
        let scale = session.get(path).await?;
        if scale["spec"]["replicas"] != expected {
            return Err(Failure::failed(
                "Conflict",
                format!(
                    "there are {} replicas, not {expected}",
                    scale["spec"]["replicas"]
                ),
            ));
        }
        // With its version the answer cannot be out of date when the patch arrives.
        patch["metadata"] = json!({"resourceVersion": scale["metadata"]["resourceVersion"]});
    }
    session.merge(path, &patch).await.map(|_| ())
}
