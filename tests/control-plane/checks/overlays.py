"""The overlays and combinations of components, applied as a user applies them."""

import itertools
import json
import pathlib
import subprocess
import typing

from .plane import ROOT, check, found, kubectl, read, until

TABLE = ROOT / "tests/policy/combinations.txt"


class Applied(typing.NamedTuple):
    name: str
    overlay: str
    components: list
    namespace: str
    folder: pathlib.Path

    def apply(self, *options):
        return kubectl("apply", "--server-side", "-k", self.folder, *options)


def lay_out(work, number, overlay, components, namespace):
    """A copy of the manifests with an overlay's components replaced, for a namespace of its own."""
    target = work / f"{number}-{namespace}"
    subprocess.run(["sh", ROOT / "tests/policy/combine.sh", target, overlay, *components], check=True)
    folder = target / "overlays" / overlay
    file = folder / "kustomization.yaml"
    file.write_text(file.read_text().replace(f"\nnamespace: {overlay}\n", f"\nnamespace: {namespace}\n"))
    return Applied(" ".join([overlay, *components]), overlay, components, namespace, folder)


def combinations(work):
    """Those of the table. The first two are the overlays as they are, in their own namespaces."""
    lines = [line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#")]
    for number, (overlay, *components) in enumerate(lines):
        yield lay_out(work, number, overlay, components, overlay if number < 2 else f"{overlay}-{number}")


def items(namespace, kinds):
    return read(kinds, "--namespace", namespace)["items"]


def missing_pods(namespace):
    """Which workloads have not all the pods that they should, and what the controllers say of it."""
    scalers = items(namespace, "horizontalpodautoscalers")
    least = {item["spec"]["scaleTargetRef"]["name"]: item["spec"]["minReplicas"] for item in scalers}
    faults = []
    for item in items(namespace, "deployments,statefulsets,jobs"):
        name = item["metadata"]["name"]
        if item["kind"] == "Job":
            wanted, made = 1, item["status"].get("active", 0)
        else:
            wanted = max(item["spec"]["replicas"], least.get(name, 0))
            made = item["status"].get("replicas", 0)
        if made != wanted:
            faults.append(f"{item['kind']}/{name} has {made} pods, not {wanted}")
    return faults + refused_pods(namespace) if faults else []


def refused_pods(namespace):
    events = kubectl("events", "--namespace", namespace, "--types", "Warning", "-o", "json")
    told = [event for event in json.loads(events.out)["items"] if event["reason"] == "FailedCreate"]
    return sorted({event["message"] for event in told})


def start_jobs(namespace):
    """Starts what else waits for its hour, or for a person."""
    for item in items(namespace, "cronjobs"):
        name = item["metadata"]["name"]
        yield from kubectl("create", "job", name, f"--from=cronjob/{name}", "--namespace", namespace).faults()


def versions(applied):
    there = read("-k", applied.folder)["items"]
    return {f"{item['kind']}/{item['metadata']['name']}": version(item) for item in there}


def version(item):
    """Changes with each write. The server writes a claim anew at the second apply, once, with the same content."""
    claim = item["kind"] == "PersistentVolumeClaim"
    return [item["spec"], item["metadata"].get("labels")] if claim else item["metadata"]["resourceVersion"]


def settled(applied):
    """The version of each object once the controllers are at rest."""
    seen = {}

    def changed():
        last, now = dict(seen), versions(applied)
        seen.update(now)
        return [name for name in now if last.get(name) != now[name]]

    return until(changed), seen


def second_apply(applied):
    """What a second apply of the same changes."""
    faults, before = settled(applied)
    faults += applied.apply().faults()
    after = versions(applied)
    faults += [f"{name} was written again" for name in after if before.get(name) != after[name]]
    return faults + differences(applied)


def differences(applied):
    answer = kubectl("diff", "--server-side", "-k", applied.folder)
    return [answer.out + answer.err] if answer.code or answer.out else []


def run(work):
    """Applies all of them. Gives them, for the other checks."""
    all_of_them = list(combinations(work))
    for applied in all_of_them:
        check(f"{applied.name}: every object is accepted, and none is warned of", applied.apply().faults())
    for applied in all_of_them:
        faults = itertools.chain(start_jobs(applied.namespace), until(lambda: missing_pods(applied.namespace)))
        check(f"{applied.name}: the controllers make every pod", faults)
    for applied in all_of_them:
        check(f"{applied.name}: a second apply changes nothing", second_apply(applied))
    return all_of_them


def replace(file, old, new):
    text = file.read_text()
    assert old in text, f"{file} has no {old!r}"
    file.write_text(text.replace(old, new))


def run_broken(work):
    """The same checks, on what they must find."""
    unknown = lay_out(work, "unknown", "staging", [], "unknown")
    replace(unknown.folder / "limits.yaml", "hard:", "herd:")
    check("a field that the server does not know is refused", found(unknown.apply().faults(), "herd"))
    broken = lay_out(work, "broken", "staging", [], "broken")
    limits, orders = broken.folder / "limits.yaml", broken.folder / "../../base/orders/deployment.yaml"
    replace(orders, "enableServiceLinks: false", "hostNetwork: true")
    warned = found(broken.apply().faults(), "would violate PodSecurity")
    check("a part that breaks the restricted profile is warned of", warned)
    until(lambda: [] if refused_pods(broken.namespace) else ["nothing yet"])
    check("and its pods are found missing", found(missing_pods(broken.namespace), "Deployment/orders has 0 pods"))
    check("with what the server says", found(refused_pods(broken.namespace), "violates PodSecurity"))
    replace(limits, 'pods: "45"', 'pods: "46"')
    written = found(second_apply(broken), "ResourceQuota/stockyard was written again")
    check("a change is found by the second apply", written)
    replace(limits, 'pods: "46"', 'pods: "47"')
    check("and told by the difference", found(differences(broken), '+    pods: "47"'))
