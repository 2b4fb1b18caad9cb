"""The cgroup that a cluster's pods live below, in both layouts of the cgroup file system.

The folders stand for the kernel's: what a kernel of version 2 makes of it is not shown here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from eventengine_harness import sandboxes
from eventengine_harness.ledgers import Ledger


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cgroup"
    folder.mkdir()
    monkeypatch.setattr(sandboxes, "CGROUP_ROOT", folder)
    return folder


def test_version_1_has_one_in_each_hierarchy_and_a_cpuset_that_can_hold_processes(root: Path) -> None:
    for hierarchy in ("cpu", "cpuset", "memory"):
        (root / hierarchy).mkdir()
        (root / hierarchy / "cgroup.procs").touch()
    (root / "cpuset" / "cpuset.cpus").write_text("0-1\n")
    (root / "cpuset" / "cpuset.mems").write_text("0\n")
    (root / "cpu,cpuacct").symlink_to(root / "cpu")
    ledger = Ledger("cluster")
    assert sandboxes.make_cgroup(ledger, "pods") == "/pods"
    assert sorted(ledger.cgroups) == [str(root / name / "pods") for name in ("cpu", "cpuset", "memory")]
    assert (root / "cpuset" / "pods" / "cpuset.cpus").read_text() == "0-1\n"
    assert (root / "cpuset" / "pods" / "cpuset.mems").read_text() == "0\n"


def test_a_hierarchy_of_version_2_beside_those_of_version_1_gets_one_too(root: Path) -> None:
    for hierarchy in ("memory", "unified"):
        (root / hierarchy).mkdir()
        (root / hierarchy / "cgroup.procs").touch()
    ledger = Ledger("cluster")
    sandboxes.make_cgroup(ledger, "pods")
    assert (root / "unified" / "pods").is_dir()


def test_version_2_has_one_with_every_controller_handed_down(root: Path) -> None:
    (root / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    ledger = Ledger("cluster")
    assert sandboxes.make_cgroup(ledger, "pods") == "/pods"
    assert ledger.cgroups == [str(root / "pods")]
    for folder in (root, root / "pods"):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpuset +cpu +memory +pids"
