"""Quotas and limit ranges: what they refuse, what they add, and that there is room for all that may be started."""

from .overlays import items, missing_pods, refused_pods
from .plane import check, found, kubectl, read, try_to_create, until
from .refusals import changed, pod_of

RESOURCES = "spec/containers/0/resources"


def amounts(cpu, memory):
    return {kind: {"cpu": cpu, "memory": memory, "ephemeral-storage": "16Mi"} for kind in ("requests", "limits")}


def service(namespace, kind):
    metadata, spec = {"name": "changed", "namespace": namespace}, {"type": kind, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def volume(namespace, size):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    metadata = {"name": "changed", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def of_three(pod, resources):
    containers = [pod["spec"]["containers"][0] | {"name": f"c{number}", "resources": resources} for number in range(3)]
    return changed(pod, "spec/containers", containers)


def refused(applied):
    namespace = applied.namespace
    pod = pod_of(read("deployment", "orders", "--namespace", namespace))
    quota = "exceeded quota: stockyard, requested: "
    balancer = service(namespace, "LoadBalancer")
    for name, item, words in [
        ("a container of 64 GiB", changed(pod, RESOURCES, amounts("1", "64Gi")), "maximum memory usage per Container"),
        ("a container of 3 CPUs", changed(pod, RESOURCES, amounts("3", "64Mi")), "maximum cpu usage per Container"),
        ("a pod of 6 CPUs", of_three(pod, amounts("2", "64Mi")), quota + "requests.cpu=6"),
        ("a Service that opens a load balancer", balancer, quota + "services.loadbalancers=1"),
        ("a Service that opens a port of the nodes", service(namespace, "NodePort"), quota + "services.nodeports=1"),
        ("a volume of 1 TiB", volume(namespace, "1Ti"), quota + "requests.storage=1Ti"),
    ]:
        check(f"{applied.overlay}: {name} is refused", try_to_create(item).refusal(words))


def defaults(applied):
    """A container that asks for nothing gets the limit range's amounts, so the quota can count it."""
    pod = pod_of(read("deployment", "orders", "--namespace", applied.namespace))
    memory = "jsonpath={.spec.containers[0].resources.limits.memory}"
    answer = try_to_create(changed(pod, RESOURCES, {}), "-o", memory)
    faults = answer.faults() or ([] if answer.out == "128Mi" else [f"its limit of memory is {answer.out}"])
    check(f"{applied.overlay}: a container that says nothing of resources gets those of the limit range", faults)


def room(applied):
    """Every autoscaler at its most, a rollout of all at the same time, the jobs: the quota has room for them."""
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
    """The same check, on what it must find."""
    more = '{"spec": {"minReplicas": 40, "maxReplicas": 40}}'
    kubectl("patch", "hpa", "orders", "--namespace", applied.namespace, "--patch", more)
    until(lambda: [] if refused_pods(applied.namespace) else ["nothing yet"])
    faults = refused_pods(applied.namespace)
    check("an autoscaler that the quota has no room for is found", found(faults, "exceeded quota"))


def run(combinations):
    for applied in combinations[:2]:
        refused(applied)
        defaults(applied)
    for environment in ("staging", "production"):
        of_it = [applied for applied in combinations[2:] if applied.overlay == environment]
        most = max(of_it, key=lambda applied: len(applied.components))
        room(most)
    too_many(most)
