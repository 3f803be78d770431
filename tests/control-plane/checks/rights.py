"""Every account's rights are those of docs/rbac.md, as `kubectl auth can-i --list` has them."""

import re

from .plane import ROOT, check, found, kubectl, read

PAGE = ROOT / "docs/rbac.md"


def rows(columns):
    """The rows of the page's table that has these columns."""
    within = False
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            within = False
        elif within and not line.startswith("|-"):
            yield cells
        within = within or cells == columns


def words(cell):
    return [word.strip() for word in cell.split(",") if word.strip()]


def documented(account, environment, applied):
    """What an account may, a verb and a resource each."""
    rights = set()
    for who, where, extra, verbs, resources in rows(["who", "where", "with", "verbs", "resources"]):
        it = who in ("everyone", account) or (who == "service accounts" and account.endswith(("-sa", "default")))
        if it and (not where or environment in words(where)) and (not extra or extra in applied):
            rights |= {f"{verb} {resource}" for verb in words(verbs) for resource in words(resources)}
    return rights


def told(namespace, *identity):
    """What the server says that it may."""
    answer = kubectl("auth", "can-i", "--list", "--no-headers", "--namespace", namespace, *identity)
    if answer.code or answer.err:
        raise RuntimeError(answer.err)
    rights = set()
    for line in answer.out.splitlines():
        resource, paths, names, verbs = re.fullmatch(r"(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]\s*", line).groups()
        for thing in paths.split() or [f"{resource}/{name}" for name in names.split()] or [resource]:
            rights |= {f"{verb} {thing}" for verb in verbs.split()}
    return rights


def faults(account, environment, namespace, identity, applied=()):
    expected, has = documented(account, environment, applied), told(namespace, *identity)
    beyond = [f"may {right}, which is not documented" for right in sorted(has - expected)]
    return beyond + [f"may not {right}, which is documented" for right in sorted(expected - has)]


def service_account(namespace, name):
    return ["--as", f"system:serviceaccount:{namespace}:{name}"]


def person(group):
    return ["--as", "someone", "--as-group", group]


def service_accounts(namespace):
    return {item["metadata"]["name"] for item in read("serviceaccounts", "--namespace", namespace)["items"]}


def run(combinations):
    pages_accounts = {name for row in rows(["account", "of"]) for name in words(row[0])}
    seen = set()
    for applied in combinations:
        asked = {name for where, name in seen if where == applied.overlay}
        for name in sorted(service_accounts(applied.namespace) - asked):
            seen.add((applied.overlay, name))
            its_rights = faults(name, applied.overlay, applied.namespace, service_account(applied.namespace, name))
            check(f"{applied.overlay}: {name} has the documented rights", its_rights)
    names = {name for _, name in seen}
    check("the page has every service account", [f"{name}: on one side alone" for name in names ^ pages_accounts])
    for environment in ("staging", "production"):
        people(environment)
    elsewhere()
    container_metrics(combinations[0])
    a_right_too_many()


def people(environment):
    for group in ("stockyard-developers", "others"):
        its_rights = faults(group, environment, environment, person(group))
        check(f"{environment}: the group {group} has the documented rights", its_rights)


def elsewhere():
    """Rights end at the namespace: there an account is as one of no rights of its own."""
    prometheus, developer = service_account("staging", "prometheus-sa"), person("stockyard-developers")
    for namespace, who, identity, like in [
        ("production", "staging's prometheus-sa", prometheus, "default"),
        ("kube-system", "staging's prometheus-sa", prometheus, "default"),
        ("kube-system", "the group stockyard-developers", developer, "others"),
        ("default", "the group stockyard-developers", developer, "others"),
    ]:
        check(f"{namespace}: {who} may no more than everyone", faults(like, namespace, namespace, identity))


def container_metrics(staging):
    """The one right on the cluster, which an admin gives to Prometheus."""
    part = "container-metrics"
    answer = kubectl("apply", "--server-side", "-k", ROOT / "kustomize/cluster" / part)
    check("cluster/container-metrics: every object is accepted, and none is warned of", answer.faults())
    for environment in ("staging", "production"):
        for name in ("prometheus-sa", "orders-sa"):
            identity = service_account(environment, name)
            its_rights = faults(name, environment, environment, identity, [part])
            check(f"{environment} with {part}: {name} has the documented rights", its_rights)
    kubectl("delete", "-k", ROOT / "kustomize/cluster" / part)


def a_right_too_many():
    """The same check, on what it must find."""
    name, namespace = "orders-sa", "staging"
    made = ["--namespace", namespace, "extra"]
    kubectl("create", "role", *made, "--verb=get", "--resource=secrets")
    kubectl("create", "rolebinding", *made, "--role=extra", f"--serviceaccount={namespace}:{name}")
    its_rights = faults(name, namespace, namespace, service_account(namespace, name))
    check("a right too many is found", found(its_rights, "may get secrets"))
    kubectl("delete", "rolebinding,role", *made)
    its_rights = faults("prometheus-sa", namespace, namespace, service_account(namespace, name))
    check("a right too few is found", found(its_rights, "may not list pods"))
