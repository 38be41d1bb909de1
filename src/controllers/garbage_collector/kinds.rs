//! Which kinds the collector follows: all of the table, and custom ones while they are defined.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::GarbageCollector;
use crate::controllers::Context;
use crate::errors;
use crate::registry::{self, ResourceInfo, WatchOptions};

/// Starts following; a definition that comes or goes starts or ends one kind.
pub(super) fn follow(ctx: &Context, collector: &Arc<GarbageCollector>) {
    let mut kinds = Kinds {
        ctx: ctx.clone(),
        collector: Arc::clone(collector),
        followed: HashMap::new(),
    };
    kinds.update();
    let cancelled = ctx.tasks.cancelled();
    ctx.tasks.spawn("garbagecollector-kinds", async move {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = kinds.run() => {}
        }
    });
}

struct Kinds {
    ctx: Context,
    collector: Arc<GarbageCollector>,
    followed: HashMap<&'static str, CancellationToken>,
}

impl Kinds {
    async fn run(&mut self) {
        while let Err(error) = self.watch().await {
            tracing::warn!(error = %errors::chain(&error), "watch definitions again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends well when the store closes.
    async fn watch(&mut self) -> Result<(), registry::Error> {
        let registry = self.ctx.registry.clone();
        let found = registry.find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
        let Some(definitions) = found else {
            return Ok(());
        };
        let mut events = registry
            .watch(definitions, None, &WatchOptions::default())
            .await?;
        while let Some(event) = events.next().await {
            event?;
            self.update();
        }
        Ok(())
    }

    fn update(&mut self) {
        let rows = self.ctx.registry.stored_kinds();
        self.followed.retain(|storage, token| {
            let is_there = rows.iter().any(|row| row.storage == *storage);
            if !is_there {
                token.cancel();
            }
            is_there
        });
        for row in rows {
            // Events are many, own nothing and expire by themselves.
            if row.kind != "Event" && !self.followed.contains_key(row.storage) {
                self.start(row);
            }
        }
    }

    fn start(&mut self, row: &'static ResourceInfo) {
        let token = self.ctx.tasks.cancelled().child_token();
        self.followed.insert(row.storage, token.clone());
        let collector = Arc::clone(&self.collector);
        self.ctx.tasks.spawn("garbagecollector", async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = collector.feed(row) => {}
            }
        });
    }
}
