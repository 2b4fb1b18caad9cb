"""One real broker serves all tests of this tier; each test has topics and groups of its own."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator

import pytest
from eventengine_harness.broker_proxies import BrokerProxy
from eventengine_harness.brokers import Broker, LoopbackKafka
from eventengine_harness.control_planes import free_port
from eventengine_harness.engines import EngineProcesses
from eventengine_harness.hunt_stages import HuntStage
from eventengine_harness.processes import tail_of


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """A broker on loopback, shared by the whole tier; leave it running."""
    with LoopbackKafka() as running:
        yield running.broker


@pytest.fixture
def unique() -> str:
    """A name for this test's topics, groups and transactional ids."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def own_kafka() -> Iterator[Broker]:
    """A broker that the test may stop and kill."""
    with LoopbackKafka() as running:
        yield running.broker


@pytest.fixture
def processes() -> Iterator[EngineProcesses]:
    """Engines, loads and audits as processes; all have ended when the test has."""
    with EngineProcesses() as running:
        yield running


@pytest.fixture
def stage(kafka: Broker, processes: EngineProcesses, unique: str) -> HuntStage:
    """A hunt with topics of its own on the shared broker."""
    hunt = HuntStage(kafka, processes, unique)
    hunt.create_topics()
    return hunt


@pytest.fixture
def own_stage(own_kafka: Broker, processes: EngineProcesses, unique: str) -> HuntStage:
    """A hunt on a broker that the test may stop; its topics are not created yet."""
    return HuntStage(own_kafka, processes, unique)


@pytest.fixture
def broker_proxy() -> Iterator[BrokerProxy]:
    """What stands before the broker of `proxied_stage`."""
    with BrokerProxy(free_port()) as running:
        yield running


@pytest.fixture
def proxied_stage(broker_proxy: BrokerProxy, processes: EngineProcesses, unique: str) -> Iterator[HuntStage]:
    """A hunt on a broker that everybody reaches through the proxy; its topics are not created yet."""
    with LoopbackKafka(port=broker_proxy.broker_port, advertised_port=broker_proxy.port) as running:
        yield HuntStage(running.broker, processes, unique)


@pytest.fixture(autouse=True)
def _logs_of_a_failed_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show what the processes wrote if the test fails: their files go with them."""
    failed_before = request.session.testsfailed
    running = request.getfixturevalue("processes") if "processes" in request.fixturenames else None
    yield
    if running is not None and request.session.testsfailed > failed_before:
        for process in running.started():
            sys.stdout.write(f"--- {process.name}\n{tail_of(process.log, lines=60)}\n")
