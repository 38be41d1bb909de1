//! Custom resources on the built binary with the real kubectl: a definition, its objects, a restart.

use crate::cluster::{Cluster, Kubectl, until};

const DEFINITION: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: crontabs.stable.example.com }
spec:
  group: stable.example.com
  scope: Namespaced
  names: { plural: crontabs, kind: CronTab, shortNames: [ct] }
  versions:
    - name: v1
      served: true
      storage: true
      subresources: { status: {}, scale: { specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas } }
      additionalPrinterColumns:
        - { name: Spec, type: string, jsonPath: .spec.cronSpec }
        - { name: Replicas, type: integer, jsonPath: .spec.replicas }
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              description: What shall run, and when.
              required: [cronSpec]
              properties:
                cronSpec: { type: string, description: In five fields. }
                image: { type: string }
                replicas: { type: integer, maximum: 10, default: 1 }
            status: { type: object, properties: { replicas: { type: integer } } }
";

fn tab(rest: &str) -> String {
    format!(
        "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {{ name: nightly }}\nspec: {{ cronSpec: '0 3 * * *'{rest} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_defines_a_kind_and_lives_with_it() {
    let cluster = Cluster::start(&[]).await;
    let path = |name: &str| cluster.root().join(name).to_str().unwrap().to_owned();
    let (definition, object) = (path("crd.yaml"), path("tab.yaml"));
    std::fs::write(&definition, DEFINITION).unwrap();
    let write = |text: &str| std::fs::write(&object, text).unwrap();
    if cluster.kubectl(&["apply", "-f", &definition]).is_none() {
        eprintln!("no kubectl here; its journey is not made");
        return;
    }
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    let refused = |arguments: &[&str]| {
        let output = cluster.try_kubectl(arguments).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/crontabs.stable.example.com",
    ]);
    let explained = kubectl(&["explain", "crontab.spec"]);
    assert!(
        explained.contains("What shall run, and when."),
        "{explained}"
    );
    assert!(
        explained.contains("cronSpec\t<string> -required-"),
        "{explained}"
    );
    let explained = kubectl(&["explain", "pod.spec.containers", "--recursive"]);
    assert!(
        explained.contains("valueFrom\t<EnvVarSource>"),
        "{explained}"
    );

    write(&tab(", imagge: x"));
    assert!(refused(&["apply", "-f", &object]).contains("unknown field \"spec.imagge\""));
    write(&tab(", replicas: 11"));
    let told = refused(&["apply", "-f", &object]);
    assert!(
        told.contains("spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10"),
        "{told}"
    );
    write(&tab(""));
    kubectl(&["apply", "-f", &object]);
    let shown = kubectl(&["get", "ct"]);
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[..3], ["NAME", "SPEC", "REPLICAS"], "{shown}");
    assert_eq!(words.last(), Some(&"1"), "{shown}");
    write(&tab(", image: x"));
    kubectl(&["apply", "-f", &object]);
    kubectl(&["apply", "--server-side", "-f", &object]);
    kubectl(&["scale", "ct/nightly", "--replicas=3"]);
    kubectl(&[
        "patch",
        "ct",
        "nightly",
        "--type=merge",
        "-p",
        r#"{"spec":{"image":"y"}}"#,
    ]);
    let described = kubectl(&["describe", "ct", "nightly"]);
    assert!(described.contains("Replicas:   3"), "{described}");
    let told = refused(&["apply", "--server-side", "-f", &object]);
    assert!(told.contains("conflict with \"kubectl-patch\""), "{told}");

    // Everything is there after a restart, the kind included.
    let (_, _, directory) = cluster.stop();
    let cluster = Cluster::start_in(directory, &[]).await;
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    let image = ["get", "ct", "nightly", "-o", "jsonpath={.spec.image}"];
    assert_eq!(kubectl(&image), "y");
    kubectl(&["delete", "ct", "nightly"]);
    kubectl(&["delete", "crd", "crontabs.stable.example.com"]);
    let told = cluster
        .try_kubectl(&["get", "crontabs.stable.example.com"])
        .unwrap();
    assert!(!told.status.success());
    let _ = cluster.stop();
}

/// The kubectl that knows no OpenAPI but version 2 in protobuf; `None` where it is not named.
fn old_kubectl(cluster: &Cluster, arguments: &[&str]) -> Option<(bool, String)> {
    let mut command = cluster.kubectl_of(Kubectl::Old)?;
    let output = command.args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_kubectl_validates_explains_and_patches() {
    let cluster = Cluster::start(&[]).await;
    if old_kubectl(&cluster, &["version"]).is_none() {
        eprintln!("no old kubectl here; its journey is not made");
        return;
    }
    let kubectl = |arguments: &[&str]| old_kubectl(&cluster, arguments).unwrap();
    let path = cluster.root().join("map.yaml");
    let file = path.to_str().unwrap();
    let map = |field: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: m }}\n{field}: {{ a: b }}\n")
    };
    let good = |arguments: &[&str]| {
        let (is_good, text) = kubectl(arguments);
        assert!(is_good, "{arguments:?} {text}");
        text
    };
    std::fs::write(&path, map("dada")).unwrap();
    let (is_good, told) = kubectl(&["apply", "-f", file]);
    assert!(
        !is_good && told.contains("unknown field \"dada\" in io.k8s.api.core.v1.ConfigMap"),
        "{told}"
    );
    std::fs::write(&path, map("data")).unwrap();
    good(&["create", "--save-config", "-f", file]);
    std::fs::write(&path, map("data").replace("a: b", "a: c")).unwrap();
    good(&["apply", "-f", file]);
    assert_eq!(good(&["get", "cm", "m", "-o", "jsonpath={.data.a}"]), "c");
    assert!(good(&["explain", "pod.spec.containers"]).contains("imagePullPolicy\t<string>"));
    std::fs::write(cluster.root().join("crd.yaml"), DEFINITION).unwrap();
    good(&[
        "apply",
        "-f",
        cluster.root().join("crd.yaml").to_str().unwrap(),
    ]);
    until("the kind to be explained", async || {
        kubectl(&["explain", "crontab.spec"]).0.then_some(())
    })
    .await;
    let _ = cluster.stop();
}
