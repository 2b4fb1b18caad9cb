"""The ServiceMonitor of an EventEngine, for clusters with the Prometheus operator."""

from __future__ import annotations

from typing import Final

from eventengine_contract.well_known import LABEL_ENGINE, PORT_TELEMETRY_NAME, engine_labels

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object

from .metadata import owned_object

API_VERSION: Final = "monitoring.coreos.com/v1"


def service_monitor(engine: Engine) -> Object:
    """The ServiceMonitor `<X>`: `/metrics` of every pod behind the telemetry Service, ready or not."""
    body = {
        "selector": {"matchLabels": engine_labels(engine.name)},
        "targetLabels": [LABEL_ENGINE],
        "endpoints": [{"port": PORT_TELEMETRY_NAME, "path": "/metrics"}],
    }
    return owned_object(engine, API_VERSION, "ServiceMonitor", engine.name, {"spec": body})
