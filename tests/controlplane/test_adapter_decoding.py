"""Answers are read by the Go types of k8s.io/metrics, which the autoscaler reads them with, strictly and without loss.

The program in `tests/cluster/builds/metrics-decoder` decodes and writes again: what it gives back is compared with
what it got, because decoders of protobuf pass over what they don't know.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from eventengine_harness import builds
from eventengine_harness.control_planes import LoopbackControlPlane
from eventengine_harness.waiting import wait_for

from .adapters import AdapterPlane
from .hunting import CUSTOM, CUSTOM_OLD, ENGINES, EXTERNAL, FORGED, Hunt, certificate, items

JSON, PROTOBUF = "application/json", "application/vnd.kubernetes.protobuf"
GOLDENS = json.loads((Path(__file__).parents[1] / "goldens" / "metrics_answers.json").read_text())
DECODING_SECONDS_MAX = 60.0
Answer = tuple[str, bytes]
"""Media type and body."""


def decode(*answers: Answer) -> list[dict[str, Any]]:
    """What the Go types make of each answer: `kind`, `json` and `protobuf`, or `error`."""
    questions = [
        json.dumps({"mediaType": kind, "body": base64.b64encode(body).decode()}) for kind, body in answers
    ]
    done = subprocess.run(
        [builds.metrics_decoder()],
        input="\n".join(questions),
        capture_output=True,
        text=True,
        timeout=DECODING_SECONDS_MAX,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def with_empties(content: dict[str, Any]) -> dict[str, Any]:
    """The object with empty items and labels where the Go types write none: in protobuf both are the same."""
    if content.get("items", ()) is None:
        content["items"] = []
    for item in content.get("items", ()):
        if item.get("metricLabels", {}) is None:
            item["metricLabels"] = {}
    return content


@pytest.mark.parametrize("golden", GOLDENS, ids=[golden["name"] for golden in GOLDENS])
def test_golden_answers_lose_nothing_on_the_way_through_the_go_types(golden: dict[str, Any]) -> None:
    as_json = (JSON, json.dumps(golden["content"]).encode())
    as_protobuf = (PROTOBUF, bytes.fromhex(golden["protobuf"]))

    found = decode(as_json, as_protobuf)

    for answer in found:
        assert "error" not in answer
        assert with_empties(answer["json"]) == golden["content"]
        assert base64.b64decode(answer["protobuf"]).hex() == golden["protobuf"]


def test_what_the_go_types_do_not_have_would_be_noticed() -> None:
    external = GOLDENS[0]["content"]
    strange = {**external, "items": [{**external["items"][0], "windowSeconds": 10}]}

    (found,) = decode((JSON, json.dumps(strange).encode()))

    assert 'unknown field "items[0].windowSeconds"' in found["error"]


def test_live_answers_in_both_representations_are_the_same_object_to_the_go_types(
    plane: AdapterPlane, hunt: Hunt, adapter_control_plane: LoopbackControlPlane
) -> None:
    front = certificate(adapter_control_plane, "front-proxy-client")
    where = f"namespaces/{hunt.namespace}"
    selector = "metricLabelSelector=engine%3Dhunt,partition%20notin%20(8,9),!class"
    # The engines close no further sample, so that all answers are about one second.
    last = int(time.time()) + 1
    for state in hunt.states:
        state.stopped_at_seconds = last
        # Kubernetes writes 1000 as 1k; of these numbers there is one spelling only.
        state.partitions = dict.fromkeys(state.partitions, 1007)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last))
    wait_for(lambda: items(plane, hunt.lag)[0]["timestamp"] == stamp, "the last sample", 10)
    paths = {
        f"{EXTERNAL}/{where}/kafka_consumer_lag": 4,
        f"{EXTERNAL}/{where}/kafka_consumer_lag?labelSelector=engine%3Dnobody": 0,
        f"{EXTERNAL}/{where}/ring_utilisation?labelSelector=window_seconds%3D5": 1,
        f"{CUSTOM}/{where}/pods/*/buffer_pool_utilisation": 2,
        f"{CUSTOM}/{where}/{ENGINES}/hunt/consumer_lag?{selector}": 1,
        f"{CUSTOM}/{where}/metrics/consumer_lag": 1,
        f"{CUSTOM_OLD}/{where}/pods/*/consumer_lag?{selector}": 2,
        f"{CUSTOM}/{where}/pods/nobody/consumer_lag": None,
        f"{EXTERNAL}/{where}/kafka_consumer_lag?labelSelector=a%3Db%3Dc": None,
    }
    answers: list[Answer] = []
    for path in paths:
        for accepted in (JSON, PROTOBUF):
            _, headers, body = hunt.adapter.ask(path, {**FORGED, "Accept": accepted}, front)
            assert headers["content-type"] == accepted
            answers.append((accepted, body))

    found = decode(*answers)

    for number, (path, count) in enumerate(paths.items()):
        of_json, of_protobuf = found[2 * number : 2 * number + 2]
        assert "error" not in of_json, path
        assert of_json["protobuf"] == of_protobuf["protobuf"], path
        for of_either in (of_json, of_protobuf):
            assert with_empties(of_either["json"]) == json.loads(answers[2 * number][1]), path
        assert base64.b64decode(of_protobuf["protobuf"]) == answers[2 * number + 1][1], path
        if count is None:
            assert of_json["json"]["kind"] == "Status"
        else:
            assert len(of_json["json"]["items"]) == count
