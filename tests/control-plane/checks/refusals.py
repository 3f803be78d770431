"""What the server must refuse: an object that it accepts, with one change each. null takes the field away."""

import copy

from .plane import ROOT, check, kubectl, read, try_to_create

CONTAINER = "spec/containers/0/"
SECURITY = CONTAINER + "securityContext/"

# Pods, against the restricted profile of the namespaces' version: the place, the value, what the server says.
PODS = [
    ("spec/hostNetwork", True, "host namespaces (hostNetwork=true)"),
    ("spec/hostPID", True, "host namespaces (hostPID=true)"),
    ("spec/hostIPC", True, "host namespaces (hostIPC=true)"),
    ("spec/volumes/0", {"name": "database", "hostPath": {"path": "/"}}, 'restricted volume type "hostPath"'),
    ("spec/securityContext/runAsNonRoot", None, "runAsNonRoot != true"),
    ("spec/securityContext/runAsUser", 0, "runAsUser=0"),
    ("spec/securityContext/seccompProfile", None, "seccompProfile"),
    ("spec/securityContext/seccompProfile", {"type": "Unconfined"}, "seccompProfile"),
    ("spec/securityContext/sysctls", [{"name": "kernel.msgmax", "value": "1"}], "forbidden sysctls (kernel.msgmax)"),
    ("spec/securityContext/seLinuxOptions", {"user": "u"}, "seLinuxOptions"),
    (SECURITY + "allowPrivilegeEscalation", None, "allowPrivilegeEscalation != false"),
    (CONTAINER + "securityContext", {"privileged": True}, "privileged"),
    (SECURITY + "runAsNonRoot", False, "runAsNonRoot != true"),
    (SECURITY + "runAsUser", 0, "runAsUser=0"),
    (SECURITY + "capabilities/drop", [], "unrestricted capabilities"),
    (SECURITY + "capabilities/add", ["NET_ADMIN"], "unrestricted capabilities"),
    (CONTAINER + "ports/0/hostPort", 80, "hostPort"),
    (CONTAINER + "livenessProbe/httpGet/host", "example.com", "probe or lifecycle host"),
]

POLICY = "spec/resourcePolicy/containerPolicies/0/"
VPAS = [
    ("spec/updatePolicy/updateMode", "off", 'Unsupported value: "off"'),
    ("spec/targetRef", None, "spec.targetRef: Required value"),
    (POLICY + "controlledValues", "Limits", 'Unsupported value: "Limits"'),
    (POLICY + "mode", "on", 'Unsupported value: "on"'),
    (POLICY + "maxAllowed/memory", "lots", "maxAllowed.memory"),
    (POLICY + "maxAllow", {"cpu": "1"}, 'unknown field "spec.resourcePolicy.containerPolicies[0].maxAllow"'),
]

NODES = "spec/template/spec/"
NODE_POOLS = [
    (NODES + "nodeClassRef", None, "nodeClassRef: Required value"),
    (NODES + "nodeClassRef/group", "", "group may not be empty"),
    (NODES + "requirements/0/operator", "Is", 'Unsupported value: "Is"'),
    (NODES + "requirements/0/values", [], "must have a value defined"),
    (NODES + "requirements/4/values", ["five"], "must have a single positive integer value"),
    (NODES + "requirements/6/minValues", 0, "minValues"),
    (NODES + "requirements/0/key", "karpenter.sh/nodepool", "restricted"),
    (NODES + "expireAfter", "two weeks", "expireAfter"),
    ("spec/disruption/budgets/0/nodes", "110%", "budgets[0].nodes"),
    ("spec/disruption/budgets/1/duration", None, "'schedule' must be set with 'duration'"),
    ("spec/disruption/consolidationPolicy", "Always", 'Unsupported value: "Always"'),
    ("spec/limits/cpu", "many", "limits.cpu"),
]

NODE_CLASSES = [
    ("spec/role", None, "must specify exactly one of ['role', 'instanceProfile']"),
    ("spec/instanceProfile", "both", "must specify exactly one of ['role', 'instanceProfile']"),
    ("spec/amiSelectorTerms", [], "amiSelectorTerms"),
    ("spec/amiSelectorTerms/0/alias", "bottlerocket", "alias"),
    ("spec/subnetSelectorTerms", None, "subnetSelectorTerms: Required value"),
    ("spec/securityGroupSelectorTerms/0", {}, "expected at least one, got none"),
    ("spec/metadataOptions/httpTokens", "maybe", 'Unsupported value: "maybe"'),
    ("spec/metadataOptions/httpPutResponseHopLimit", 100, "httpPutResponseHopLimit"),
    ("spec/blockDeviceMappings/0/ebs/volumeType", "gp9", 'Unsupported value: "gp9"'),
    ("spec/tags", {"karpenter.sh/nodepool": "mine"}, "restricted tag"),
]

POD_MONITORS = [
    ("spec/selector", None, "spec.selector: Required value"),
    ("spec/podMetricsEndpoints/0/interval", "often", "interval"),
    ("spec/podMetricsEndpoints/0/relabelings/0/action", "take", "action"),
]
RULES = [
    ("spec/groups/0/rules/0/expr", None, "expr: Required value"),
    ("spec/groups/0/name", None, "name: Required value"),
    ("spec/groups/0/rules/0/for", "a while", "for"),
]


def changed(item, place, value):
    """A copy with another value at a place, given by the names of fields and the numbers of items."""
    item = copy.deepcopy(item)
    *way, last = [int(step) if step.isdecimal() else step for step in place.split("/")]
    within = item
    for step in way:
        within = within[step]
    if value is None:
        del within[last]
    else:
        within[last] = value
    return item


def as_new(item):
    """An object of the cluster, as if it were made again."""
    kept = {"labels", "annotations", "namespace"}
    metadata = {name: value for name, value in item["metadata"].items() if name in kept}
    new = {name: value for name, value in item.items() if name != "status"}
    return new | {"metadata": metadata | {"name": "changed"}}


def pod_of(deployment):
    template = deployment["spec"]["template"]
    metadata = template["metadata"] | {"name": "changed", "namespace": deployment["metadata"]["namespace"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def table(kind, item, changes):
    check(f"{kind}: ours is accepted", try_to_create(item).faults())
    for place, value, words in changes:
        answer = try_to_create(changed(item, place, value))
        check(f"{kind}: refused with {place} {'taken away' if value is None else value}", answer.refusal(words))


def run(combinations):
    for applied in combinations[:2]:
        namespace = ["--namespace", applied.namespace]
        table(f"{applied.overlay}, Pod", pod_of(read("deployment", "orders", *namespace)), PODS)
    table("VerticalPodAutoscaler", as_new(read("verticalpodautoscaler", "orders", *namespace)), VPAS)
    answer = kubectl("apply", "--server-side", "-k", ROOT / "kustomize/cluster/karpenter")
    check("cluster/karpenter: every object is accepted, and none is warned of", answer.faults())
    table("NodePool", as_new(read("nodepool", "stockyard")), NODE_POOLS)
    table("EC2NodeClass", as_new(read("ec2nodeclass", "stockyard")), NODE_CLASSES)
    operator = next(applied for applied in combinations if "prometheus-operator" in applied.components)
    namespace = ["--namespace", operator.namespace]
    table("PodMonitor", as_new(read("podmonitor", "stockyard", *namespace)), POD_MONITORS)
    table("PrometheusRule", as_new(read("prometheusrule", "stockyard-thresholds", *namespace)), RULES)
