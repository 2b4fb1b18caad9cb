"""The NetworkPolicy of an EventEngine: connections come in on the declared ports, and on no others.

Who may connect is left to tokens: telemetry is read by the adapter, the operator and whatever monitoring
a cluster has, and clients of an ingest port are anywhere. What goes out is not restricted, for the
brokers of a user are not the operator's to know.
"""

from __future__ import annotations

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.pod_metrics import pod_metrics
from eventengine_contract.well_known import PORT_TELEMETRY, pod_selector

from eventengine_operator.resources.engines import Engine, tcp_ports
from eventengine_operator.resources.objects import Object

from .metadata import owned_object


def network_policy(engine: Engine, spec: EventEngineSpec) -> Object:
    """The NetworkPolicy `<X>`."""
    endpoint = pod_metrics(spec.pod.template.annotations)
    of_endpoint = [endpoint.port] if endpoint is not None else []
    ports = sorted({PORT_TELEMETRY, *of_endpoint, *(port for _, port in tcp_ports(spec.engine))})
    body = {
        "podSelector": {"matchLabels": pod_selector(engine.name)},
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": [{"protocol": "TCP", "port": port} for port in ports]}],
    }
    return owned_object(engine, "networking.k8s.io/v1", "NetworkPolicy", engine.name, {"spec": body})
