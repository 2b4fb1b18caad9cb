"""Protobuf answers, byte for byte as the Go types of Kubernetes 1.36 write the same objects.

The golden answers were printed by k8s.io/apimachinery's protobuf serializer over the types of k8s.io/metrics 0.36; the
tier controlplane decodes the same file with these types.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eventengine_adapter.apis import protobuf

GOLDENS = json.loads((Path(__file__).parents[2] / "goldens" / "metrics_answers.json").read_text())


@pytest.mark.parametrize("golden", GOLDENS, ids=[golden["name"] for golden in GOLDENS])
def test_an_answer_is_what_kubernetes_itself_would_write(golden: dict[str, Any]) -> None:
    assert protobuf.encode(golden["content"]).hex() == golden["protobuf"]


def test_what_has_no_protobuf_form_is_refused() -> None:
    with pytest.raises(ValueError, match="APIGroupList has no protobuf form"):
        protobuf.encode({"kind": "APIGroupList", "apiVersion": "v1"})
