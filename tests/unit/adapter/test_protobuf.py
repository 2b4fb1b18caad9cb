"""Protobuf answers, byte for byte as the Go types of Kubernetes 1.36 write the same objects.

The texts below were printed by k8s.io/apimachinery's protobuf serializer over the types of k8s.io/metrics 0.36.
"""

from __future__ import annotations

from typing import Any

import pytest
from eventengine_adapter.apis import protobuf

STAMP = "2026-11-21T10:00:00Z"
POD = {"kind": "Pod", "namespace": "default", "name": "hunt-a", "apiVersion": "v1"}
SELECTOR = {
    "matchLabels": {"engine": "hunt"},
    "matchExpressions": [{"key": "partition", "operator": "In", "values": ["1", "2"]}],
}

EXTERNAL = {
    "kind": "ExternalMetricValueList",
    "apiVersion": "external.metrics.k8s.io/v1beta1",
    "metadata": {},
    "items": [
        {
            "metricName": "consumer_lag",
            "metricLabels": {"partition": "0", "engine": "hunt"},
            "timestamp": STAMP,
            "window": 0,
            "value": "7",
        },
        {
            "metricName": "shed_events_per_second",
            "metricLabels": {},
            "timestamp": STAMP,
            "window": 10,
            "value": "1250m",
        },
    ],
}
EXTERNAL_BYTES = """
6b3873000a3a0a1f65787465726e616c2e6d6574726963732e6b38732e696f2f76316265746131121745787465726e616c4d657472696356616c7565
4c69737412780a060a0012001a00123f0a0c636f6e73756d65725f6c6167120e0a06656e67696e65120468756e74120e0a09706172746974696f6e12
01301a0808a0d785d806100020002a030a0137122d0a16736865645f6576656e74735f7065725f7365636f6e641a0808a0d785d8061000200a2a070a
05313235306d1a002200
"""

CUSTOM = {
    "kind": "MetricValueList",
    "apiVersion": "custom.metrics.k8s.io/v1beta2",
    "metadata": {},
    "items": [
        {
            "describedObject": POD,
            "metric": {"name": "consumer_lag", "selector": SELECTOR},
            "timestamp": STAMP,
            "windowSeconds": 0,
            "value": "20",
        }
    ],
}
CUSTOM_BYTES = """
6b3873000a300a1d637573746f6d2e6d6574726963732e6b38732e696f2f76316265746132120f4d657472696356616c75654c69737412770a060a00
12001a00126d0a200a03506f64120764656661756c741a0668756e742d6122002a02763132003a0012370a0c636f6e73756d65725f6c616712270a0e
0a06656e67696e65120468756e7412150a09706172746974696f6e1202496e1a01311a01321a0808a0d785d806100020002a040a0232301a002200
"""

CUSTOM_OLD = {
    "kind": "MetricValueList",
    "apiVersion": "custom.metrics.k8s.io/v1beta1",
    "metadata": {},
    "items": [
        {
            "describedObject": POD,
            "metricName": "consumer_lag",
            "timestamp": STAMP,
            "window": 10,
            "value": "20",
            "selector": SELECTOR,
        }
    ],
}
CUSTOM_OLD_BYTES = """
6b3873000a300a1d637573746f6d2e6d6574726963732e6b38732e696f2f76316265746131120f4d657472696356616c75654c69737412750a060a00
12001a00126b0a200a03506f64120764656661756c741a0668756e742d6122002a02763132003a00120c636f6e73756d65725f6c61671a0808a0d785
d8061000200a2a040a02323032270a0e0a06656e67696e65120468756e7412150a09706172746974696f6e1202496e1a01311a01321a002200
"""

STATUS = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "stale",
    "reason": "ServiceUnavailable",
    "code": 503,
}
STATUS_BYTES = """
6b3873000a0c0a0276311206537461747573122f0a060a0012001a0012074661696c7572651a057374616c65221253657276696365556e617661696c
61626c6530f7031a002200
"""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(EXTERNAL, EXTERNAL_BYTES, id="external"),
        pytest.param(CUSTOM, CUSTOM_BYTES, id="custom-v1beta2"),
        pytest.param(CUSTOM_OLD, CUSTOM_OLD_BYTES, id="custom-v1beta1"),
        pytest.param(STATUS, STATUS_BYTES, id="status"),
    ],
)
def test_an_answer_is_what_kubernetes_itself_would_write(content: dict[str, Any], expected: str) -> None:
    assert protobuf.encode(content).hex() == "".join(expected.split())


def test_what_has_no_protobuf_form_is_refused() -> None:
    with pytest.raises(ValueError, match="APIGroupList has no protobuf form"):
        protobuf.encode({"kind": "APIGroupList", "apiVersion": "v1"})
