"""`down` leaves nothing behind, however far `up` came."""

import os
import pathlib
import signal
import subprocess
import time

from . import plane


def traces(work):
    """The processes and mounts that know of the folder, and the folder."""
    left = [str(work)] if work.exists() else []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:  # it ended meanwhile
            continue
        if str(work) in words or any(holds(file, work) for file in open_files(process)):
            left.append(f"{process.name}: {words}")
    left += [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if str(work) in line]
    return left


def open_files(process):
    try:
        return list((process / "fd").iterdir())
    except OSError:
        return []


def holds(file, work):
    try:
        return os.readlink(file).startswith(f"{work}/")
    except OSError:
        return False


def namespaces(kind):
    """The namespaces that any process is in, and those that have a name."""
    seen = set(pathlib.Path("/run/netns").glob("*"))
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            seen.add(os.readlink(process / "ns" / kind))
        except OSError:
            pass
    return seen


def network(work):
    try:
        return os.readlink(f"/proc/{(work / 'pid').read_text().strip()}/ns/net")
    except OSError:
        return None


def run():
    work = plane.work()
    seen = network(work)
    plane.check("the check of what is left finds a running control plane", plane.found(traces(work), "kube-apiserver"))
    plane.check("down ends it", plane.stop())
    left = traces(work) + [name for name in namespaces("net") if name == seen]
    plane.check("down leaves no process, mount, folder or network namespace", left)
    for seconds in (0.1, 0.5, 1.5, 3):
        killed(work, seconds)
    plane.check("down is content where nothing runs", plane.stop())


def killed(work, seconds):
    up = subprocess.Popen([plane.HERE / "up"], stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    seen = network(work)
    up.send_signal(signal.SIGKILL)
    up.wait()
    faults = plane.stop() + traces(work) + [name for name in namespaces("net") if name == seen]
    plane.check(f"down leaves nothing of an up that was killed after {seconds} s", faults)
