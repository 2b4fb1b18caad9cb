"""Nothing of a cluster stays on the machine: after its end, after Ctrl-C, after kill -9.

Each test runs a cluster with a pod in a child process, ends that process in one of
the ways in which launchers end, and then looks for what could have stayed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from eventengine_harness.clusters import CGROUP, INSTANCE
from eventengine_harness.ledgers import Instance, Ledger, sweep_abandoned
from eventengine_harness.locations import run_folder
from eventengine_harness.processes import find_marked
from eventengine_harness.sandboxes import HOST_INTERFACE, KERNEL_SETTINGS
from eventengine_harness.waiting import wait_for

# The test may wait for another process's cluster first.
pytestmark = pytest.mark.timeout(1200)

BRING_UP_DEADLINE_SECONDS = 90.0
CLEAN_UP_DEADLINE_SECONDS = 30.0
OTHER_CLUSTER_WAIT_SECONDS = 900.0
FIXED_PLACES = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/run/containerd", "/run/netns")

OWNER_PROGRAM = """
import sys
from eventengine_harness.clusters import Cluster
from eventengine_harness.interrupts import end_in_order
from eventengine_harness.nodes import SHELL_IMAGE

end_in_order()
cluster = Cluster(wait_seconds=900)
with cluster:
    container = {"name": "main", "image": SHELL_IMAGE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stayer"}}
    cluster.access.apply({**pod, "spec": {"containers": [container]}}, namespace="default")
    cluster.access.wait_for_condition("pod", "stayer", "Ready", namespace="default")
    print("warden", cluster.warden_pid, flush=True)
    sys.stdin.read()  # until the test ends it, or is itself gone
"""


def kernel_settings() -> dict[Path, str]:
    return {path: path.read_text() for path in KERNEL_SETTINGS if path.exists()}


def fixed_places() -> dict[str, list[Path] | None]:
    """What lies in the places that the components would use without a sandbox."""
    return {place: sorted(Path(place).iterdir()) if Path(place).is_dir() else None for place in FIXED_PLACES}


def pids_in_cgroup() -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if f"/{CGROUP}" in (folder / "cgroup").read_text():
                    found.append(int(folder.name))
    return found


def leftovers(marker: str) -> list[str]:
    """What of a cluster is still there; empty when the machine is as it was."""
    found = [f"process {process.pid}" for process in find_marked(marker)]
    found += [f"pod process {pid}" for pid in pids_in_cgroup()]
    # Unlike a glob, a walk takes no offence at groups that are removed under it.
    found += [folder for folder, below, _ in os.walk("/sys/fs/cgroup") if CGROUP in below]
    if Path(f"/sys/class/net/{HOST_INTERFACE}").exists():
        found.append(HOST_INTERFACE)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if str(run_folder()) in line]
    found += [str(path) for path in run_folder().glob(f"{INSTANCE}*")]
    return found


@contextmanager
def owner() -> Iterator[subprocess.Popen[str]]:
    """A child process that brings up a cluster with a pod and stays."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def warden_of(process: subprocess.Popen[str]) -> int:
    """Wait until the child's cluster is up; returns the pid of its warden."""
    assert process.stdout is not None
    word, _, pid = process.stdout.readline().partition(" ")
    assert word == "warden", "the child's cluster did not come up; its errors are above"
    return int(pid)


def ledger_with(process: subprocess.Popen[str], component: str) -> Ledger:
    """Wait until the child has started a component; returns the ledger as it is then."""

    def started() -> Ledger | None:
        assert process.poll() is None
        ledger = Ledger.read(run_folder() / INSTANCE)
        names = [entry["name"] for entry in ledger.processes] if ledger else []
        return ledger if component in names and ledger.owner_pid == process.pid else None

    # The child may have to wait for somebody else's cluster first.
    deadline_seconds = OTHER_CLUSTER_WAIT_SECONDS + BRING_UP_DEADLINE_SECONDS
    return wait_for(started, f"the start of {component}", deadline_seconds)


def wait_until_clean(marker: str) -> None:
    wait_for(
        lambda: not leftovers(marker),
        "a clean machine",
        CLEAN_UP_DEADLINE_SECONDS,
        last_seen=lambda: "; ".join(leftovers(marker)),
    )


@pytest.fixture(autouse=True)
def same_machine_afterwards() -> Iterator[None]:
    sweep_abandoned()
    # Waits for a cluster of somebody else's, which has the names that are looked for here.
    Instance.create(INSTANCE, wait_seconds=OTHER_CLUSTER_WAIT_SECONDS).end()
    settings, places = kernel_settings(), fixed_places()
    yield
    assert kernel_settings() == settings
    assert fixed_places() == places


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_launcher_leaves_nothing(number: signal.Signals) -> None:
    with owner() as process:
        warden_of(process)
        ledger = ledger_with(process, "kubelet")
        assert pids_in_cgroup(), "the pod's processes are in the cluster's cgroup"
        process.send_signal(number)
        process.wait(CLEAN_UP_DEADLINE_SECONDS)
    assert leftovers(ledger.marker) == []


def test_a_killed_launcher_leaves_nothing_because_its_warden_cleans_up() -> None:
    with owner() as process:
        warden_of(process)
        ledger = ledger_with(process, "kubelet")
        process.kill()
        process.wait()
        wait_until_clean(ledger.marker)


@pytest.mark.parametrize("component", ["sandbox", "etcd", "containerd", "kube-apiserver"])
def test_a_launcher_killed_on_the_way_up_leaves_nothing(component: str) -> None:
    with owner() as process:
        ledger = ledger_with(process, component)
        process.kill()
        process.wait()
        wait_until_clean(ledger.marker)


def test_after_launcher_and_warden_were_killed_the_next_start_cleans_up_and_works() -> None:
    with owner() as process:
        warden = warden_of(process)
        ledger = ledger_with(process, "kubelet")
        os.kill(warden, signal.SIGKILL)
        process.kill()
        process.wait()
    assert find_marked(ledger.marker), "the cluster still runs, and nobody owns it"
    with owner() as process:
        warden_of(process)
        assert find_marked(ledger.marker) == []
        second = ledger_with(process, "kubelet")
        process.send_signal(signal.SIGINT)
        process.wait(CLEAN_UP_DEADLINE_SECONDS)
    assert leftovers(second.marker) == []
