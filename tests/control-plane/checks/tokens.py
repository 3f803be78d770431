"""The tokens in pods are those of docs/rbac.md, and one for a service is worth nothing at the API server."""

import json

from .overlays import items
from .plane import check, found, kubectl, read, try_to_create
from .refusals import changed, pod_of
from .rights import rows


def documented():
    """Account, audience and file of each."""
    return {tuple(row[:3]) for row in rows(["account", "audience", "file", "for"])}


def in_pod(pod):
    """The same of a pod, with what the server may have added to it."""
    spec = pod["spec"]
    sources = {volume["name"]: volume.get("projected", {}).get("sources", []) for volume in spec.get("volumes", [])}
    for mount in (mount for container in spec["containers"] for mount in container.get("volumeMounts", [])):
        for token in (source.get("serviceAccountToken") for source in sources[mount["name"]]):
            if token:
                audience = token.get("audience", "the API server")
                yield spec["serviceAccountName"], audience, f"{mount['mountPath']}/{token['path']}"


def faults(pods):
    expected, has = documented(), {token for pod in pods for token in in_pod(pod)}
    beyond = [f"{token} is not documented" for token in sorted(has - expected)]
    return beyond + [f"{token} is in no pod" for token in sorted(expected - has)]


def run(combinations):
    for applied in combinations:
        its_pods = items(applied.namespace, "pods")
        check(f"{applied.name}: its pods have the documented tokens", faults(its_pods))
    one_too_many(its_pods)
    audiences(combinations[0].namespace)


def one_too_many(pods):
    """The same check, on what it must find: the token that the server mounts unless it is told not to."""
    pod = pod_of(read("deployment", "api-gateway", "--namespace", pods[0]["metadata"]["namespace"]))
    answer = try_to_create(changed(pod, "spec/automountServiceAccountToken", True), "-o", "json")
    its_tokens = faults([*pods, json.loads(answer.out)]) if answer.out else answer.faults()
    check("a token too many is found", found(its_tokens, "is not documented"))
    without = [pod for pod in pods if pod["spec"]["serviceAccountName"] != "gateway-sa"]
    check("and one too few", found(faults(without), "is in no pod"))


def audiences(namespace):
    """A token as orders has it for inventory."""
    audience = "stockyard-inventory"
    made = kubectl("create", "token", "orders-sa", "--namespace", namespace, "--audience", audience, "--duration", "1h")
    check("orders-sa's token for inventory is for inventory", made.faults() or reviewed(made.out, [audience], True))
    check("and no token to the API server", reviewed(made.out, [], False))


def reviewed(token, asked, expected):
    """What is wrong with the server's view of a token that is shown to these audiences, its own when there are none."""
    spec = {"token": token.strip(), "audiences": asked}
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    answer = kubectl("create", "-f", "-", "-o", "json", given=review)
    if answer.code:
        return answer.faults()
    status = json.loads(answer.out)["status"]
    return [] if status.get("authenticated", False) == expected else [f"the server says {status}"]
