"""The native module as Python sees it: its stub is true, its build is this checkout's, its refusals are readable."""

from __future__ import annotations

import io
import json
import logging
import runpy
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from eventengine import _native, logs
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


def logged(*, level: str, form: str) -> list[str]:
    """Lines of a process whose engine was made, and told to stop."""
    code = (
        "import sys; from eventengine import _native;"
        "_native.set_up_log(sys.argv[1], sys.argv[2]);"
        "_native.Engine(sys.argv[3], sys.argv[4]).stop(0)"
    )
    config = EngineConfig.model_validate({**CONFIG, "bufferPool": {"chunks": 64}})
    texts = (json.dumps(config.to_native()), read_identity({}, config).to_native())
    finished = subprocess.run(
        [sys.executable, "-c", code, level, form, *texts],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return finished.stderr.splitlines()


def test_the_native_half_logs_the_lines_that_the_python_half_logs():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    handler.emit(logging.LogRecord("eventengine.running", logging.WARNING, "", 0, "not ready", None, None))
    of_python = json.loads(stream.getvalue())
    for of_native in map(json.loads, logged(level="warning", form="json")):
        assert list(of_native) == list(of_python) == ["time", "level", "logger", "message"]
        assert datetime.fromisoformat(of_native["time"]).utcoffset() == timedelta(0)
        assert len(of_native["time"]) == len(of_python["time"]) == len("2026-11-21T10:00:00.042Z")
        assert of_native["level"] == of_python["level"] == "warning"
        assert of_native["logger"] == "eventengine.native.engine"
        assert of_native["message"].startswith("not ready: ")


def test_the_native_half_keeps_to_level_and_form_of_the_command_line():
    assert logged(level="error", form="json") == []
    lines = logged(level="info", form="text")
    assert lines
    assert all(line.endswith(" component=engine") and " warning not ready: " in line for line in lines)
    for level, form in (("loud", "json"), ("info", "xml")):
        with pytest.raises(_native.ConfigurationError):
            _native.set_up_log(level, form)


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
