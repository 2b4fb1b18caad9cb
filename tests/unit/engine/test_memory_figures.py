"""What a running engine says of its memory, its pressure and its alerts, in the real module and without a broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eventengine import _native
from eventengine.identities import read_identity
from eventengine_contract.alerts import ALERTS
from eventengine_contract.engine_config import EngineConfig
from eventengine_contract.snapshots import Snapshot

DEADLINE_SECONDS = 20.0
CONFIG: dict[str, Any] = {
    "sources": [{"name": "moves", "type": "tcp", "tcp": {"listen": "127.0.0.1:0", "insecure": True}}],
    "bufferPool": {"chunks": 64},
    "arena": {"capacity": 1024},
}


def make_engine(monitoring: dict[str, Any]) -> _native.Engine:
    config = EngineConfig.model_validate({**CONFIG, "monitoring": monitoring})
    return _native.Engine(json.dumps(config.to_native()), read_identity({}, config).to_native())


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} in time"
        time.sleep(0.05)
    return found


@pytest.fixture
def start() -> Iterator[Callable[..., _native.Engine]]:
    engines: list[_native.Engine] = []

    def start_engine(**monitoring: object) -> _native.Engine:
        engine = make_engine(monitoring)
        engines.append(engine)
        engine.start()
        return engine

    yield start_engine
    for engine in engines:
        engine.stop(5.0)


def samples(engine: _native.Engine, *, least: int) -> Snapshot:
    """The latest sample once so many seconds were closed."""
    seen: set[int] = set()

    def enough() -> Snapshot | None:
        body = engine.snapshot()
        if body is None:
            return None
        snapshot = Snapshot.model_validate_json(body)
        seen.add(snapshot.sampled_at_seconds)
        return snapshot if len(seen) >= least else None

    snapshot: Snapshot = eventually(enough, f"{least} samples")
    return snapshot


def test_memory_is_told_by_allocator_thread_and_process(start):
    engine = start()
    snapshot = samples(engine, least=2)
    allocator = snapshot.allocator
    assert allocator.allocated_bytes
    assert allocator.allocated_bytes <= allocator.active_bytes <= allocator.resident_bytes
    threads = {thread.name: thread for thread in allocator.threads}
    assert {"ee-core", "ee-publisher", "ee-sampler", "ee-tcp", "other"} <= threads.keys()
    sampler = threads["ee-sampler"]
    assert sampler.allocations > 0
    assert sampler.allocations_per_second is not None
    assert sampler.allocated_bytes_per_second is not None
    assert snapshot.process.rss_bytes > allocator.resident_bytes // 2
    assert snapshot.process.rss_growth is None, "nothing is said of growth before its window is over"
    text = engine.metrics().decode()
    assert 'thread_allocations_total{engine="engine"' in text
    assert 'thread="ee-core"' in text
    samples_of_growth = [
        line for line in text.splitlines() if line.startswith("eventengine_process_resident_growth")
    ]
    assert samples_of_growth == []


def test_pressure_is_what_the_kernel_tells_and_absent_where_it_tells_none(start):
    snapshot = samples(engine := start(), least=1)
    text = engine.metrics().decode()
    for resource in ("cpu", "memory", "io"):
        there = Path("/proc/pressure", resource).exists()
        assert (getattr(snapshot.pressure.machine, resource) is not None) == there
        shown = f'scope="machine",resource="{resource}",share="some"' in text
        assert shown == there


def test_every_alert_of_the_contract_is_counted_from_the_start(start):
    snapshot = samples(engine := start(), least=1)
    assert list(snapshot.alerts) == list(ALERTS)
    text = engine.metrics().decode()
    for name in ALERTS:
        assert f'alert="{name}"}}' in text


def test_stalls_and_rollbacks_have_the_limits_of_the_configuration(start):
    snapshot = samples(engine := start(gcPauseAlertMs=7, rollbackSlaMs=150), least=1)
    assert snapshot.stalls.limit_nanoseconds == 7_000_000
    assert snapshot.rollbacks.limit_nanoseconds == 150_000_000
    assert snapshot.rollbacks.count == 0
    text = engine.metrics().decode()
    for name in ("core_stall", "rollback"):
        assert f'eventengine_{name}_seconds_bucket{{engine="engine"' in text
        assert f"# TYPE eventengine_{name}_seconds histogram" in text
        assert f"eventengine_{name}_over_limit_total" in text


def test_heap_profiles_are_written_where_they_were_asked_for(start, tmp_path):
    engine = start(heapProfileDirectory=str(tmp_path), heapProfileInterval="1s")
    (profile, *_) = eventually(lambda: list(tmp_path.glob("eventengine-heap-*.heap")), "heap profile")
    eventually(lambda: b"heap_profiles_written_total{" in engine.metrics(), "count of heap profiles")
    eventually(lambda: profile.read_text().rstrip().count("MAPPED_LIBRARIES:"), "whole profile")
    assert profile.read_text().startswith("heap_v2/")
    assert "_native" in profile.read_text()


def test_a_directory_for_heap_profiles_that_is_not_there_is_refused_with_its_path(tmp_path):
    with pytest.raises(_native.ConfigurationError) as refused:
        make_engine({"heapProfileDirectory": str(tmp_path / "nowhere")})
    path, message = refused.value.args
    assert path == "monitoring.heapProfileDirectory"
    assert message == f"{tmp_path}/nowhere is no directory; mount a writable volume there"
