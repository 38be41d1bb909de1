//! Server-side apply on the built binary, with the real kubectl and with the own command line.

use crate::cluster::Cluster;

fn manifest(replicas: &str, image: &str) -> String {
    format!(
        r"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, labels: {{ app: web }} }}
spec:
  {replicas}
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      containers:
        - name: main
          image: {image}
          ports: [{{ containerPort: 8080 }}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_on_the_server() {
    let cluster = Cluster::start(&[]).await;
    let file = cluster.root().join("web.yaml");
    let path = file.to_str().unwrap();
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write(&manifest("replicas: 0", "hello:v1"));
    // From the client's side to the server's: kubectl moves its old entry by itself.
    if cluster.kubectl(&["apply", "-f", path]).is_none() {
        eprintln!("no kubectl here; its journey is not made");
        return;
    }
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments).unwrap();
    let refused = |arguments: &[&str]| {
        let output = cluster.try_kubectl(arguments).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    write(&manifest("replicas: 0", "hello:v2"));
    let applied = "deployment.apps/web serverside-applied\n";
    assert_eq!(kubectl(&["apply", "--server-side", "-f", path]), applied);
    let shown = kubectl(&[
        "get",
        "deploy",
        "web",
        "-o",
        "yaml",
        "--show-managed-fields",
    ]);
    assert!(shown.contains("manager: kubectl\n"), "{shown}");
    assert!(shown.contains("operation: Apply"), "{shown}");
    assert!(!shown.contains("kubectl-client-side-apply"), "{shown}");
    let hidden = kubectl(&["get", "deploy", "web", "-o", "yaml"]);
    assert!(!hidden.contains("managedFields"), "{hidden}");
    // Again, and nothing is written.
    let version = [
        "get",
        "deploy",
        "web",
        "-o",
        "jsonpath={.metadata.generation}",
    ];
    let before = kubectl(&version);
    assert_eq!(kubectl(&["apply", "--server-side", "-f", path]), applied);
    assert_eq!(kubectl(&version), before);

    write(&manifest("replicas: 1", "hello:v2"));
    let as_other = [
        "apply",
        "--server-side",
        "--field-manager=other",
        "-f",
        path,
    ];
    let told = refused(&as_other);
    assert!(
        told.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .spec.replicas"),
        "{told}"
    );
    let difference = cluster
        .try_kubectl(&["diff", "--server-side", "-f", path])
        .unwrap();
    let difference = String::from_utf8_lossy(&difference.stdout).into_owned();
    assert!(difference.contains("+  replicas: 1"), "{difference}");
    let forced = [&as_other[..], &["--force-conflicts"]].concat();
    assert_eq!(kubectl(&forced), applied);
    assert!(kubectl(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]).ends_with('1'));
    // What kubectl no longer applies stays where somebody else owns it.
    write(&manifest("", "hello:v2"));
    kubectl(&["apply", "--server-side", "-f", path]);
    assert!(kubectl(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]).ends_with('1'));

    // The own command line meets the same owners.
    write(&manifest("replicas: 3", "hello:v2"));
    let told = cluster.try_wasmorch(&["apply", "--server-side", "-f", path]);
    assert!(
        told.contains("conflict with \"other\": .spec.replicas"),
        "{told}"
    );
    let told = cluster.wasmorch(&["apply", "--server-side", "--force-conflicts", "-f", path]);
    assert_eq!(told, "deployment/web serverside-applied\n");
    let shown = cluster.wasmorch(&["get", "deploy/web", "-o", "yaml", "--show-managed-fields"]);
    assert!(shown.contains("managedFields"), "{shown}");
    let hidden = cluster.wasmorch(&["get", "deploy/web", "-o", "yaml"]);
    assert!(!hidden.contains("managedFields"), "{hidden}");
    let _ = cluster.stop();
}

/// A command line with some arguments; what it said.
type Run<'a> = &'a dyn Fn(&[&str]) -> Option<String>;

/// What was applied on the client's side and is no longer in the file goes with the first apply on
/// the server's, and the way back works, too.
#[tokio::test(flavor = "multi_thread")]
async fn fields_of_applies_on_the_clients_side_are_taken_over() {
    let cluster = Cluster::start(&["--nodes", "1"]).await;
    let file = cluster.root().join("map.yaml");
    let path = file.to_str().unwrap();
    let map = |name: &str, data: &str| {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name} }}\ndata: {{ {data} }}\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    let kubectl = |arguments: &[&str]| cluster.kubectl(arguments);
    let own = |arguments: &[&str]| Some(cluster.wasmorch(arguments));
    let both: [(&str, Run<'_>); 2] = [("kubectl", &kubectl), ("wasmorch", &own)];
    for (before, client) in both {
        for (after, server) in both {
            let name = format!("{before}-{after}");
            let data = || {
                let arguments = ["get", "configmap", &name, "-o", "jsonpath={.data}"];
                cluster.wasmorch(&arguments)
            };
            map(&name, "a: one, b: one");
            if client(&["apply", "-f", path]).is_none() {
                eprintln!("no kubectl here; its journey is not made");
                continue;
            }
            map(&name, "a: two");
            let on_server = ["apply", "--server-side", "-f", path];
            if server(&on_server).is_none() {
                continue;
            }
            assert_eq!(data(), r#"{"a":"two"}"#, "{name}");
            let shown = ["get", "configmap", &name, "-o", "yaml"];
            let shown = cluster.wasmorch(&[&shown[..], &["--show-managed-fields"]].concat());
            assert!(!shown.contains("client-side-apply"), "{shown}");
            // Again with another field, then without: only the server's side is at work.
            map(&name, "a: two, c: one");
            server(&on_server);
            map(&name, "c: one");
            server(&on_server);
            assert_eq!(data(), r#"{"c":"one"}"#, "{name}");
            map(&name, "d: one");
            client(&["apply", "-f", path]);
            assert_eq!(data(), r#"{"d":"one"}"#, "{name}");
        }
    }
    let _ = cluster.stop();
}
