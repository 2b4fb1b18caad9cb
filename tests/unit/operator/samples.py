"""EventEngines and cluster objects for the operator's unit tests, as the API server would return them."""

from __future__ import annotations

from typing import Any

from eventengine_operator.resources.engines import Engine, read_engine
from eventengine_operator.resources.objects import Object

UID = "11111111-2222-3333-4444-555555555555"
DEFAULT_IMAGE = "eventengine/engine:0.1.0"

KAFKA_SOURCE = {
    "name": "moves",
    "type": "kafka",
    "kafka": {"bootstrapServers": ["10.99.0.1:9092"], "topic": "hunt-events", "groupId": "hunt"},
}
TCP_SOURCE = {"name": "direct", "type": "tcp", "tcp": {"listen": "0.0.0.0:9400", "insecure": True}}
LAG_METRIC = {"name": "kafka_consumer_lag", "source": "External", "target": {"averageValue": "500"}}
HPA = {"driver": "hpa", "minReplicas": 1, "maxReplicas": 5, "metrics": [LAG_METRIC]}


def engine_object(name: str = "hunt", generation: int = 1, **spec: Any) -> Object:
    """An EventEngine with the defaults that the CRD fills in."""
    pod = {"cpus": "1", "memory": "512Mi", "pinning": "Required"} | spec.pop("pod", {})
    return {
        "apiVersion": "eventengine.dev/v1alpha1",
        "kind": "EventEngine",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": UID,
            "generation": generation,
            "resourceVersion": "100",
        },
        "spec": {"pod": pod, "engine": {"sources": [KAFKA_SOURCE]}} | spec,
    }


def engine(**spec: Any) -> Engine:
    """The same, read."""
    return read_engine(engine_object(**spec))


def live(manifest: Object, **changes: Any) -> Object:
    """A manifest as it stands in the cluster: with uid, resource version, and changes to metadata."""
    metadata = manifest["metadata"] | {"uid": f"uid-of-{manifest['kind']}", "resourceVersion": "7"} | changes
    return manifest | {"metadata": metadata}
