"""Payloads as they come from other people's producers: refused with the exact byte, or read in the form that fits."""

from __future__ import annotations

import json
from typing import Any

from confluent_kafka import Producer
from eventengine_harness.hunt_stages import PARTITIONS, HuntStage
from eventengine_harness.records import read_topic

DELIVERY_SECONDS = 30.0
PAYLOAD_MAX_BYTES = 256
PAYLOAD = {"maxBytes": PAYLOAD_MAX_BYTES, "maxDepth": 4, "maxArrayLength": 3, "maxStringBytes": 32}


def event(sequence: int, **members: Any) -> dict[str, Any]:
    fields = {"kind": "clue_discovered", "producer": 1, "sequence": sequence, "sent_at_ns": 1, "player": 1}
    return fields | {"team": 1, "district": 1, "puzzle": sequence % 40, "clue": sequence % 5, **members}


def send(stage: HuntStage, payloads: list[bytes | None]) -> None:
    """Send to partition 0, so that the offset of each is its place in the list."""
    producer = Producer({"bootstrap.servers": stage.broker.bootstrap_servers, "log_level": 0})
    for payload in payloads:
        producer.produce(stage.events_topic, payload, key=b"1", partition=0)
    assert producer.flush(DELIVERY_SECONDS) == 0


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def test_a_refused_payload_names_its_reason_and_the_byte_where_it_went_wrong(stage: HuntStage) -> None:
    whole = compact(event(1))
    spoiled = whole.replace(b'"player":1', b'"player":\xff')
    deep = compact(event(1, extra=[[[[1]]]]))
    twice = whole[:-1] + b',"team":2}'
    beyond = compact(event(1, district=70_000))
    faults: list[tuple[bytes | None, str, int]] = [
        (None, "truncated", 0),
        (b"", "truncated", 0),
        (whole[:40], "truncated", 40),
        (whole + b"x", "invalid_json", len(whole)),
        (spoiled, "invalid_utf8", spoiled.index(b"\xff")),
        (deep, "too_deep", deep.index(b"[[[[") + 3),
        (twice, "duplicate_key", twice.rindex(b'"team"')),
        (beyond, "out_of_range", beyond.index(b"70000")),
        (whole + b" " * PAYLOAD_MAX_BYTES, "too_large", PAYLOAD_MAX_BYTES),
    ]
    engine = stage.run_engine(payload=PAYLOAD)
    send(stage, [payload for payload, _, _ in faults])
    stage.wait_until_drained(engine)
    letters = read_topic(stage.broker.bootstrap_servers, stage.dead_letter_topic)
    found = {
        int(letter.headers["source.offset"]): (
            letter.headers["reason"].decode(),
            int(letter.headers["payload.position"]),
        )
        for letter in letters
    }
    assert found == {offset: (reason, byte) for offset, (_, reason, byte) in enumerate(faults)}
    assert stage.outputs() == {}


def test_auto_reads_what_the_schema_refuses_as_trees_and_counts_it(stage: HuntStage) -> None:
    sources = stage.config()["sources"]
    fitting = [event(number) for number in range(20)]
    # Numbers written as text or with a fraction of nothing: no schema reads them, a tree does.
    others = [event(20, district="1"), event(21, team=1.0), event(22, puzzle="22")]
    engine = stage.run_engine(sources=[{**sources[0], "payload": "auto"}])
    send(stage, [compact(one) for one in [*fitting, *others]])
    sample = stage.wait_until_drained(engine)
    assert sample.counters.parser_fallbacks == {"moves": len(others)}
    assert len(stage.outputs()) == len(fitting) + len(others)
    assert sample.counters.events_applied == len(fitting) + len(others)
    assert f'source="moves"}} {len(others)}' in engine.get("/metrics")[1]


def test_work_stealing_applies_every_event_exactly_once_as_pinned_does(stage: HuntStage) -> None:
    engine = stage.run_engine(executor="work-stealing")
    result = stage.load("--rate", "1500", "--duration", "3s")
    report = stage.audit()
    assert report["exact"], report
    assert stage.check_outputs() == result["acknowledged"]
    sample = stage.wait_until_drained(engine)
    assert sample.counters.events_applied == result["acknowledged"]
    assert len(sample.sources[0].partitions) == PARTITIONS
