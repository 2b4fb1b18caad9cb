"""Faults that the CRD's schema can't express, each with its path and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest
from eventengine_operator.resources.engines import read_engine

from .samples import KAFKA_SOURCE, TCP_SOURCE, engine, engine_object


def faults(**spec: Any) -> list[str]:
    return [str(fault) for fault in engine(**spec).faults]


def test_valid_engine_has_a_spec_and_no_fault() -> None:
    read = engine(engine={"sources": [KAFKA_SOURCE, TCP_SOURCE]})
    assert read.faults == ()
    assert read.spec is not None
    assert read.spec.pod.cpus_millis == 1000


def test_unknown_key_is_named_with_the_nearest_known_one() -> None:
    (fault,) = faults(engine={"bufferPol": {"chunks": 64}})
    assert fault == "spec.engine.bufferPol: unknown key; did you mean `bufferPool`?"


def test_unknown_key_deep_in_a_list_has_its_whole_path() -> None:
    source = KAFKA_SOURCE | {"kafka": {"bootstrapServers": ["b:1"], "topic": "t", "startFron": "latest"}}
    (fault,) = faults(engine={"sources": [source]})
    assert fault.startswith("spec.engine.sources[0].kafka.startFron: unknown key; did you mean `startFrom`")


def test_forbidden_kafka_property_is_refused() -> None:
    source = KAFKA_SOURCE | {
        "kafka": {"bootstrapServers": ["b:1"], "topic": "t", "properties": {"enable.idempotence": "false"}}
    }
    (fault,) = faults(engine={"sources": [source]})
    assert "spec.engine.sources[0].kafka.properties" in fault
    assert "enable.idempotence" in fault


@pytest.mark.parametrize("address", ["0.0.0.0:9999", "127.0.0.1:9464"])
def test_telemetry_must_stay_where_probes_and_adapter_look(address: str) -> None:
    (fault,) = faults(engine={"telemetry": {"listen": address}})
    assert fault.startswith("spec.engine.telemetry.listen: probes and metrics need port 9464")


def test_two_listeners_on_one_port_are_refused() -> None:
    sources = [TCP_SOURCE, TCP_SOURCE | {"name": "other"}]
    (fault,) = faults(engine={"sources": sources})
    assert fault == (
        "spec.engine.sources[1].tcp.listen: port 9400 is taken by spec.engine.sources[0].tcp.listen; choose another"
    )


def test_volume_on_the_operators_own_name_is_refused() -> None:
    pod = {"template": {"volumes": [{"name": "engine-config", "emptyDir": {}}]}}
    (fault,) = faults(pod=pod)
    assert fault.startswith("spec.pod.template.volumes[0].name")


def test_fault_outside_the_engine_section_has_its_path() -> None:
    (fault,) = faults(autoscaling={"driver": "hpa", "minReplicas": 0, "metrics": []})
    assert fault.startswith("spec.autoscaling.minReplicas: ")


@pytest.mark.parametrize("spec", [None, [], "text", {"engine": 5}, {"engine": {"sources": [None]}}])
def test_nonsense_is_a_fault_or_empty_and_never_an_exception(spec: Any) -> None:
    source = engine_object() | {"spec": spec}
    read = read_engine(source)
    assert (read.spec is None) == bool(read.faults)


def test_paused_by_annotation() -> None:
    source = engine_object()
    source["metadata"]["annotations"] = {"eventengine.dev/paused": "true"}
    assert read_engine(source).is_paused
