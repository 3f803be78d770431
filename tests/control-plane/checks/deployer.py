"""An overlay needs no right on the cluster: who has every right in its namespace, and none outside, can apply it."""

from .overlays import lay_out
from .plane import ROOT, check, kubectl

DEPLOYER = ["--as", "deployer"]


# Components with objects of every kind that an overlay may have.
COMPONENTS = ["hpa", "vpa", "ingress", "backup", "tracing", "prometheus-operator", "grafana"]


def run(work):
    for environment in ("staging", "production"):
        lease(lay_out(work, "leased", environment, COMPONENTS, f"{environment}-leased"))


def lease(applied):
    namespace, environment = applied.namespace, applied.overlay
    answer = applied.apply(*DEPLOYER)
    check(f"{environment}: who has no right can apply nothing", answer.refusal("is forbidden"))
    kubectl("create", "namespace", namespace)
    named = ["deployer", "--namespace", namespace]
    kubectl("create", "role", *named, "--verb=*", "--resource=*.*")
    kubectl("create", "rolebinding", *named, "--role=deployer", "--user=deployer")
    faults = applied.apply(*DEPLOYER).faults()
    check(f"{environment}: an account of the namespace alone can apply the whole overlay", faults)
    for folder in sorted((ROOT / "kustomize/cluster").glob("*/")):
        answer = kubectl("apply", "--server-side", "-k", folder, *DEPLOYER)
        check(f"{environment}: but not cluster/{folder.name}", answer.refusal("is forbidden"))
    kubectl("delete", "namespace", namespace, "--wait=false")
