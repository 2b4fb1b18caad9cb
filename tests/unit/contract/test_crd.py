"""The generated CRD: structural, complete, described, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from eventengine_contract.event_engine import AutoscalingMetric
from eventengine_contract.generating import crd, engine_schema, generated_files
from eventengine_contract.metric_names import METRICS

SCHEMA = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        yield from nodes(node["additionalProperties"], f"{path}{{}}")


def test_every_node_has_a_type_or_says_that_it_has_several() -> None:
    for path, node in nodes(SCHEMA):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), path


def test_no_keyword_is_used_that_structural_schemas_forbid() -> None:
    for path, node in nodes(SCHEMA):
        assert not {"$ref", "anyOf", "oneOf", "const", "title", "exclusiveMinimum"} & set(node), path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_every_field_of_the_specification_is_described() -> None:
    for path, node in nodes(SCHEMA["properties"]["spec"], "spec"):
        if not path.endswith(("[]", "{}")):
            assert node.get("description"), path


def test_every_list_map_and_text_has_a_bound() -> None:
    for path, node in nodes(SCHEMA["properties"]["spec"], "spec"):
        if node.get("x-kubernetes-preserve-unknown-fields") or "enum" in node:
            continue
        if node.get("type") == "array":
            assert "maxItems" in node, path
        if node.get("type") == "string":
            assert "maxLength" in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


def test_below_engine_both_spellings_of_a_key_are_known() -> None:
    engine = SCHEMA["properties"]["spec"]["properties"]["engine"]
    assert engine["properties"]["buffer_pool"]["properties"]["chunk_bytes"]["maximum"] == 4096
    assert engine["properties"]["bufferPool"]["properties"]["chunkBytes"]["maximum"] == 4096


def test_outside_engine_the_api_knows_one_spelling_only() -> None:
    assert "max_replicas" not in SCHEMA["properties"]["spec"]["properties"]["autoscaling"]["properties"]


def test_a_required_key_may_come_in_either_spelling() -> None:
    sources = SCHEMA["properties"]["spec"]["properties"]["engine"]["properties"]["sources"]
    kafka = sources["items"]["properties"]["kafka"]
    assert kafka["required"] == ["topic"]
    rules = [rule["rule"] for rule in kafka["x-kubernetes-validations"]]
    assert "has(self.bootstrapServers) || has(self.bootstrap_servers)" in rules


def test_scale_and_status_are_subresources() -> None:
    subresources = crd()["spec"]["versions"][0]["subresources"]
    assert subresources["status"] == {}
    assert subresources["scale"]["specReplicasPath"] == ".spec.replicas"


def test_autoscaling_takes_exactly_the_metrics_that_the_adapter_serves() -> None:
    assert set(get_args(AutoscalingMetric.model_fields["name"].annotation)) == set(METRICS)


def test_the_json_schema_of_engine_yaml_holds_nothing_of_kubernetes() -> None:
    assert "kubernetes" not in engine_schema()


@pytest.mark.parametrize("path", sorted(generated_files()))
def test_a_generated_file_says_so(path: str) -> None:
    assert "Do not edit" in generated_files()[path]
