//! Lists in pages and at revisions, watches with selectors and bookmarks.

use std::collections::BTreeMap;

use serde_json::json;
use wasmorch::registry::{DeleteOptions, Error, Event, ListOptions, WatchOptions};

use super::{Fixture, NS, complaints, config_map, next, next_words};

#[tokio::test]
async fn pages_are_one_snapshot() {
    let fixture = Fixture::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        fixture.created("configmaps", config_map(name)).await;
    }
    let row = fixture.row("configmaps");
    let mut options = ListOptions {
        limit: Some(2),
        ..ListOptions::default()
    };
    let first = fixture.registry.list(row, NS, &options).await.unwrap();
    assert_eq!((first.items.len(), first.remaining), (2, Some(3)));
    fixture.created("configmaps", config_map("bb")).await;
    let mut names: Vec<String> = Vec::new();
    let mut page = first;
    loop {
        names.extend(page.items.iter().map(|item| item.key.name.to_string()));
        options.continue_token = page.continue_token.clone();
        if options.continue_token.is_none() {
            break;
        }
        let next = fixture.registry.list(row, NS, &options).await.unwrap();
        assert_eq!(next.revision, page.revision);
        page = next;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    options.continue_token = Some("rubbish".to_owned());
    let refused = fixture.registry.list(row, NS, &options).await.map(drop);
    assert!(matches!(refused, Err(Error::BadRequest(_))));
}

#[tokio::test]
async fn revisions_of_a_list() {
    let fixture = Fixture::new().await;
    let row = fixture.row("configmaps");
    let before = fixture.registry.store().revision().0;
    fixture.created("configmaps", config_map("a")).await;
    let at = async |revision: &str, rule: Option<&str>| {
        let options = ListOptions {
            resource_version: Some(revision.to_owned()),
            resource_version_match: rule.map(str::to_owned),
            ..ListOptions::default()
        };
        fixture
            .registry
            .list(row, NS, &options)
            .await
            .map(|list| list.items.len())
    };
    assert_eq!(at("0", None).await.unwrap(), 1);
    assert_eq!(at(&before.to_string(), None).await.unwrap(), 1);
    assert_eq!(at(&before.to_string(), Some("Exact")).await.unwrap(), 0);
    assert!(matches!(at("x", None).await, Err(Error::BadRequest(_))));
    assert!(!complaints(at("", Some("Exact")).await).is_empty());
    let future = at(&(before + 1000).to_string(), None).await;
    assert!(matches!(future, Err(Error::FutureRevision { .. })));
}

#[tokio::test]
async fn a_watch_sees_objects_enter_and_leave_its_selector() {
    let fixture = Fixture::new().await;
    let row = fixture.row("configmaps");
    let mut object = fixture.created("configmaps", config_map("a")).await;
    let options = WatchOptions {
        label_selector: Some("app=web".to_owned()),
        send_initial_events: true,
        resource_version_match: Some("NotOlderThan".to_owned()),
        allow_bookmarks: true,
        ..WatchOptions::default()
    };
    let mut events = fixture.registry.watch(row, NS, &options).await.unwrap();
    assert_eq!(next_words(&mut events).await, "Bookmark true");
    for (labels, expected) in [
        (json!({"app": "web"}), "Added a"),
        (json!({"app": "web", "tier": "front"}), "Modified a"),
        (json!({"app": "db"}), "Deleted a"),
        (json!({"app": "web"}), "Added a"),
    ] {
        object["metadata"]["labels"] = labels;
        object = fixture.update("configmaps", None, object).await.unwrap();
        assert_eq!(next_words(&mut events).await, expected);
    }
    assert_eq!(events.progress(), fixture.registry.store().revision().0);
}

#[tokio::test]
async fn a_watch_from_a_revision_sees_what_came_after() {
    let fixture = Fixture::new().await;
    let row = fixture.row("configmaps");
    fixture.created("configmaps", config_map("a")).await;
    let since = fixture.registry.store().revision().0;
    fixture.created("configmaps", config_map("b")).await;
    let options = WatchOptions {
        resource_version: Some(since.to_string()),
        ..WatchOptions::default()
    };
    let mut events = fixture.registry.watch(row, None, &options).await.unwrap();
    assert_eq!(next_words(&mut events).await, "Added b");
    let refused = WatchOptions {
        send_initial_events: true,
        ..WatchOptions::default()
    };
    let refused = fixture.registry.watch(row, None, &refused).await.map(drop);
    assert!(!complaints(refused).is_empty());
}

/// Whatever happens to labels, a watcher with a selector and a lister with the same one agree.
#[tokio::test]
async fn a_watch_and_a_list_agree() {
    let fixture = Fixture::new().await;
    let row = fixture.row("configmaps");
    let selector = Some("app in (web,db)".to_owned());
    let watch = WatchOptions {
        label_selector: selector.clone(),
        ..WatchOptions::default()
    };
    let mut events = fixture.registry.watch(row, NS, &watch).await.unwrap();
    let mut seen = BTreeMap::new();
    let mut state = 7_u32;
    for _ in 0..150 {
        // A linear congruence is random enough, and the same each time.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let name = format!("c{}", (state >> 16) % 6);
        let mut object = config_map(&name);
        let app = ["web", "db", "none"][(state >> 20) as usize % 3];
        object["metadata"]["labels"] = json!({"app": app});
        let options = DeleteOptions::default();
        match (fixture.get("configmaps", &name), (state >> 24) % 4) {
            (None, _) => drop(fixture.created("configmaps", object).await),
            (Some(_), 0) => {
                let delete = fixture
                    .registry
                    .delete(row, NS, &name, &options, &fixture.caller);
                delete.await.map(drop).unwrap();
            }
            (Some(_), _) => drop(fixture.update("configmaps", None, object).await.unwrap()),
        }
    }
    let list = ListOptions {
        label_selector: selector,
        ..ListOptions::default()
    };
    let list = fixture.registry.list(row, NS, &list).await.unwrap();
    while events.progress() < list.revision {
        match next(&mut events).await {
            Event::Added(stored) => {
                let before = seen.insert(stored.key.name.to_string(), stored.revision);
                assert_eq!(before, None);
            }
            Event::Modified(stored) => {
                let before = seen.insert(stored.key.name.to_string(), stored.revision);
                assert!(before.unwrap() < stored.revision);
            }
            Event::Deleted(stored) => assert!(seen.remove(&*stored.key.name).is_some()),
            Event::Bookmark { .. } => unreachable!("none was asked for"),
        }
    }
    let listed = list
        .items
        .iter()
        .map(|item| (item.key.name.to_string(), item.revision));
    assert_eq!(seen, listed.collect());
}
