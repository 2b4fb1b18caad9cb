"""The load keeps its schedule against a real broker, and the audit sees through every way to be inexact.

No engine takes part: outputs are written by hand, in transactions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from eventengine_harness.brokers import Broker
from eventengine_harness.engines import EngineProcesses
from eventengine_harness.records import read_topic
from eventengine_harness.waiting import wait_for

TIMEOUT_SECONDS = 20


def load(processes: EngineProcesses, kafka: Broker, topic: str, *arguments: str) -> dict[str, Any]:
    """Run a load to its end; returns its result."""
    path = processes.folder / "result.json"
    status, output = processes.call(
        *("load", "--bootstrap", kafka.bootstrap_servers, "--topic", topic, "--result", str(path), *arguments)
    )
    assert status == 0, output
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_a_load_sends_each_sequence_once_and_the_same_seed_sends_the_same(
    kafka: Broker, processes: EngineProcesses, unique: str
) -> None:
    arguments = (
        "--partitions",
        "4",
        "--rate",
        "2000",
        "--duration",
        "1s",
        "--first-producer",
        "5",
        "--seed",
        "9",
    )
    result = load(processes, kafka, f"{unique}-a", *arguments, "--arrivals", "poisson")
    load(processes, kafka, f"{unique}-b", *arguments, "--arrivals", "poisson")
    first, second = (
        [json.loads(record.value) for record in read_topic(kafka.bootstrap_servers, f"{unique}-{name}")]
        for name in "ab"
    )
    assert len(first) == result["intended"] == result["acknowledged"] > 1500
    sent = Counter((event["producer"], event["sequence"]) for event in first)
    expected = {
        (item["producer"], sequence)
        for item in result["producers"]
        for sequence in range(item["last_sequence"] + 1)
    }
    assert set(sent) == expected
    assert set(sent.values()) == {1}

    def content(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: value for name, value in event.items() if name != "sent_at_ns"} for event in events]

    assert content(first) == content(second)


def test_events_of_one_key_lie_in_the_partition_that_java_clients_choose(
    kafka: Broker, processes: EngineProcesses, unique: str
) -> None:
    load(
        processes,
        kafka,
        unique,
        "--partitions",
        "7",
        "--rate",
        "500",
        "--duration",
        "1s",
        "--key",
        "district-team",
    )
    for record in read_topic(kafka.bootstrap_servers, unique):
        assert record.key is not None
        event = json.loads(record.value)
        assert record.key.decode() == f"{event['district']}/{event['team']}"
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 7


def murmur2(data: bytes) -> int:
    """Kafka's murmur2, as its protocol guide gives it."""
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    state = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * multiplier & mask
        word = (word ^ (word >> 24)) * multiplier & mask
        state = (state * multiplier & mask) ^ word
    if rest := data[whole:]:
        state = (state ^ int.from_bytes(rest, "little")) * multiplier & mask
    state = (state ^ (state >> 13)) * multiplier & mask
    return state ^ (state >> 15)


def test_a_burst_opens_its_districts_at_once_and_adds_to_the_rate(
    kafka: Broker, processes: EngineProcesses, unique: str
) -> None:
    burst = "at=1s,duration=500ms,rate=2000,districts=10"
    load(processes, kafka, unique, "--partitions", "2", "--rate", "100", "--duration", "2s", "--burst", burst)
    events = [json.loads(record.value) for record in read_topic(kafka.bootstrap_servers, unique)]
    opened = [event for event in events if event["kind"] == "district_opened"]
    assert len({event["district"] for event in opened}) == len(opened) == 10
    (opened_at,) = {event["sent_at_ns"] for event in opened}
    within = [event for event in events if opened_at <= event["sent_at_ns"] < opened_at + 500_000_000]
    assert abs(len(within) - 1060) <= 2
    assert abs(len(events) - 1210) <= 2


def test_a_stalled_broker_shows_in_the_latency_and_costs_no_event(
    own_kafka: Broker, processes: EngineProcesses, unique: str
) -> None:
    own_kafka.create_topic(unique, 4)
    path = processes.folder / "result.json"
    running = processes.start(
        *("load", "--bootstrap", own_kafka.bootstrap_servers, "--topic", unique, "--result", path),
        *("--rate", "500", "--duration", "8s"),
    )
    wait_for(lambda: "intended" in running.log, "the load's first second", TIMEOUT_SECONDS)
    own_kafka.restart()
    assert running.wait() == 0, running.log
    result = json.loads(path.read_text())
    assert result["intended"] == result["acknowledged"] == 4000
    assert len(read_topic(own_kafka.bootstrap_servers, unique)) == 4000
    # The broker was away for a second at least: whoever was meant to be sent then waited for it.
    assert result["latency"]["max_nanoseconds"] > 1_000_000_000
    assert result["latency"]["p99_nanoseconds"] > result["latency"]["p50_nanoseconds"]


def test_a_load_without_a_broker_or_topic_says_so(
    kafka: Broker, processes: EngineProcesses, unique: str
) -> None:
    status, output = processes.call("load", "--bootstrap", kafka.bootstrap_servers, "--topic", unique)
    assert status == 1
    assert f"the topic {unique} doesn't exist" in output


def output_of(producer: int, sequence: int, offset: int) -> bytes:
    return json.dumps(
        {"producer": producer, "sequence": sequence, "version": {"partition": 0, "offset": offset}}
    ).encode()


class Outputs:
    """An output topic that the test writes, and the audit of it."""

    def __init__(self, kafka: Broker, processes: EngineProcesses, topic: str) -> None:
        kafka.create_topic(topic, 2)
        self._kafka, self._processes, self._topic = kafka, processes, topic
        self.report: dict[str, Any] = {}
        settings = {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic, "log_level": 0}
        self.producer = Producer(settings)
        self.producer.init_transactions(TIMEOUT_SECONDS)

    def write(self, values: Iterable[bytes], *, commit: bool = True) -> None:
        self.producer.begin_transaction()
        for value in values:
            self.producer.produce(self._topic, value, partition=0)
        self.producer.flush(TIMEOUT_SECONDS)
        if commit:
            self.producer.commit_transaction(TIMEOUT_SECONDS)
        else:
            self.producer.abort_transaction(TIMEOUT_SECONDS)

    def audit(self, last_sequence: int, *arguments: str) -> int:
        expect: Path = self._processes.folder / "expect.json"
        producers = [{"producer": 1, "last_sequence": last_sequence}]
        expect.write_text(json.dumps({"version": 1, "producers": producers, "malformed": {}}))
        report = self._processes.folder / "report.json"
        status, output = self._processes.call(
            *("audit", "--bootstrap", self._kafka.bootstrap_servers, "--topic", self._topic),
            *("--expect", str(expect), "--report", str(report), *arguments),
        )
        assert report.exists(), output
        self.report = json.loads(report.read_text())
        return status


@pytest.fixture
def outputs(kafka: Broker, processes: EngineProcesses, unique: str) -> Outputs:
    return Outputs(kafka, processes, unique)


def test_an_audit_counts_committed_outputs_only(outputs: Outputs) -> None:
    outputs.write([output_of(1, 0, 0), output_of(1, 1, 1)])
    outputs.write([output_of(1, 2, 2), output_of(1, 0, 0)], commit=False)
    outputs.write([output_of(1, 2, 2)])
    assert outputs.audit(2) == 0
    assert outputs.report["exact"]
    assert outputs.report["settled"]
    assert (outputs.report["expected"], outputs.report["records"]) == (3, 3)


@pytest.mark.parametrize(
    ("values", "kind", "example"),
    [
        ([output_of(1, 0, 0), output_of(1, 2, 2)], "missing", {"producer": 1, "sequence": 1}),
        (
            [output_of(1, 0, 0), output_of(1, 1, 1), output_of(1, 1, 1), output_of(1, 2, 2)],
            "duplicates",
            {"producer": 1, "sequence": 1, "offset": 2},
        ),
        (
            [output_of(1, 0, 0), output_of(1, 1, 1), output_of(1, 2, 2), output_of(1, 3, 3)],
            "extra",
            {"producer": 1, "sequence": 3},
        ),
        (
            [output_of(1, 1, 1), output_of(1, 0, 0), output_of(1, 2, 2)],
            "out_of_order",
            {"producer": 1, "sequence": 0, "source_offset": 0},
        ),
        (
            [output_of(1, 0, 0), b"not JSON", output_of(1, 1, 1), output_of(1, 2, 2)],
            "unreadable",
            {"partition": 0, "offset": 1},
        ),
    ],
)
def test_an_audit_names_each_fault_and_fails(
    outputs: Outputs, values: list[bytes], kind: str, example: dict[str, int]
) -> None:
    outputs.write(values)
    assert outputs.audit(2) == 1
    assert not outputs.report["exact"]
    faults = {
        name: outputs.report[name]["count"] for name in ("missing", "duplicates", "extra", "out_of_order")
    }
    faults["unreadable"] = outputs.report["unreadable"]["count"]
    assert faults == {name: int(name == kind) for name in faults}
    found = outputs.report[kind]["examples"][0]
    assert {name: found[name] for name in example} == example


def test_an_open_transaction_is_not_taken_for_the_end(outputs: Outputs, unique: str) -> None:
    outputs.write([output_of(1, 0, 0)])
    outputs.producer.begin_transaction()
    outputs.producer.produce(unique, output_of(1, 1, 1), partition=0)
    outputs.producer.flush(TIMEOUT_SECONDS)
    assert outputs.audit(1) == 1
    assert not outputs.report["settled"]
    assert outputs.report["missing"]["count"] == 1
    outputs.producer.commit_transaction(TIMEOUT_SECONDS)
    assert outputs.audit(1) == 0
    assert outputs.report["settled"]


def test_an_audit_waits_for_what_is_missing_as_long_as_it_is_told(outputs: Outputs, unique: str) -> None:
    outputs.write([output_of(1, 0, 0)])
    outputs.producer.begin_transaction()
    outputs.producer.produce(unique, output_of(1, 1, 1), partition=0)
    outputs.producer.flush(TIMEOUT_SECONDS)
    assert outputs.audit(1, "--wait", "500ms") == 1
    outputs.producer.commit_transaction(TIMEOUT_SECONDS)
    assert outputs.audit(1, "--wait", "20s") == 0


def test_an_audit_of_no_topic_gives_no_verdict(
    kafka: Broker, processes: EngineProcesses, unique: str
) -> None:
    expect = processes.folder / "expect.json"
    expect.write_text(json.dumps({"version": 1, "producers": [], "malformed": {}}))
    status, output = processes.call(
        "audit", "--bootstrap", kafka.bootstrap_servers, "--topic", unique, "--expect", expect
    )
    assert status == 1
    assert f"the topic {unique} doesn't exist" in output
    assert "exact" not in output
