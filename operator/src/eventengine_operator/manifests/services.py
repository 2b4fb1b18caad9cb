"""The Services of an EventEngine, one for each protocol: telemetry always, ingest where a source listens.

They are apart because they differ: telemetry is wanted of pods that aren't ready too, and a cloud's
load balancer takes one protocol. They have cluster IPs rather than being headless: that can't be
changed later, and clients need an address that outlives the pods.
"""

from __future__ import annotations

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.well_known import PORT_TELEMETRY, PORT_TELEMETRY_NAME, pod_selector

from eventengine_operator.resources.engines import Engine, tcp_ports
from eventengine_operator.resources.objects import Object

from .metadata import owned_object


def services(engine: Engine, spec: EventEngineSpec) -> list[Object]:
    """The Service `<X>` for telemetry, and `<X>-tcp` where a TCP source can be reached; `<X>-pods` with storage."""
    made = [
        _service(engine, engine.name, [(PORT_TELEMETRY_NAME, PORT_TELEMETRY)], with_unready_pods=True),
    ]
    ingest = sorted((port_name(port), port) for _, port in tcp_ports(spec.engine))
    if ingest:
        made.append(_service(engine, tcp_service_name(engine.name), ingest, with_unready_pods=False))
    if spec.storage is not None:
        ports = [(PORT_TELEMETRY_NAME, PORT_TELEMETRY), *ingest]
        made.append(
            _service(engine, pods_service_name(engine.name), ports, with_unready_pods=True, is_headless=True)
        )
    return made


def pods_service_name(engine_name: str) -> str:
    """Name of the Service that gives each pod of a StatefulSet a DNS name of its own."""
    return f"{engine_name}-pods"


def tcp_service_name(engine_name: str) -> str:
    """Name of the Service in front of the TCP sources."""
    return f"{engine_name}-tcp"


def port_name(port: int) -> str:
    """Name of a TCP ingest port, within the 15 characters of a port name."""
    return f"tcp-{port}"


def _service(
    engine: Engine,
    name: str,
    ports: list[tuple[str, int]],
    *,
    with_unready_pods: bool,
    is_headless: bool = False,
) -> Object:
    body: Object = {
        "type": "ClusterIP",
        "selector": pod_selector(engine.name),
        "ports": [
            {"name": port, "port": number, "targetPort": port, "protocol": "TCP"} for port, number in ports
        ],
    }
    if with_unready_pods:
        body["publishNotReadyAddresses"] = True  # a false isn't stored, and would look like drift
    if is_headless:
        body["clusterIP"] = "None"
    return owned_object(engine, "v1", "Service", name, {"spec": body})
