//! Programs that nobody here wrote, in pods: an interpreter with its standard library, a
//! JavaScript engine, a database, and a web language by its gateway interface.
//!
//! `WASMORCH_TEST_PROGRAMS` is the directory that `tests/programs/fetch` prints.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::wait::await_condition;

use crate::cluster::Cluster;

/// Compiling twenty megabytes takes a debug build a while.
const PATIENCE: Duration = Duration::from_mins(4);

fn programs() -> Option<PathBuf> {
    let found = std::env::var_os("WASMORCH_TEST_PROGRAMS").map(PathBuf::from);
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "run tests/programs/fetch and name its directory in WASMORCH_TEST_PROGRAMS"
    );
    found
}

/// A pod that runs `program` once; `more` is the rest of its container, `volumes` of its spec.
fn pod(name: &str, more: &str, volumes: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  restartPolicy: Never
  containers:
    - name: main
      image: {name}
{more}
  volumes:
{volumes}
    - {{ name: data, emptyDir: {{}} }}
"
    )
}

fn push(cluster: &Cluster, directory: &Path, name: &str) {
    let file = directory.join(format!("{name}.wasm"));
    cluster.wasmorch(&["push", file.to_str().unwrap(), "--name", name]);
}

/// Waits until the pod has ended, and well; gives what it said.
async fn output(cluster: &Cluster, name: &str) -> String {
    let api: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let phase = |pod: Option<&Pod>| {
        let status = pod.and_then(|pod| pod.status.as_ref());
        status.and_then(|status| status.phase.clone())
    };
    let ended = |pod: Option<&Pod>| matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"));
    let ended = Box::pin(await_condition(api, name, ended));
    let pod = cluster.wait_within(PATIENCE, name, ended).await.unwrap();
    let log = cluster.wasmorch(&["logs", name, "-c", "main"]);
    assert_eq!(
        phase(pod.as_ref()).as_deref(),
        Some("Succeeded"),
        "{name}: {log}\n{}",
        cluster.wasmorch(&["describe", "pod", name])
    );
    log
}

const SCRIPTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: scripts }
data:
  app.py: |
    import collections, decimal, hashlib, json, os, pathlib, random, re, sys, tempfile, time, zlib
    import csv, dataclasses, datetime, io, statistics, unittest
    print(sys.version.split()[0], sys.platform)
    @dataclasses.dataclass
    class Order:
        item: str
        price: decimal.Decimal
    orders = [Order("tea", decimal.Decimal("2.50")), Order("cake", decimal.Decimal("3.25"))]
    print(json.dumps({"total": str(sum(order.price for order in orders))}))
    print(hashlib.sha256(b"wasmorch").hexdigest()[:16], zlib.crc32(b"wasmorch"))
    folder = pathlib.Path("/data/notes")
    folder.mkdir()
    for index in range(100):
        (folder / f"{index:03}.txt").write_text("x" * index)
    print(sum(path.stat().st_size for path in folder.iterdir()), len(os.listdir(folder)))
    (folder / "000.txt").rename(folder / "moved.txt")
    print(sorted(os.listdir(folder))[-1], re.sub("m(.)ved", r"m\1re", "moved"))
    with tempfile.TemporaryFile() as file:
        file.write(b"spooled"); file.seek(0); print(file.read().decode())
    assert time.monotonic() > 0
    print(os.environ["GREETING"])
    print(statistics.median([3, 1, 2]), datetime.date(2026, 11, 24).isoformat())
  app.php: |
    <?php
    $rows = json_decode(file_get_contents("/scripts/rows.json"), true);
    header("Content-Type: text/plain");
    echo PHP_VERSION, " ", $_GET["name"], " ", array_sum(array_column($rows, "n")), "\n";
    file_put_contents("/data/php.txt", md5("wasmorch"));
    echo file_get_contents("/data/php.txt"), "\n";
  rows.json: '[{"n": 1}, {"n": 2}]'
  app.js: |
    import * as std from "qjs:std";
    import * as os from "qjs:os";
    import { square } from "./lib.js";
    const file = std.open("/data/js.txt", "w");
    file.puts(JSON.stringify([1, 2, 3].map(square)));
    file.close();
    console.log(std.loadFile("/data/js.txt"), 2n ** 64n, /w(.)s/.exec("wasmorch")[1]);
    console.log(os.readdir("/data")[0].sort().join(), std.getenv("GREETING"));
    await new Promise((resolve) => os.setTimeout(resolve, 10));
    console.log([..."wasm"].toReversed().join(""));
  lib.js: |
    export const square = (number) => number * number;
---
"#;

const VOLUMES: &str = "    - { name: scripts, configMap: { name: scripts } }";

fn container(args: &str) -> String {
    format!(
        "      args: {args}
      env: [{{ name: GREETING, value: hello }}]
      resources: {{ limits: {{ memory: 512Mi }} }}
      volumeMounts:
        - {{ name: scripts, mountPath: /scripts }}
        - {{ name: data, mountPath: /data }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn real_programs_run_in_pods() {
    let Some(directory) = programs() else {
        eprintln!("skipped: WASMORCH_TEST_PROGRAMS is not set");
        return;
    };
    let shared = directory.to_str().unwrap();
    let cluster = Cluster::start(&["--nodes", "1", "--allow-host-path", shared]).await;
    for name in ["qjs", "sqlite", "php-cgi", "python"] {
        push(&cluster, &directory, name);
    }
    let library = "        - { name: library, mountPath: /usr/local/lib, readOnly: true }";
    let python = format!("{}\n{library}", container(r#"["/scripts/app.py"]"#));
    let host = format!("{VOLUMES}\n    - {{ name: library, hostPath: {{ path: {shared} }} }}");
    let php = container(r"[]").replace(
        "env: [",
        r#"env: [{ name: REDIRECT_STATUS, value: "200" }, { name: REQUEST_METHOD, value: GET },
        { name: SCRIPT_FILENAME, value: /scripts/app.php }, { name: QUERY_STRING, value: "name=tea" }, "#,
    );
    let query =
        r#"["/data/shop.db", "select item, sum(price) from orders group by item order by 1;"]"#;
    let sqlite = pod("sqlite", &container(query), VOLUMES).replace(
        "  containers:",
        r"  initContainers:
    - name: fill
      image: sqlite
      args:
        - /data/shop.db
        - create table orders(item text, price real); begin;
          insert into orders values ('tea', 2.5), ('cake', 3.25), ('tea', 2.5); commit;
          create index by_item on orders(item);
      volumeMounts: [{ name: data, mountPath: /data }]
  containers:",
    );
    cluster.apply(
        &[
            SCRIPTS.to_owned(),
            pod(
                "qjs",
                &container(r#"["--module", "/scripts/app.js"]"#),
                VOLUMES,
            ),
            sqlite,
            pod("php-cgi", &php, VOLUMES),
            pod("python", &python, &host),
        ]
        .join("\n---\n"),
    );
    let expected = [
        (
            "qjs",
            "[1,4,9] 18446744073709551616 a\n.,..,js.txt hello\nmsaw\n",
        ),
        ("sqlite", "cake|3.25\ntea|5.0\n"),
        (
            "php-cgi",
            "X-Powered-By: PHP/8.2.0\r\nContent-type: text/plain;charset=UTF-8\r\n\r\n8.2.0 tea 3\n\
             6ba22da22937345a42e6d380205d1d6f\n",
        ),
        (
            "python",
            "3.11.3 wasi\n{\"total\": \"5.75\"}\ndb71a26f4b7f41ae 1005274695\n4950 100\nmoved.txt more\nspooled\nhello\n2 2026-11-24\n",
        ),
    ];
    for (name, words) in expected {
        assert_eq!(output(&cluster, name).await, words, "{name}");
    }
}
