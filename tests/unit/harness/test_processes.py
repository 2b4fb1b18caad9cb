"""A pid alone is never trusted, and every process of an instance can be found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventengine_harness.exceptions import ComponentError
from eventengine_harness.processes import (
    MARKER_VARIABLE,
    Launcher,
    ProcessIdentity,
    confine,
    end_processes,
    find_marked,
    tail_of,
)


class Recorder:
    """Keeps what a launcher reports."""

    def __init__(self) -> None:
        self.names: dict[str, ProcessIdentity] = {}

    def record_process(self, name: str, identity: ProcessIdentity) -> None:
        self.names[name] = identity


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    made = Launcher("unit-test-marker", tmp_path / "logs", Recorder())
    yield made
    for component in made.started:
        component.stop(grace_seconds=0)


def test_a_process_is_alive_until_it_ends() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        assert identity.is_alive()
        process.kill()
        process.wait()
        assert not identity.is_alive()
        assert ProcessIdentity.of(process.pid) is None


def test_a_zombie_counts_as_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        assert end_processes([identity], grace_seconds=0) == []
        assert not identity.is_alive()


def test_a_reused_pid_is_not_signalled() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        present = ProcessIdentity.of(process.pid)
        assert present is not None
        former = ProcessIdentity(present.pid, present.start_ticks - 1)
        assert not former.is_alive()
        assert former.send(signal.SIGKILL) is False
        assert end_processes([former], grace_seconds=0) == []
        assert present.is_alive()
        process.kill()


def test_a_stubborn_process_is_killed_after_its_grace() -> None:
    command = ["sh", "-c", "trap '' TERM; echo on; while true; do sleep 1; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        assert end_processes([identity], grace_seconds=0.2) == []
        assert process.wait() == -signal.SIGKILL


def test_a_process_is_confined_with_all_its_threads(launcher: Launcher) -> None:
    threads = (
        "import threading, time; [threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(3)]"
    )
    component = launcher.launch("threads", [sys.executable, "-c", f"{threads}; print('on', flush=True)"])
    component.wait_ready(lambda: "on" in tail_of(component.log), "threads", 5)
    tasks = [int(task.name) for task in Path(f"/proc/{component.identity.pid}/task").iterdir()]
    assert len(tasks) == 4
    last = max(os.sched_getaffinity(0))
    confine(component.identity, {last})
    assert [os.sched_getaffinity(task) for task in tasks] == [{last}] * 4
    component.stop(grace_seconds=0)
    confine(component.identity, {last})


def test_a_marked_process_is_found_and_so_is_its_child() -> None:
    environment = {**os.environ, MARKER_VARIABLE: "unit-test-tree"}
    command = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        found = find_marked("unit-test-tree")
        assert {identity.pid for identity in found} == {process.pid, child}
        assert end_processes(found, grace_seconds=0) == []
    assert find_marked("unit-test-tree") == []


def test_a_component_is_recorded_and_logs_to_its_own_file(launcher: Launcher) -> None:
    component = launcher.launch("talker", ["sh", "-c", "echo hello; exec sleep 60"])
    component.wait_ready(lambda: "hello" in tail_of(component.log), "talker", 5)
    assert isinstance(launcher.recorder, Recorder)
    assert launcher.recorder.names == {"talker": component.identity}
    component.stop()
    assert not component.is_running()


def test_a_component_that_dies_is_reported_with_its_last_lines(launcher: Launcher) -> None:
    component = launcher.launch("faulty", ["sh", "-c", "sleep 0.2; echo no such disk; exit 3"])
    with pytest.raises(ComponentError, match=r"faulty has ended(.|\n)*no such disk"):
        component.wait_ready(lambda: False, "faulty", 10)


def test_a_component_that_never_gets_ready_is_reported_with_its_last_lines(
    launcher: Launcher,
) -> None:
    component = launcher.launch("slow", ["sh", "-c", "echo still thinking; exec sleep 60"])
    with pytest.raises(ComponentError, match=r"waited 0 s in vain for slow(.|\n)*still thinking"):
        component.wait_ready(lambda: False, "slow", 0.3)
