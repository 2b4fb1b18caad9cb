"""The Service of an EventEngine: telemetry always, ingest where a TCP source listens.

It has a cluster IP rather than being headless: that can't be changed later, and an
engine that gains a TCP source needs an address that outlives its pods.
"""

from __future__ import annotations

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.well_known import PORT_TELEMETRY, PORT_TELEMETRY_NAME, pod_selector

from eventengine_operator.resources.engines import Engine, tcp_ports
from eventengine_operator.resources.objects import Object

from .metadata import owned_object


def service(engine: Engine, spec: EventEngineSpec) -> Object:
    """The Service `<X>`."""
    telemetry = _port(PORT_TELEMETRY_NAME, PORT_TELEMETRY)
    ingest = [_port(port_name(port), port) for _, port in tcp_ports(spec.engine)]
    return owned_object(
        engine,
        "v1",
        "Service",
        engine.name,
        {
            "spec": {
                "type": "ClusterIP",
                "selector": pod_selector(engine.name),
                "ports": sorted([telemetry, *ingest], key=lambda entry: int(entry["port"])),
            }
        },
    )


def port_name(port: int) -> str:
    """Name of a TCP ingest port, within the 15 characters of a port name."""
    return f"tcp-{port}"


def _port(name: str, port: int) -> Object:
    return {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
