"""The official Python client against a cluster that runs the Deployment `hello`: one word per step.

    python.py <kubeconfig>
"""

import sys
import threading

import yaml
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

NS = "default"
config.load_kube_config(sys.argv[1])
core, apps, rbac = client.CoreV1Api(), client.AppsV1Api(), client.AuthorizationV1Api()


def refused(code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"{call} was not refused with {code}")


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"by": "python"}), data=data)


def crud():
    assert client.VersionApi().get_code().minor == "34"
    made = core.create_namespaced_config_map(NS, config_map("py", a="1"))
    refused(409, core.create_namespaced_config_map, NS, config_map("py"))
    made.data["b"] = "2"
    replaced = core.replace_namespaced_config_map("py", NS, made)
    refused(409, core.replace_namespaced_config_map, "py", NS, made)
    assert replaced.data == {"a": "1", "b": "2"}
    assert [it.metadata.name for it in core.list_namespaced_config_map(NS, label_selector="by=python").items] == ["py"]
    page = core.list_pod_for_all_namespaces(limit=1)
    assert len(page.items) == 1
    assert core.list_node().items[0].status.node_info.operating_system
    assert apps.read_namespaced_deployment_status("hello", NS).status.ready_replicas == 1
    assert apps.read_namespaced_deployment_scale("hello", NS).spec.replicas == 1


def patches():
    # A dict is a strategic merge patch, a list a JSON patch.
    patched = core.patch_namespaced_config_map("py", NS, {"data": {"a": None, "c": "3"}})
    assert patched.data == {"b": "2", "c": "3"}
    patched = core.patch_namespaced_config_map("py", NS, [{"op": "replace", "path": "/data/c", "value": "4"}])
    assert patched.data["c"] == "4"
    api = client.ApiClient()
    for media in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
        api.set_default_header("Content-Type", media)
        patched = client.CoreV1Api(api).patch_namespaced_config_map("py", NS, {"data": {"d": media}})
        assert patched.data["d"] == media


def apply():
    known = dynamic.DynamicClient(client.ApiClient())
    maps = known.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "py-applied"}, "data": {"k": "1"}}
    made = known.server_side_apply(maps, body=body, name="py-applied", namespace=NS, field_manager="one")
    assert made.metadata.managedFields[0].manager == "one"
    body["data"]["k"] = "2"
    refused(409, known.server_side_apply, maps, body=body, name="py-applied", namespace=NS, field_manager="two")
    forced = known.server_side_apply(
        maps, body=body, name="py-applied", namespace=NS, field_manager="two", force_conflicts=True
    )
    assert forced.data.k == "2"
    deployments = known.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.get(name="hello", namespace=NS).spec.replicas == 1
    assert maps.delete(name="py-applied", namespace=NS).status == "Success"


def watches():
    """List, watch, and again from where the watch was left, as informers do."""
    listed = core.list_namespaced_config_map(NS, label_selector="by=python")
    seen, since = [], listed.metadata.resource_version
    threading.Thread(target=core.patch_namespaced_config_map, args=("py", NS, {"data": {"w": "1"}})).start()
    watcher = watch.Watch()
    for event in watcher.stream(
        core.list_namespaced_config_map, NS, label_selector="by=python", resource_version=since, timeout_seconds=30
    ):
        seen.append((event["type"], event["object"].metadata.name))
        watcher.stop()
    core.create_namespaced_config_map(NS, config_map("py-late"))
    core.delete_namespaced_config_map("py-late", NS)
    for event in watcher.stream(
        core.list_namespaced_config_map,
        NS,
        label_selector="by=python",
        resource_version=watcher.resource_version,
        allow_watch_bookmarks=True,
        timeout_seconds=30,
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    assert seen == [("MODIFIED", "py"), ("ADDED", "py-late"), ("DELETED", "py-late")], seen


def commands(pod):
    said = stream(
        core.connect_get_namespaced_pod_exec, pod, NS, command=["echo", "hello", "python"],
        stdin=False, stdout=True, stderr=True, tty=False,
    )
    assert said.strip() == "hello python", said
    shell = stream(
        core.connect_get_namespaced_pod_exec, pod, NS, command=["sh"],
        stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False,
    )
    shell.write_stdin("echo from stdin\nexit 3\n")
    assert shell.readline_stdout(timeout=20) == "from stdin"
    shell.run_forever(timeout=20)
    assert shell.returncode == 3, shell.returncode


def forwards(pod):
    forward = portforward(core.connect_get_namespaced_pod_portforward, pod, NS, ports="8080")
    socket = forward.socket(8080)
    socket.settimeout(20)
    socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = b""
    while data := socket.recv(4096):
        answer += data
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert forward.error(8080) is None


def logs(pod):
    whole = core.read_namespaced_pod_log(pod, NS, tail_lines=10)
    assert isinstance(whole, str)
    follow = core.read_namespaced_pod_log("talker", NS, follow=True, _preload_content=False)
    line = next(iter(follow.stream(amt=None)))
    assert line, "a followed log says something"
    follow.close()
    for line in watch.Watch().stream(core.read_namespaced_pod_log, "talker", NS, tail_lines=1):
        assert isinstance(line, str)
        break


def rights():
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
    token = core.create_namespaced_service_account_token("default", NS, request).status.token
    mine = client.Configuration.get_default_copy()
    mine.api_key = {"authorization": f"Bearer {token}"}
    # The hook would put back the token of the kubeconfig.
    mine.cert_file = mine.key_file = mine.refresh_api_key_hook = None
    other = client.ApiClient(mine)
    who = client.AuthenticationV1Api(other).create_self_subject_review(client.V1SelfSubjectReview())
    assert who.status.user_info.username == "system:serviceaccount:default:default", who
    refused(403, client.CoreV1Api(other).list_secret_for_all_namespaces)
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(verb="list", resource="secrets", namespace=NS)
        )
    )
    assert rbac.create_self_subject_access_review(review).status.allowed


pod = core.list_namespaced_pod(NS, label_selector="app=hello").items[0].metadata.name
for step, arguments in [
    (crud, ()), (patches, ()), (apply, ()), (watches, ()), (commands, (pod,)), (forwards, (pod,)), (logs, (pod,)), (rights, ()),
]:
    step(*arguments)
    print(step.__name__, flush=True)
assert core.delete_collection_namespaced_config_map(NS, label_selector="by=python").status in (None, "Success")
print("done")
