//! A chart's life with Helm 3 and 4: installed, upgraded, rolled back, rolled back by itself, removed.

use std::process::{Command, Output};

use super::clients::{clients, script};
use crate::cluster::{Cluster, until};

#[tokio::test(flavor = "multi_thread")]
async fn charts_are_installed_upgraded_rolled_back_and_removed() {
    let Some(clients) = clients() else { return };
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    cluster.push("hello-http", "hello");
    let chart = script("chart");
    let chart = chart.to_str().unwrap();
    for (version, atomic) in [("helm3", "--atomic"), ("helm4", "--rollback-on-failure")] {
        let try_helm = |arguments: &[&str]| -> Output {
            Command::new(clients.join(version))
                .args([
                    "--kubeconfig",
                    cluster.root().join("kubeconfig").to_str().unwrap(),
                ])
                .args(arguments)
                .env("HELM_CACHE_HOME", cluster.root().join("helm/cache"))
                .env("HELM_CONFIG_HOME", cluster.root().join("helm/config"))
                .env("HELM_DATA_HOME", cluster.root().join("helm/data"))
                .output()
                .unwrap()
        };
        let helm = |arguments: &[&str]| {
            let output = try_helm(arguments);
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{version} {arguments:?}: {errors}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let says = async |text: &str| {
            until(text, async || {
                let (code, said) = cluster.get("127.0.0.1", &format!("/{version}")).await;
                (code == 200 && said.starts_with(text)).then_some(())
            })
            .await;
        };
        let waiting = ["--wait", "--timeout", "60s"];
        helm(&[&["install", version, chart], &waiting[..]].concat());
        says("one from").await;
        let size = [
            "get",
            "widgets.example.com",
            version,
            "-o",
            "jsonpath={.spec.size}",
        ];
        assert_eq!(
            cluster.wasmorch(&size),
            "1",
            "{version}: a kind of the chart's own"
        );
        let set = ["--set", "message=two,replicas=2"];
        helm(&[&["upgrade", version, chart], &set[..], &waiting].concat());
        says("two from").await;
        assert_eq!(cluster.wasmorch(&size), "2");
        helm(&[&["rollback", version, "1"], &waiting[..]].concat());
        says("one from").await;
        // An upgrade whose hook fails is undone.
        let failing = ["--set", "message=three,hook=exit 1", atomic];
        let failed = try_helm(&[&["upgrade", version, chart], &failing[..], &waiting].concat());
        let errors = String::from_utf8_lossy(&failed.stderr);
        let is_undone = !failed.status.success() && errors.contains("has been rolled back");
        assert!(is_undone, "{version}: {errors}");
        says("one from").await;
        let history = helm(&["history", version, "-o", "json"]);
        let history: serde_json::Value = serde_json::from_str(&history).unwrap();
        let states = history.as_array().unwrap().iter();
        let states: Vec<_> = states.map(|it| it["status"].as_str().unwrap()).collect();
        let expected = [
            "superseded",
            "superseded",
            "superseded",
            "failed",
            "deployed",
        ];
        assert_eq!(states, expected, "{version}");
        let status = helm(&["status", version]);
        assert!(status.contains("STATUS: deployed"), "{version}: {status}");
        helm(&["uninstall", version, "--wait"]);
        for kind in ["deployments", "ingresses", "jobs", "secrets"] {
            let left = cluster.wasmorch(&["get", kind, "-o", "name"]);
            assert!(!left.contains(version), "{version}: {left}");
        }
    }
    let _ = cluster.stop();
}
