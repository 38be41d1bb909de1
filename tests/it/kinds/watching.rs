//! Watches of every kind, by either way, and reads of moments that are past or to come.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use wasmorch::registry::{Event, EventStream, WatchOptions};

use super::behaviours::each;
use super::door::{Door, MERGE, Options, Way, failed};
use super::world::{Answer, PATIENCE, World, name_of, namespace};

/// A watch that has been opened.
enum Watch {
    Http { body: Incoming, read: Vec<u8> },
    Registry(EventStream),
}

impl Watch {
    async fn next(&mut self) -> Value {
        let next = tokio::time::timeout(PATIENCE, self.read());
        next.await.expect("an event")
    }

    /// `{"type": …, "object": …}`
    async fn read(&mut self) -> Value {
        match self {
            Self::Http { body, read } => loop {
                if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = read.drain(..=end).collect();
                    return serde_json::from_slice(&line).unwrap();
                }
                let frame = body.frame().await.expect("the watch goes on").unwrap();
                read.extend_from_slice(frame.data_ref().unwrap());
            },
            Self::Registry(stream) => match stream.next().await.expect("the watch goes on") {
                Ok(Event::Added(it)) => json!({"type": "ADDED", "object": it.object}),
                Ok(Event::Modified(it)) => json!({"type": "MODIFIED", "object": it.object}),
                Ok(Event::Deleted(it)) => json!({"type": "DELETED", "object": it.object}),
                Ok(Event::Bookmark {
                    revision,
                    initial_end,
                }) => json!({"type": "BOOKMARK", "object": {"metadata": {
                    "resourceVersion": revision.to_string(),
                    "annotations": {"k8s.io/initial-events-end": initial_end.to_string()}}}}),
                Err(error) => json!({"type": "ERROR", "object": failed(&error).body}),
            },
        }
    }

    /// `ADDED name`, `BOOKMARK true`, `ERROR 410`.
    async fn words(&mut self) -> String {
        let event = self.next().await;
        let object = &event["object"];
        let end = &object["metadata"]["annotations"]["k8s.io/initial-events-end"];
        match event["type"].as_str().unwrap() {
            "BOOKMARK" => format!("BOOKMARK {}", end.as_str().unwrap_or("false")),
            "ERROR" => format!("ERROR {}", object["code"]),
            kind => format!("{kind} {}", name_of(object)),
        }
    }
}

impl Door<'_> {
    async fn watch(&self, options: Options<'_>) -> Result<Watch, Answer> {
        if self.way == Way::Http {
            let path = self.path("", None, &[&[("watch", "1")], options].concat());
            let response = self.world.send("GET", &path, &[], b"").await.unwrap();
            let code = response.status().as_u16();
            let body = response.into_body();
            if code == 200 {
                let read = Vec::new();
                return Ok(Watch::Http { body, read });
            }
            let bytes = body.collect().await.unwrap().to_bytes();
            return Err(Answer {
                code,
                body: serde_json::from_slice(&bytes).unwrap(),
                warnings: Vec::new(),
            });
        }
        let text = |name: &str| {
            let found = options.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let options = WatchOptions {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            send_initial_events: text("sendInitialEvents").is_some(),
            allow_bookmarks: text("allowWatchBookmarks").is_some(),
        };
        let ns = namespace(self.row);
        let watch = self.world.registry.watch(self.row, ns, &options).await;
        watch.map(Watch::Registry).map_err(|error| failed(&error))
    }
}

const MINE: (&str, &str) = ("labelSelector", "conformance=yes");

#[tokio::test]
async fn a_watch_follows_what_its_selector_sees() {
    each(async |door| {
        let made = door.made(1).await;
        let name = name_of(&made);
        let mut watch = door.watch(&[MINE]).await.unwrap();
        let first = watch.next().await;
        assert_eq!(first, json!({"type": "ADDED", "object": made}), "{door:?}");
        let noted = json!({"metadata": {"annotations": {"note": "1"}}});
        door.patch(name, (MERGE, None), &noted, &[]).await.object();
        let left = json!({"metadata": {"labels": {"conformance": "no"}}});
        let last = door.patch(name, (MERGE, None), &left, &[]).await.object();
        let back = json!({"metadata": {"labels": {"conformance": "yes"}}});
        door.patch(name, (MERGE, None), &back, &[]).await.object();
        assert_eq!(watch.words().await, format!("MODIFIED {name}"), "{door:?}");
        let gone = watch.next().await;
        assert_eq!(gone["type"], "DELETED", "{door:?}");
        let object = &gone["object"]["metadata"];
        assert_eq!(object["labels"]["conformance"], "yes", "{door:?}");
        assert_eq!(
            object["resourceVersion"], last["metadata"]["resourceVersion"],
            "{door:?}"
        );
        assert_eq!(watch.words().await, format!("ADDED {name}"), "{door:?}");
        // Resumed where another was left.
        let since = made["metadata"]["resourceVersion"].as_str().unwrap();
        let mut resumed = door.watch(&[("resourceVersion", since)]).await.unwrap();
        for _ in 0..3 {
            assert_eq!(
                resumed.words().await,
                format!("MODIFIED {name}"),
                "{door:?}"
            );
        }
        door.remove(name).await;
        let mut kind = String::from("MODIFIED");
        while kind == "MODIFIED" {
            kind = watch.next().await["type"].as_str().unwrap().to_owned();
        }
        assert_eq!(kind, "DELETED", "{door:?}");
    })
    .await;
}

#[tokio::test]
async fn a_watch_can_begin_with_a_list() {
    each(async |door| {
        let (one, two) = (door.made(1).await, door.made(2).await);
        let listing = [
            MINE,
            ("sendInitialEvents", "true"),
            ("resourceVersionMatch", "NotOlderThan"),
            ("allowWatchBookmarks", "true"),
        ];
        let mut watch = door.watch(&listing).await.unwrap();
        assert_eq!(
            watch.words().await,
            format!("ADDED {}", name_of(&one)),
            "{door:?}"
        );
        assert_eq!(
            watch.words().await,
            format!("ADDED {}", name_of(&two)),
            "{door:?}"
        );
        assert_eq!(watch.words().await, "BOOKMARK true", "{door:?}");
        let three = door.made(3).await;
        assert_eq!(
            watch.words().await,
            format!("ADDED {}", name_of(&three)),
            "{door:?}"
        );
        for (options, code) in [
            (&[("sendInitialEvents", "true")][..], 422),
            (&[("resourceVersionMatch", "NotOlderThan")], 422),
            (
                &[
                    ("sendInitialEvents", "true"),
                    ("resourceVersionMatch", "Exact"),
                ],
                422,
            ),
            (&[("resourceVersion", "x")], 400),
            (&[("labelSelector", "!!")], 400),
            (&[("fieldSelector", "spec.colour=blue")], 400),
        ] {
            let refused = door.watch(options).await.err().expect("refused");
            assert_eq!(refused.code, code, "{door:?} {options:?} {refused:?}");
        }
        for made in [one, two, three] {
            door.remove(name_of(&made)).await;
        }
    })
    .await;
}

/// Whoever has slept too long is told so in every form.
#[tokio::test]
async fn a_moment_that_is_forgotten_is_gone() {
    let world = World::remembering(1).await;
    for plural in ["configmaps", "widgets"] {
        let row = world.row(plural);
        let ways = [Way::Registry, Way::Http].map(|way| Door {
            world: &world,
            way,
            row,
        });
        let before = ways[0].list(&[("limit", "1")]).await.object();
        let since = before["metadata"]["resourceVersion"].as_str().unwrap();
        for index in 0..300 {
            ways[0].made(index).await;
        }
        let start = format!(r#"{{"v":"meta.k8s.io/v1","rv":{since},"start":"default/a\u0000"}}"#);
        let token = URL_SAFE_NO_PAD.encode(start);
        for door in ways {
            let exact = [
                ("resourceVersion", since),
                ("resourceVersionMatch", "Exact"),
            ];
            let expired = door.list(&exact).await;
            assert_eq!(
                (expired.code, expired.reason()),
                (410, "Expired"),
                "{door:?}"
            );
            let expired = door.list(&[("continue", &token), ("limit", "1")]).await;
            assert_eq!(
                (expired.code, expired.reason()),
                (410, "Expired"),
                "{door:?}"
            );
            match door.watch(&[("resourceVersion", since)]).await {
                Ok(mut watch) => assert_eq!(watch.words().await, "ERROR 410", "{door:?}"),
                Err(answer) => assert_eq!(answer.code, 410, "{door:?}"),
            }
        }
    }
}

/// Whoever is ahead of time waits a little, and is told.
#[tokio::test]
async fn a_moment_to_come_is_waited_for() {
    let world = World::new().await;
    let ahead = (world.revision() + 1000).to_string();
    let rows = world.rows();
    let ways = [Way::Http, Way::Registry];
    let doors = rows.iter().flat_map(|row| ways.map(|way| (*row, way)));
    let world = &world;
    let tried = doors.map(async |(row, way)| {
        let door = Door { world, way, row };
        let early = door.list(&[("resourceVersion", &ahead)]).await;
        assert_eq!((early.code, early.reason()), (504, "Timeout"), "{door:?}");
    });
    join_all(tried).await;
}
