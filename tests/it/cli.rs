//! The command line as a process: what it prints where, and how it ends.
//!
//! Everything here runs without a cluster; what needs one is in the journeys.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A user with an empty home, in an empty folder.
struct User {
    home: TempDir,
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl User {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    /// Writes a config file that points at a server.
    fn config(&self, file: &str, context: &str, server: &str) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": context,
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": context, "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(path, config.to_string()).unwrap();
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasmorch"));
        command
            .args(line)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path());
        command
    }

    fn run(&self, line: &[&str]) -> Ended {
        ended(&self.command(line).output().unwrap())
    }
}

fn ended(output: &Output) -> Ended {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

impl Ended {
    /// A failure writes no data, and says these things.
    #[track_caller]
    fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert_eq!(self.stdout, "");
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "{part:?} is not in\n{}",
                self.stderr
            );
        }
    }
}

/// A port where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn help_begins_with_examples_and_is_data() {
    let user = User::new();
    for line in [&["--help"][..], &["get", "--help"], &["help", "rollout"]] {
        let help = user.run(line);
        assert_eq!(help.code, 0);
        assert!(help.stdout.starts_with("Examples:\n"), "{}", help.stdout);
        assert_eq!(help.stderr, "");
    }
    assert!(user.run(&["--version"]).stdout.starts_with("wasmorch "));
}

#[test]
fn nonsense_is_a_usage_error_with_a_hint() {
    let user = User::new();
    user.run(&["rolout", "status"]).failed(2, &["'rollout'"]);
    user.run(&["get", "pods", "-o", "xml"])
        .failed(2, &["jsonpath=TEMPLATE"]);
    user.config(".wasmorch/kubeconfig", "dev", &nobody());
    user.run(&["apply"]).failed(2, &["-f FILE"]);
    user.run(&["apply", "-f", "nowhere.yaml"])
        .failed(2, &["cannot read nowhere.yaml"]);
    std::fs::write(user.path().join("bad.yaml"), "a: [").unwrap();
    user.run(&["apply", "-f", "bad.yaml"])
        .failed(1, &["error[W0401]: bad.yaml"]);
}

#[test]
fn without_a_cluster_it_says_how_to_get_one() {
    let user = User::new();
    let error = ["no cluster is known", "help: start one here: wasmorch dev"];
    user.run(&["get", "pods"]).failed(2, &error);
    // Another tool's file is nobody's business here.
    user.config("elsewhere", "production", &nobody());
    user.config(".kube/config", "production", &nobody());
    let mut command = user.command(&["get", "pods"]);
    let output = command
        .env("KUBECONFIG", user.path().join("elsewhere"))
        .output();
    ended(&output.unwrap()).failed(2, &error);
}

#[test]
fn a_server_that_does_not_answer_has_its_exit_code() {
    let user = User::new();
    let server = nobody();
    user.config(".wasmorch/kubeconfig", "dev", &server);
    let parts = [
        &*format!("error[W0202]: cannot reach {server} (connection refused)"),
        "context \"dev\" from .wasmorch/kubeconfig",
        "help: start one here: wasmorch dev",
    ];
    user.run(&["get", "pods"]).failed(5, &parts);
    user.run(&["rollout", "status", "deploy/a"])
        .failed(5, &parts[..1]);
    // What has no need of the server does not ask it.
    assert_eq!(user.run(&["version", "--client"]).code, 0);
}

#[test]
fn the_nearest_config_wins_and_a_named_context_is_found() {
    let user = User::new();
    let path = |file: &str| {
        format!(
            "{}\n",
            user.path().canonicalize().unwrap().join(file).display()
        )
    };
    let config_path = |line: &[&str]| user.run(line).stdout;
    user.config(".config/wasmorch/config.yaml", "staging", &nobody());
    assert_eq!(
        config_path(&["config", "path"]),
        path(".config/wasmorch/config.yaml")
    );
    user.config(".wasmorch/kubeconfig", "dev", &nobody());
    assert_eq!(
        config_path(&["config", "path"]),
        path(".wasmorch/kubeconfig")
    );
    assert_eq!(
        config_path(&["config", "path", "--context", "staging"]),
        path(".config/wasmorch/config.yaml")
    );
    user.config("mine", "mine", &nobody());
    assert_eq!(
        config_path(&["config", "path", "--kubeconfig", "mine"]),
        path("mine")
    );
    let mut command = user.command(&["config", "path"]);
    let output = command.env("WASMORCH_CONFIG", "mine").output().unwrap();
    assert_eq!(ended(&output).stdout, path("mine"));
    user.run(&["get", "po", "--context", "prod"])
        .failed(2, &["contexts: dev, staging"]);
}

#[test]
fn what_is_no_wasm_is_told_before_anything_is_sent() {
    let user = User::new();
    user.config(".wasmorch/kubeconfig", "dev", &nobody());
    std::fs::write(user.path().join("page.wasm"), "<!DOCTYPE html>").unwrap();
    user.run(&["push", "page.wasm"])
        .failed(1, &["error[W0104]", "a web page"]);
    user.run(&["push", "gone.wasm"]).failed(
        1,
        &[
            "error[W0105]",
            "gone.wasm does not exist",
            "rustup target add",
        ],
    );
    user.run(&["push", "page.wasm", "--name", "No_Name"])
        .failed(2, &["no name for a module"]);
}

#[test]
fn completion_is_a_script() {
    let user = User::new();
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef wasmorch"),
        ("fish", "complete -c wasmorch"),
    ] {
        let script = user.run(&["completion", shell]);
        assert_eq!(script.code, 0);
        assert!(script.stdout.contains(mark), "{shell}");
    }
}

/// A cluster that is not ours: enough of one to be mistaken for it.
async fn foreign_cluster() -> String {
    let answer = |value: Value| get(move || std::future::ready(axum::Json(value.clone())));
    let pods = json!({"name": "pods", "singularName": "pod", "kind": "Pod", "shortNames": ["po"], "namespaced": true, "verbs": ["get"]});
    let router = Router::new()
        .route("/version", answer(json!({"gitVersion": "v1.36.1"})))
        .route(
            "/apis",
            answer(json!({"kind": "APIGroupList", "groups": []})),
        )
        .route(
            "/api/v1",
            answer(json!({"kind": "APIResourceList", "resources": [pods]})),
        )
        .route(
            "/api/v1/namespaces/default/pods",
            answer(json!({"kind": "PodList", "items": [{"metadata": {"name": "a", "uid": "u"}}]})),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    wasmorch::tasks::TaskGroup::new().spawn_contained("foreign cluster", async move {
        axum::serve(listener, router).await.unwrap();
    });
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_cluster_can_be_read_and_not_changed() {
    let server = foreign_cluster().await;
    let ended = tokio::task::spawn_blocking(move || {
        let user = User::new();
        user.config("config", "prod", &server);
        let listed = user.run(&["get", "po", "-o", "name", "--kubeconfig", "config"]);
        assert_eq!(
            (listed.code, &*listed.stdout),
            (0, "pod/a\n"),
            "{}",
            listed.stderr
        );
        user.run(&["get", "nodes", "--kubeconfig", "config"])
            .failed(1, &["error[NotFound]", "nodes"]);
        let deleted = user.run(&["delete", "pod", "a", "--kubeconfig", "config"]);
        deleted.failed(
            2,
            &[
                "is Kubernetes v1.36.1, not wasmorch",
                "context \"prod\" from config",
            ],
        );
        // Everything at once is asked about, and here is nobody to ask.
        let all = user.run(&[
            "delete",
            "pods",
            "--all",
            "--any-server",
            "--kubeconfig",
            "config",
        ]);
        all.failed(2, &["Delete all 1 objects, in context \"prod\"?", "--yes"]);
        assert!(
            user.run(&["delete", "pods", "--kubeconfig", "config"])
                .stderr
                .contains("which pods?")
        );
    });
    ended.await.unwrap();
}

#[test]
fn the_sandbox_is_measured_without_a_cluster_and_every_figure_has_a_value() {
    let line = "bench sandbox --pairs 1 --size 1 --idle-handlers 10 --idle-commands 10 --idle-seconds 1 -o json";
    let words: Vec<&str> = line.split(' ').collect();
    let ended = User::new().run(&words);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(told["machine"]["wasmtime"].is_string());
    let sections = told["sections"].as_array().unwrap();
    assert_eq!(sections.len(), 5);
    for section in sections {
        for figure in section["figures"].as_array().unwrap() {
            let sides = figure["sides"].as_array().unwrap();
            // A handler's pod has no instance while it is idle, so there is nothing bare beside it.
            let is_alone = figure["name"].as_str().unwrap().contains("handler pods");
            assert_eq!(sides.len() > 1, !is_alone, "{figure}");
            for side in sides {
                assert!(side["median"].as_f64().unwrap() >= 0.0, "{figure}");
            }
        }
    }
}
