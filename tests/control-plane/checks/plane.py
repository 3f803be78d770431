"""The control plane as the checks see it: kubectl, waiting, and the totals."""

import json
import os
import pathlib
import subprocess
import time
import typing

HERE = pathlib.Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
passed = failed = 0


def check(name, faults):
    """Counts a check: it holds when there is no fault."""
    global passed, failed
    faults = [faults] if isinstance(faults, str) else list(faults)
    passed, failed = passed + (not faults), failed + bool(faults)
    print("FAILED " if faults else "ok     ", name, flush=True)
    for fault in faults:
        print("        " + fault.strip().replace("\n", "\n        "), flush=True)


def found(faults, words):
    """No fault when one with these words was found: for checks that must fail."""
    return [] if any(words in fault for fault in faults) else [f"nothing was found with {words!r}, but {faults}"]


class Answer(typing.NamedTuple):
    code: int
    out: str
    err: str

    def faults(self):
        """What an answer without a fault or a warning does not have."""
        return [self.err or self.out or f"exit {self.code}"] if self.code or self.err else []

    def refusal(self, words):
        """The fault, if it was not refused with these words."""
        return [] if self.code and words in self.err else [f"not refused with {words!r}: {self.err or self.out}"]


def kubectl(*arguments, given=None):
    given = None if given is None else json.dumps(given)
    done = subprocess.run([HERE / "kubectl", *map(str, arguments)], input=given, text=True, capture_output=True)
    return Answer(done.returncode, done.stdout, done.stderr)


def read(*arguments):
    """What `kubectl get` has, as data."""
    answer = kubectl("get", "-o", "json", *arguments)
    if answer.code:
        raise RuntimeError(answer.err)
    return json.loads(answer.out)


def try_to_create(item, *options):
    """Has the server judge an object as it would when it is created, and lets it make none."""
    return kubectl("create", "--dry-run=server", "-f", "-", *options, given=item)


def until(faults, seconds=60):
    """Asks for faults until there are none; gives those that are left after some time."""
    end = time.monotonic() + seconds
    while (left := faults()) and time.monotonic() < end:
        time.sleep(0.3)
    return left


def start():
    """Starts the control plane. Gives the fault, if it does not come up."""
    done = subprocess.run([HERE / "up"], text=True, stderr=subprocess.PIPE)
    print(done.stderr, end="", flush=True)
    return [done.stderr] if done.returncode else []


def stop():
    done = subprocess.run([HERE / "down"], text=True, capture_output=True)
    return [done.stderr] if done.returncode else []


def work():
    return pathlib.Path(os.environ["CONTROL_PLANE"])
