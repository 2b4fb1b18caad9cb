"""A pod that the operator's workload asked for, played by the test: it runs, and owns partitions with a lag."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from confluent_kafka import Producer
from eventengine_harness.brokers import Broker

from .adapters import EnginePodServer, EngineState
from .engines import ADDRESSES
from .spaces import Space

TELEMETRY_PORT = 9464
"""Where the operator asks an engine; the adapter is told to ask there, too."""
TOPIC = "hunt-events"


def kafka_source(bootstrap_servers: str, **settings: object) -> dict[str, object]:
    """The source whose partitions such a pod owns."""
    kafka = {"bootstrapServers": [bootstrap_servers], "topic": TOPIC, "groupId": "hunt"}
    return {"name": "moves", "type": "kafka", "kafka": kafka | settings}


def produce(broker: Broker, topic: str, count: int) -> None:
    """So many records, without a transaction."""
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    for _ in range(count):
        producer.produce(topic, b"event", partition=0)
    assert producer.flush(10) == 0


@contextlib.contextmanager
def running_pod(space: Space, lags_events: Sequence[int], topic: str = TOPIC) -> Iterator[EngineState]:
    """Have the engine's one pod run and own all partitions, which have these lags; gives what it measures."""
    (name,) = space.pods(1)
    lags = dict(enumerate(lags_events))
    state = EngineState("hunt", space.namespace, name, lags, partitions_total=len(lags), topic=topic)
    address = next(ADDRESSES)
    server = EnginePodServer(address, TELEMETRY_PORT, state)
    container = {
        "name": "engine",
        "image": "example.invalid/engine:1",
        "imageID": "",
        "ready": True,
        "restartCount": 0,
        "containerID": f"containerd://{name}",
        "state": {"running": {"startedAt": "2026-11-21T10:00:00Z"}},
    }
    space.set_pod_status(
        name,
        {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [container],
        },
    )
    try:
        yield state
    finally:
        server.close()
