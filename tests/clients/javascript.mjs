// The official JavaScript client against a cluster that runs the Deployment `hello`: one word per step.
//
//   node javascript.mjs <kubeconfig>, with node_modules beside it
import assert from "node:assert/strict";
import { createServer, connect } from "node:net";
import { PassThrough } from "node:stream";
import * as k8s from "@kubernetes/client-node";

const namespace = "default";
const config = new k8s.KubeConfig();
config.loadFromFile(process.argv[2]);
const core = config.makeApiClient(k8s.CoreV1Api);
const until = (what, emitter) =>
  new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`no ${what}`)), 30_000);
    emitter((value) => (clearTimeout(timer), done(value)));
  });
const map = (name, data = {}) => ({ metadata: { name, labels: { by: "javascript" } }, data });

async function crud() {
  await core.createNamespacedConfigMap({ namespace, body: map("js", { a: "1" }) });
  await assert.rejects(core.createNamespacedConfigMap({ namespace, body: map("js") }), (error) => error.code === 409);
  const found = await core.readNamespacedConfigMap({ namespace, name: "js" });
  found.data.b = "2";
  const replaced = await core.replaceNamespacedConfigMap({ namespace, name: "js", body: found });
  assert.deepEqual(replaced.data, { a: "1", b: "2" });
  const listed = await core.listNamespacedConfigMap({ namespace, labelSelector: "by=javascript" });
  assert.equal(listed.items.length, 1);
  const patched = await core.patchNamespacedConfigMap(
    { namespace, name: "js", body: [{ op: "replace", path: "/data/a", value: "3" }] },
    k8s.setHeaderOptions("Content-Type", k8s.PatchStrategy.JsonPatch),
  );
  assert.equal(patched.data.a, "3");
}

async function apply() {
  const objects = k8s.KubernetesObjectApi.makeApiClient(config);
  const manifest = { apiVersion: "v1", kind: "ConfigMap", ...map("js-applied", { k: "1" }) };
  manifest.metadata.namespace = namespace;
  const with_manager = (manager, force) =>
    objects.patch(manifest, undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
  const made = await with_manager("one");
  assert.equal(made.metadata.managedFields[0].manager, "one");
  manifest.data.k = "2";
  await assert.rejects(with_manager("two"), (error) => error.code === 409);
  assert.equal((await with_manager("two", true)).data.k, "2");
}

async function informs() {
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: "by=javascript" });
  const informer = k8s.makeInformer(config, path, list, "by=javascript");
  const added = until("add", (done) => informer.on("add", (it) => it.metadata.name === "js-late" && done(it)));
  const deleted = until("delete", (done) => informer.on("delete", (it) => it.metadata.name === "js-late" && done(it)));
  await informer.start();
  await core.createNamespacedConfigMap({ namespace, body: map("js-late") });
  await added;
  assert.ok(informer.get("js-late", namespace));
  // Stopped and started again it lists anew and goes on.
  await informer.stop();
  await informer.start();
  await core.deleteNamespacedConfigMap({ namespace, name: "js-late" });
  await deleted;
  assert.equal(informer.get("js-late", namespace), undefined);
  await informer.stop();
}

async function watches() {
  const watch = new k8s.Watch(config);
  let request;
  const seen = until("event", async (done) => {
    request = await watch.watch(`/api/v1/namespaces/${namespace}/pods`, {}, (type, object) => done([type, object]), () => {});
  });
  const [type, object] = await seen;
  request.abort();
  assert.equal(type, "ADDED");
  assert.equal(object.kind, "Pod");
}

async function commands(pod) {
  const exec = new k8s.Exec(config);
  const [out, errors] = [new PassThrough(), new PassThrough()];
  let said = "";
  out.on("data", (data) => (said += data));
  const status = await until("status", (done) => {
    exec.exec(namespace, pod, "", ["sh", "-c", "echo javascript; exit 3"], out, errors, null, false, done);
  });
  assert.equal(said, "javascript\n");
  assert.equal(status.reason, "NonZeroExitCode");
  assert.equal(status.details.causes[0].message, "3");
  const input = new PassThrough();
  const echoed = new PassThrough();
  const read = until("echo", (done) => echoed.once("data", (data) => done(String(data))));
  await exec.exec(namespace, pod, "", ["cat"], echoed, errors, input, false);
  input.end("through cat\n");
  assert.equal(await read, "through cat\n");
}

async function forwards(pod) {
  const forward = new k8s.PortForward(config);
  const server = createServer((socket) => forward.portForward(namespace, pod, [8080], socket, null, socket));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const answer = await until("answer", (done) => {
    const socket = connect(server.address().port, "127.0.0.1");
    socket.once("data", (data) => (socket.destroy(), done(String(data))));
    socket.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  });
  server.close();
  assert.match(answer, /^HTTP\/1.1 200/);
}

async function logs() {
  const log = new k8s.Log(config);
  const stream = new PassThrough();
  const line = until("line", (done) => stream.once("data", (data) => done(String(data))));
  const request = await log.log(namespace, "talker", "", stream, { follow: true, tailLines: 1 });
  assert.ok(await line);
  request.abort();
}

const pods = await core.listNamespacedPod({ namespace, labelSelector: "app=hello" });
const pod = pods.items[0].metadata.name;
for (const step of [crud, apply, informs, watches, commands, forwards, logs]) {
  await step(pod);
  console.log(step.name);
}
await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: "by=javascript" });
console.log("done");
process.exit(0);
