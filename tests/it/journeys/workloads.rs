//! What a user of kubectl does with workloads of every kind, and with a node that must go.

use std::time::Duration;

use super::with_hello;
use crate::cluster::{Cluster, Load, until};

/// A debug build on a busy machine takes its time for a dozen pods.
const PATIENCE: Duration = Duration::from_mins(4);

const STATEFUL: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: db }
spec:
  clusterIP: None
  selector: { app: db }
  ports: [{ port: 80 }]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: db }
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: { matchLabels: { app: db } }
  template:
    metadata: { labels: { app: db } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: main
          image: toolbox
          command: [sh, -c, "echo started >> /data/log; sleep infinity"]
          volumeMounts: [{ name: data, mountPath: /data }]
  volumeClaimTemplates:
    - metadata: { name: data }
      spec:
        accessModes: [ReadWriteOnce]
        resources: { requests: { storage: 1Mi } }
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: agent }
spec:
  selector: { matchLabels: { app: agent } }
  template:
    metadata: { labels: { app: agent } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: main, image: toolbox, command: [sleep, infinity] }]
"#;

const INDEXED: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: { name: parts }
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: main, image: toolbox, command: [sh, -c, "echo part $JOB_COMPLETION_INDEX"] }]
"#;

impl Cluster {
    /// The command's output; it must succeed.
    fn told(&self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        self.kubectl(&words).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_with_workloads_of_every_kind() {
    let cluster = with_hello(3).await;
    if cluster.try_kubectl(&["version"]).is_none() {
        eprintln!("no kubectl here; its journey is not made");
        return;
    }
    jobs(&cluster);
    stateful(&cluster).await;
    drain(&cluster).await;
    autoscale(&cluster).await;
    let _ = cluster.stop();
}

fn jobs(cluster: &Cluster) {
    cluster.told("create job greet --image=toolbox -- echo hello");
    cluster.told("wait --for=condition=complete job/greet --timeout=120s");
    assert_eq!(cluster.told("logs job/greet"), "hello\n");
    let shown = cluster.told("get job greet");
    assert!(
        shown.contains("Complete") && shown.contains("1/1"),
        "{shown}"
    );
    let words = [
        "create",
        "cronjob",
        "tick",
        "--image=toolbox",
        "--schedule=0 0 1 1 *",
        "--",
        "echo",
        "tick",
    ];
    cluster.kubectl(&words).unwrap();
    cluster.told("create job by-hand --from=cronjob/tick");
    cluster.told("wait --for=condition=complete job/by-hand --timeout=120s");
    let shown = cluster.told("get cronjobs");
    assert!(
        shown.contains("0 0 1 1 *") && shown.contains("False"),
        "{shown}"
    );
    cluster.told("create job bad --image=toolbox -- sh -c false");
    cluster.told("patch job bad -p {\"spec\":{\"backoffLimit\":0}}");
    cluster.told("wait --for=condition=failed job/bad --timeout=120s");
    cluster.apply(INDEXED);
    cluster.told("wait --for=condition=complete job/parts --timeout=120s");
    let index = "batch.kubernetes.io/job-completion-index=2";
    assert_eq!(cluster.told(&format!("logs -l {index}")), "part 2\n");
    cluster.told("delete job greet by-hand bad parts --timeout=60s");
    cluster.told("delete cronjob tick");
}

async fn stateful(cluster: &Cluster) {
    cluster.apply(STATEFUL);
    cluster.told("rollout status sts/db --timeout=180s");
    cluster.told("rollout status ds/agent --timeout=180s");
    let nodes = cluster.told("get nodes -o name").lines().count();
    let pods = cluster
        .told("get pods -l app=agent -o name")
        .lines()
        .count();
    assert_eq!(pods, nodes);
    let claims = cluster.told("get pvc -o name");
    assert!(
        claims.contains("data-db-0") && claims.contains("data-db-1"),
        "{claims}"
    );
    let address = cluster.told("get pod db-0 -o jsonpath={.status.podIP}");
    until("the name of a replica", async || {
        let told = cluster.try_kubectl(&["exec", "db-1", "--", "nslookup", "db-0.db"])?;
        String::from_utf8_lossy(&told.stdout)
            .contains(&address)
            .then_some(())
    })
    .await;
    cluster.told("delete pod db-0");
    let log = cluster
        .wait_within(PATIENCE, "the pod with its storage", async {
            until("two starts in one file", async || {
                let told = cluster.try_kubectl(&["exec", "db-0", "--", "cat", "/data/log"])?;
                let log = String::from_utf8_lossy(&told.stdout).into_owned();
                (told.status.success() && log.lines().count() == 2).then_some(log)
            })
            .await
        })
        .await;
    assert_eq!(log, "started\nstarted\n");
    for kind in ["sts/db", "ds/agent"] {
        cluster.told(&format!("set env {kind} VERSION=2"));
        cluster.told(&format!("rollout status {kind} --timeout=180s"));
        let history = cluster.told(&format!("rollout history {kind}"));
        assert!(
            history.lines().any(|line| line.starts_with('2')),
            "{history}"
        );
        cluster.told(&format!("rollout undo {kind}"));
        cluster.told(&format!("rollout status {kind} --timeout=180s"));
        let env = cluster.told(&format!("set env {kind} --list"));
        assert!(!env.contains("VERSION"), "{env}");
    }
    cluster.told("delete sts db --timeout=60s");
}

async fn drain(cluster: &Cluster) {
    cluster.told("create pdb hello --selector=app=hello --min-available=2");
    until("the budget to be counted", async || {
        let allowed = cluster.told("get pdb hello -o jsonpath={.status.disruptionsAllowed}");
        (allowed == "1").then_some(())
    })
    .await;
    let node = cluster.told("get pods -l app=hello -o jsonpath={.items[0].spec.nodeName}");
    cluster.told(&format!("drain {node} --ignore-daemonsets --timeout=120s"));
    let shown = cluster.told(&format!("get node {node}"));
    assert!(shown.contains("SchedulingDisabled"), "{shown}");
    let there = cluster.told(&format!(
        "get pods -l app=hello --field-selector=spec.nodeName={node} -o name"
    ));
    assert_eq!(there, "", "pods are left on {node}");
    cluster.told(&format!("uncordon {node}"));
    cluster.told("rollout status deploy/hello --timeout=120s");
    // No pod may go any more; the eviction is refused in the words that drain waits on.
    cluster.told("delete pdb hello");
    cluster.told("create pdb hello --selector=app=hello --min-available=3");
    let refused = cluster.try_kubectl(&["drain", &node, "--ignore-daemonsets", "--timeout=3s"]);
    let refused = String::from_utf8_lossy(&refused.unwrap().stderr).into_owned();
    let node_pods = cluster.told(&format!(
        "get pods -l app=hello --field-selector=spec.nodeName={node} -o name"
    ));
    let expected = "Cannot evict pod as it would violate the pod's disruption budget";
    assert!(
        node_pods.is_empty() || refused.contains(expected),
        "{refused}"
    );
    cluster.told(&format!("uncordon {node}"));
}

async fn autoscale(cluster: &Cluster) {
    cluster.told("set resources deploy/hello --requests=cpu=1m");
    cluster.told("rollout status deploy/hello --timeout=120s");
    cluster.told("autoscale deploy hello --min=1 --max=4 --cpu-percent=50");
    let _load = Load::start(cluster.ingress(), "hello.default.localhost", 4);
    let usage = until("figures of the use", async || {
        let told = cluster.try_kubectl(&["top", "pods", "--containers", "-l", "app=hello"])?;
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        text.contains("hello ").then_some(text)
    })
    .await;
    assert!(usage.contains("Mi"), "{usage}");
    let nodes = cluster.told("top nodes");
    assert!(nodes.contains("dev-1"), "{nodes}");
    cluster
        .wait_within(PATIENCE, "more replicas", async {
            until("a fourth replica", async || {
                let replicas = cluster.told("get deploy hello -o jsonpath={.spec.replicas}");
                (replicas == "4").then_some(())
            })
            .await;
        })
        .await;
    let shown = cluster.told("get hpa hello");
    assert!(
        shown.contains("Deployment/hello") && shown.contains("/50%"),
        "{shown}"
    );
    let path = "-o jsonpath={.spec.targetCPUUtilizationPercentage}";
    let old = cluster.told(&format!(
        "get horizontalpodautoscalers.v1.autoscaling hello {path}"
    ));
    assert_eq!(old, "50");
}
