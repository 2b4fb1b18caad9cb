"""EventEngines and cluster objects for the operator's unit tests, as the API server would return them."""

from __future__ import annotations

from typing import Any

from eventengine_operator.resources.engines import Engine, read_engine
from eventengine_operator.resources.objects import Object

UID = "11111111-2222-3333-4444-555555555555"
DEFAULT_IMAGE = "eventengine/engine:0.1.0"

KAFKA_SOURCE: dict[str, Any] = {
    "name": "moves",
    "type": "kafka",
    "kafka": {"bootstrapServers": ["10.99.0.1:9092"], "topic": "hunt-events", "groupId": "hunt"},
}
TCP_SOURCE = {"name": "direct", "type": "tcp", "tcp": {"listen": "0.0.0.0:9400", "insecure": True}}
LAG_METRIC = {"name": "kafka_consumer_lag", "source": "External", "target": {"averageValue": "500"}}
HPA = {"driver": "hpa", "minReplicas": 1, "maxReplicas": 5, "metrics": [LAG_METRIC]}
PINNED = {"pod": {"cpus": "2", "memory": "1Gi", "pinning": "Required"}}
STORED = {
    "pod": {"pinning": "Off"},
    "engine": {
        "sources": [TCP_SOURCE],
        "monitoring": {"heapProfileDirectory": "/var/lib/eventengine/profiles"},
    },
    "storage": {"size": "10Gi", "storageClassName": "fast"},
}
SHARED = {
    "pod": {
        "cpus": "250m",
        "memory": "300Mi",
        "pinning": "Off",
        "template": {
            "labels": {"team": "games", "app.kubernetes.io/name": "mine"},
            "annotations": {"note": "x"},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "priorityClassName": "high",
            "volumes": [{"name": "token", "secret": {"secretName": "ingest-token"}}],
            "volumeMounts": [{"name": "token", "mountPath": "/token", "readOnly": True}],
        },
    },
    "engine": {"sources": [KAFKA_SOURCE, TCP_SOURCE], "drainTimeout": "1500ms"},
    "autoscaling": HPA
    | {
        "metrics": [
            {
                "name": "kafka_consumer_lag",
                "source": "External",
                "selector": {"matchLabels": {"source": "moves"}},
                "target": {"averageValue": "1000"},
            },
            {"name": "buffer_pool_utilisation", "source": "Object", "target": {"value": "0.8"}},
            {"name": "consumer_lag", "source": "Pods", "target": {"averageValue": 500}},
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 0,
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            },
            "scaleDown": {"selectPolicy": "Min", "tolerance": "0.05"},
        },
    },
}


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
