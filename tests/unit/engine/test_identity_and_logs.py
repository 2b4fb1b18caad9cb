"""The engine's identity as its environment tells it, and the form of its logs."""

from __future__ import annotations

import io
import json
import logging

import pytest
from eventengine import logs
from eventengine.identities import name_from_environment, read_identity
from eventengine_contract.engine_config import EngineConfig
from eventengine_contract.loading import ConfigurationError


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def config(**keys: object) -> EngineConfig:
    return EngineConfig.model_validate(keys)


def test_the_environment_names_engine_namespace_pod_and_limits():
    identity = read_identity(
        {
            "EVENTENGINE_ENGINE": "hunt",
            "EVENTENGINE_NAMESPACE": "games",
            "EVENTENGINE_POD": "hunt-1",
            "EVENTENGINE_CPU_LIMIT_MILLICORES": "1000",
            "EVENTENGINE_MEMORY_LIMIT_BYTES": "268435456",
            "EVENTENGINE_PINNING": "Required",
        },
        config(),
    )
    native = json.loads(identity.to_native())
    assert len(native.pop("incarnation")) == 32
    assert native == {
        "engine": "hunt",
        "namespace": "games",
        "pod": "hunt-1",
        "cpu_limit_millicores": 1000,
        "memory_limit_bytes": 268435456,
        "pinning": "Required",
    }


def test_without_an_environment_the_engine_is_a_local_one():
    identity = read_identity({}, config(name="hunt"))
    assert (identity.engine, identity.namespace, identity.pinning) == ("hunt", "default", "Off")
    assert identity.pod
    assert (identity.cpu_limit_millicores, identity.memory_limit_bytes) == (None, None)


def test_each_start_is_another_incarnation():
    assert read_identity({}, config()).incarnation != read_identity({}, config()).incarnation


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("EVENTENGINE_CPU_LIMIT_MILLICORES", "0"),
        ("EVENTENGINE_CPU_LIMIT_MILLICORES", "½"),
        ("EVENTENGINE_MEMORY_LIMIT_BYTES", "-5"),
        ("EVENTENGINE_PINNING", "required"),
    ],
)
def test_a_variable_that_can_not_be_used_is_named(variable, text):
    with pytest.raises(ConfigurationError, match=variable):
        read_identity({variable: text}, config())


def test_an_engine_that_names_itself_keeps_its_name():
    environment = {"EVENTENGINE_ENGINE": "hunt"}
    assert name_from_environment(environment, config()).group_id == "hunt"
    assert name_from_environment(environment, config(name="own")).group_id == "own"


def test_a_log_line_is_one_json_object_with_its_fields():
    stream = io.StringIO()
    logs.set_up(form="json", stream=stream)
    logging.getLogger("x").info("not ready\nat all", extra=logs.fields(reasons=["broker away"], level="mine"))
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert record["message"] == "not ready\nat all"
    assert record["reasons"] == ["broker away"]
    assert record["level"] == "info"


def test_text_quotes_what_holds_spaces():
    stream = io.StringIO()
    logs.set_up(form="text", stream=stream)
    logging.getLogger("x").warning("starting", extra=logs.fields(engine="hunt", program="treasure hunt"))
    assert stream.getvalue().endswith('warning starting engine=hunt program="treasure hunt"\n')
