"""The native module as Python sees it: its stub is true, its build is this checkout's, its refusals are readable."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from eventengine import _native
from eventengine.cli import main
from eventengine.identities import read_identity
from eventengine.plans import Hunt, LoadPlan, Schedule, TcpTarget
from eventengine_contract.engine_config import EngineConfig

ROOT = Path(__file__).resolve().parents[3]
CONFIG = {
    "sources": [
        {
            "name": "moves",
            "type": "kafka",
            "kafka": {"bootstrapServers": ["localhost:1"], "topic": "hunt-events"},
        }
    ]
}


def make_engine(**sections: object) -> _native.Engine:
    config = EngineConfig.model_validate({**CONFIG, "bufferPool": {"chunks": 64}, **sections})
    return _native.Engine(json.dumps(config.to_native()), read_identity({}, config).to_native())


def test_the_stub_says_what_the_module_has():
    finished = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "eventengine._native"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )
    assert finished.returncode == 0, finished.stdout


def test_the_module_was_built_from_the_sources_of_this_checkout(capsys):
    build = _native.build_info()
    source_hash = runpy.run_path(str(ROOT / "tools" / "native.py"))["source_hash"]
    assert build["source_hash"] == source_hash(), "run `make native`"
    assert main(["version"]) == 0
    assert f"source_hash: {build['source_hash']}" in capsys.readouterr().out


def test_an_engine_that_was_not_started_is_live_and_not_ready():
    engine = make_engine()
    readiness = json.loads(engine.readiness())
    assert (readiness["ready"], readiness["live"]) == (False, True)
    assert readiness["reasons"]
    assert engine.snapshot() is None
    assert engine.snapshot(0) is None
    assert b"eventengine_" in engine.metrics()
    assert engine.stop(1.0)


def test_a_configuration_that_only_the_native_half_can_refuse_names_its_path():
    with pytest.raises(_native.ConfigurationError) as refused:
        _native.Engine("{}", "{}")
    _path, message = refused.value.args
    assert message


def test_a_plan_that_can_not_be_used_names_its_path():
    plan = LoadPlan(TcpTarget("localhost:1"), Schedule("constant", 1.0, 1), Hunt(districts=0))
    with pytest.raises(_native.ConfigurationError) as refused:
        _native.LoadGenerator(json.dumps(plan.to_native()))
    assert refused.value.args == ("hunt", "players, team_size and districts must be above 0")


def test_a_load_that_was_not_started_has_nothing_to_tell():
    plan = LoadPlan(TcpTarget("localhost:1"), Schedule("constant", 1.0, 1))
    generator = _native.LoadGenerator(json.dumps(plan.to_native()))
    for ask in (generator.progress, generator.result, lambda: generator.wait(0)):
        with pytest.raises(_native.EngineError, match="not started"):
            ask()
