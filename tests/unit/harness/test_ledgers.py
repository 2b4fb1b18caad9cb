"""Whatever an instance made is removed: by its owner, or by the next start after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from eventengine_harness.exceptions import HarnessError, InUseError
from eventengine_harness.ledgers import Instance, Ledger, instances, sweep_abandoned
from eventengine_harness.locations import run_folder
from eventengine_harness.processes import Launcher, ProcessIdentity, find_marked

OWNER_PROGRAM = """
import sys, time
from eventengine_harness.ledgers import Instance
from eventengine_harness.processes import Launcher
from eventengine_harness.warden import Warden

instance = Instance.create("thing")
warden = Warden("thing") if sys.argv[1] == "warded" else None
ledger = instance.ledger
Launcher(ledger.marker, ledger.folder / "logs", ledger).launch("sleeper", ["sleep", "300"])
print(ledger.marker, flush=True)
time.sleep(300)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def start_owner(kind: str) -> tuple[subprocess.Popen[str], str]:
    owner = subprocess.Popen([sys.executable, "-c", OWNER_PROGRAM, kind], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, owner.stdout.readline().strip()


def kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    assert owner.stdout is not None
    owner.stdout.close()


def test_a_ledger_comes_back_as_it_was_written() -> None:
    ledger = Ledger("thing")
    ledger.record_cgroup(Path("/sys/fs/cgroup/x"))
    ledger.record_interface("veth9")
    ledger.details["port"] = 1
    ledger.write()
    assert Ledger.read(ledger.folder) == ledger


def test_a_ledger_of_another_version_is_refused_with_a_remedy() -> None:
    ledger = Ledger("thing")
    ledger.write()
    path = ledger.folder / "ledger.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(HarnessError, match="end it with the checkout that started it"):
        Ledger.read(ledger.folder)


def test_pids_of_a_former_boot_mean_nothing() -> None:
    ledger = Ledger("thing", boot="a former one")
    ledger.processes.append({"name": "x", "pid": os.getpid(), "start_ticks": 1})
    assert ledger.identities() == []


def test_ending_an_instance_ends_its_processes_and_removes_its_folder() -> None:
    instance = Instance.create("thing")
    ledger = instance.ledger
    launcher = Launcher(ledger.marker, ledger.folder / "logs", ledger)
    component = launcher.launch("sleeper", ["sleep", "300"])
    instance.end()
    assert not component.is_running()
    assert component.wrapper.wait() == -9
    assert list(run_folder().iterdir()) == []


def test_an_instance_in_use_is_refused_and_left_alone() -> None:
    instance = Instance.create("thing")
    with pytest.raises(InUseError, match=f"thing is in use by process {os.getpid()}"):
        Instance.create("thing")
    assert [ledger.name for ledger in instances()] == ["thing"]
    instance.end()


def test_a_detached_instance_survives_its_owner_and_can_be_taken_over() -> None:
    instance = Instance.create("thing")
    ledger = instance.ledger
    launcher = Launcher(ledger.marker, ledger.folder / "logs", ledger)
    component = launcher.launch("sleeper", ["sleep", "300"])
    instance.detach()
    sweep_abandoned()
    assert component.is_running()
    with pytest.raises(InUseError, match="up in the background"):
        Instance.create("thing")
    again = Instance.take_over("thing")
    assert again is not None
    again.end()
    assert component.wrapper.wait() == -9


def test_a_killed_owner_without_warden_is_cleaned_up_by_the_next_start() -> None:
    owner, marker = start_owner("alone")
    assert len(find_marked(marker)) == 1
    kill(owner)
    assert len(find_marked(marker)) == 1
    Instance.create("another thing").end()
    assert find_marked(marker) == []
    assert list(run_folder().iterdir()) == []


def test_a_killed_owner_is_cleaned_up_by_its_warden() -> None:
    owner, marker = start_owner("warded")
    assert len(find_marked(marker)) == 1
    kill(owner)
    # Waits for the warden, which holds the lock while it sweeps, or comes before it.
    Instance.create("thing", wait_seconds=30).end()
    assert find_marked(marker) == []


def test_an_unrecorded_process_is_found_by_its_marker() -> None:
    instance = Instance.create("thing")
    ledger = instance.ledger
    launcher = Launcher(ledger.marker, ledger.folder / "logs", ledger)
    component = launcher.launch("sleeper", ["sleep", "300"])
    ledger.processes.clear()
    ledger.write()
    instance.end()
    assert component.wrapper.wait() == -9
    assert find_marked(ledger.marker) == []


def test_components_started_side_by_side_are_all_recorded() -> None:
    ledger = Ledger("thing")
    ledger.write()
    identities = [ProcessIdentity(pid, 1) for pid in range(200)]
    with ThreadPoolExecutor(max_workers=8) as threads:
        list(threads.map(lambda identity: ledger.record_process("x", identity), identities))
    read = Ledger.read(ledger.folder)
    assert read is not None
    assert sorted(read.identities(), key=lambda identity: identity.pid) == identities
