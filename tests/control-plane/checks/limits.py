"""Quotas and limit ranges: what they refuse, what they add, and that there is room for all that may be started."""

from .overlays import items, missing_pods, refused_pods
from .plane import check, found, kubectl, read, try_to_create, until
from .refusals import changed, pod_of

RESOURCES = "spec/containers/0/resources"


def amounts(cpu, memory):
    return {kind: {"cpu": cpu, "memory": memory, "ephemeral-storage": "16Mi"} for kind in ("requests", "limits")}


def service(namespace, kind):
    spec = {"type": kind, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "changed", "namespace": namespace}, "spec": spec}


def volume(namespace, size):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    metadata = {"name": "changed", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def refused(applied):
    namespace, environment = applied.namespace, applied.overlay
    pod = pod_of(read("deployment", "orders", "--namespace", namespace))
    three = changed(pod, "spec/containers", [pod["spec"]["containers"][0] | {"name": f"c{n}"} for n in range(3)])
    for number in range(3):
        three = changed(three, f"spec/containers/{number}/resources", amounts("2", "64Mi"))
    for name, item, words in [
        ("a container of more memory than a node has to spare", changed(pod, RESOURCES, amounts("1", "64Gi")), "maximum memory usage per Container"),
        ("a container of more CPUs than a node has to spare", changed(pod, RESOURCES, amounts("3", "64Mi")), "maximum cpu usage per Container is 2"),
        ("a pod of more CPUs than the namespace has", three, "exceeded quota: stockyard, requested: requests.cpu=6"),
        ("a Service that opens a load balancer", service(namespace, "LoadBalancer"), "exceeded quota: stockyard"),
        ("a Service that opens a port of the nodes", service(namespace, "NodePort"), "exceeded quota: stockyard"),
        ("a volume larger than the namespace has", volume(namespace, "1Ti"), "exceeded quota: stockyard, requested: requests.storage=1Ti"),
    ]:
        check(f"{environment}: {name} is refused", try_to_create(item).refusal(words))


def defaults(applied):
    """A container that asks for nothing gets the limit range's amounts, so the quota can count it."""
    pod = pod_of(read("deployment", "orders", "--namespace", applied.namespace))
    answer = kubectl(
        *["create", "--dry-run=server", "-f", "-", "-o", "jsonpath={.spec.containers[0].resources.limits.memory}"],
        given=changed(pod, RESOURCES, {}),
    )
    faults = answer.faults() or ([] if answer.out == "128Mi" else [f"its limit of memory is {answer.out}"])
    check(f"{applied.overlay}: a container that says nothing of resources gets those of the limit range", faults)


def room(applied):
    """Every autoscaler at its most, a rollout of all at the same time, the jobs: the quota has room, and not for ever."""
    where = ["--namespace", applied.namespace]
    for scaler in items(applied.namespace, "horizontalpodautoscalers"):
        most = f'{{"spec": {{"minReplicas": {scaler["spec"]["maxReplicas"]}}}}}'
        kubectl("patch", "hpa", scaler["metadata"]["name"], *where, "--patch", most)
    faults = until(lambda: missing_pods(applied.namespace))
    kubectl("rollout", "restart", "deployment", *where)
    # No pod gets ready here, so the new one of each stands beside all of the old ones.
    faults += until(lambda: not_rolling(applied.namespace)) + refused_pods(applied.namespace)
    check(f"{applied.name}: the quota has room for all replicas, a rollout and the jobs", faults)


def not_rolling(namespace):
    """The scaled Deployments that have not one pod more than their replicas."""
    scaled = {item["spec"]["scaleTargetRef"]["name"] for item in items(namespace, "horizontalpodautoscalers")}
    deployments = [item for item in items(namespace, "deployments") if item["metadata"]["name"] in scaled]
    short = [item for item in deployments if item["status"]["replicas"] != item["spec"]["replicas"] + 1]
    return [f"{item['metadata']['name']} has {item['status']['replicas']} pods" for item in short]


def too_many(applied):
    kubectl("patch", "hpa", "orders", "--namespace", applied.namespace, "--patch", '{"spec": {"minReplicas": 40, "maxReplicas": 40}}')
    until(lambda: [] if refused_pods(applied.namespace) else ["nothing yet"])
    check("the check finds an autoscaler that the quota has no room for", found(refused_pods(applied.namespace), "exceeded quota"))


def run(combinations):
    for applied in combinations[:2]:
        refused(applied)
        defaults(applied)
    for environment in ("staging", "production"):
        most = max((each for each in combinations[2:] if each.overlay == environment), key=lambda each: len(each.components))
        room(most)
    too_many(most)
