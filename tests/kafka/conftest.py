"""One real broker serves all tests of this tier; each test has topics and groups of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from eventengine_harness.brokers import Broker, LoopbackKafka
from eventengine_harness.engines import EngineProcesses


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
