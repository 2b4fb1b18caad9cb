"""Engines as real processes on a real broker: each event is applied exactly once, whatever happens to whom.

Exactly once is proved twice over: by the audit of (producer, sequence), and by
comparing every output with that of a plain sequential model, which state that
was lost, doubled or restored wrongly would not survive.
"""

from __future__ import annotations

import json
from typing import Any

from confluent_kafka import Producer
from eventengine_harness.broker_proxies import BrokerProxy
from eventengine_harness.engines import lag_events, running_partitions
from eventengine_harness.hunt_stages import PARTITIONS, HuntStage
from eventengine_harness.records import committed_offsets, end_offsets, read_topic
from eventengine_harness.waiting import wait_for

ALL_PARTITIONS = set(range(PARTITIONS))
END_SECONDS = 30.0
SOON_SECONDS = 20.0


def require_exact(report: dict[str, Any]) -> None:
    assert report["exact"], report
    assert report["settled"], report


def test_a_plain_run_applies_every_event_exactly_once(stage: HuntStage) -> None:
    engine = stage.run_engine()
    result = stage.load(
        "--rate", "1500", "--duration", "4s", "--burst", "at=1s,duration=1s,rate=3000,districts=10"
    )
    require_exact(stage.audit())
    assert stage.check_outputs() == result["acknowledged"]
    sample = stage.wait_until_drained(engine)
    assert sample.counters.events_applied == sample.counters.outputs_committed == result["acknowledged"]
    assert sample.counters.dead_letters == {} or set(sample.counters.dead_letters.values()) == {0}
    assert sample.buffer_pool.in_use <= sample.buffer_pool.high_water <= sample.buffer_pool.chunks
    engine.terminate()
    assert engine.wait(END_SECONDS) == 0


def test_a_killed_engine_is_replaced_without_loss_or_double(stage: HuntStage) -> None:
    first = stage.run_engine()
    load = stage.start_load("--rate", "1200", "--duration", "8s")
    first.wait_for_sample(lambda sample: sample.counters.events_applied > 2000, "2000 events applied")
    first.kill()
    second = stage.run_engine()
    result = stage.finish_load(load)
    require_exact(stage.audit())
    assert stage.check_outputs() == result["acknowledged"]
    sample = stage.wait_until_drained(second)
    assert 0 < sample.counters.events_applied < result["acknowledged"]


def test_an_engine_that_restarts_continues_with_the_state_it_had(stage: HuntStage) -> None:
    first = stage.run_engine()
    stage.load("--rate", "1000", "--duration", "2s", "--seed", "1")
    stage.wait_until_drained(first)
    first.kill()
    second = stage.run_engine()
    stage.wait_until_drained(second)
    stage.load("--rate", "1000", "--duration", "2s", "--seed", "2")
    stage.wait_until_drained(second)
    # Half of the events were applied by an engine that knew the others from the changelog alone.
    assert stage.check_outputs() == 4000


def test_partitions_move_to_an_engine_that_joins_and_back_when_it_leaves(stage: HuntStage) -> None:
    first = stage.run_engine()
    load = stage.start_load("--rate", "800", "--duration", "12s")
    first.wait_for_sample(lambda sample: sample.counters.events_applied > 500, "500 events applied")
    second = stage.run_engine()
    share = second.wait_for_sample(
        lambda sample: bool(running_partitions(sample)) and sample.counters.events_applied > 300,
        "300 events applied by the second engine",
    )
    kept = first.wait_for_sample(
        lambda sample: running_partitions(sample) == ALL_PARTITIONS - running_partitions(share),
        "the first engine to keep what the second one does not own",
    )
    assert len(running_partitions(kept)) == len(running_partitions(share)) == PARTITIONS // 2
    second.terminate()
    assert second.wait(END_SECONDS) == 0
    first.wait_for_sample(lambda sample: running_partitions(sample) == ALL_PARTITIONS, "all partitions back")
    result = stage.finish_load(load)
    require_exact(stage.audit())
    assert stage.check_outputs() == result["acknowledged"]
    stage.wait_until_drained(first)


def test_a_stop_commits_what_was_applied_and_leaves_no_open_transaction(stage: HuntStage) -> None:
    engine = stage.run_engine()
    load = stage.start_load("--rate", "1500", "--duration", "5s")
    engine.wait_for_sample(lambda sample: sample.counters.events_applied > 1000, "1000 events applied")
    engine.terminate()
    assert engine.wait(END_SECONDS) == 0
    servers = stage.broker.bootstrap_servers
    applied: dict[int, int] = {}
    for partition, offset in stage.outputs():
        applied[partition] = max(applied.get(partition, 0), offset + 1)
    assert committed_offsets(servers, stage.name, stage.events_topic) == applied
    assert end_offsets(servers, stage.outputs_topic, "read_committed") == end_offsets(
        servers, stage.outputs_topic
    )
    # The load goes on without an engine; the next one takes over exactly there.
    result = stage.finish_load(load)
    assert 1000 < len(stage.outputs()) < result["acknowledged"]
    stage.run_engine()
    require_exact(stage.audit())
    assert stage.check_outputs() == result["acknowledged"]


def test_an_engine_without_a_broker_waits_and_says_why(own_stage: HuntStage) -> None:
    own_stage.create_topics()
    own_stage.broker.stop()
    engine = own_stage.start_engine()

    def reasons_not_ready() -> str | None:
        status, text = engine.get("/readyz")
        away = f"Kafka at {own_stage.broker.bootstrap_servers}: "
        named = status == 503 and all(f"{part}: {away}" in text for part in ("source", "publisher"))
        return text if named else None

    wait_for(
        reasons_not_ready,
        "reasons of source and publisher that name the broker",
        END_SECONDS,
        last_seen=lambda: repr(engine.get("/readyz")),
    )
    assert engine.get("/livez")[0] == 200
    sample = engine.wait_for_sample(lambda _: True, "a sample")
    assert not sample.readiness.ready
    assert not sample.sources[0].connected
    own_stage.broker.start()
    engine.wait_until_ready()
    result = own_stage.load("--rate", "500", "--duration", "1s")
    require_exact(own_stage.audit())
    assert own_stage.check_outputs() == result["acknowledged"]


def test_a_broker_that_restarts_under_load_costs_no_event(own_stage: HuntStage) -> None:
    own_stage.create_topics()
    engine = own_stage.run_engine()
    load = own_stage.start_load("--rate", "600", "--duration", "10s")
    engine.wait_for_sample(lambda sample: sample.counters.events_applied > 1000, "1000 events applied")
    own_stage.broker.restart()
    result = own_stage.finish_load(load)
    # Soon, and not only when what clients have cached of the broker is refreshed by itself.
    engine.wait_until_ready(SOON_SECONDS)
    require_exact(own_stage.audit())
    assert own_stage.check_outputs() == result["acknowledged"] == 6000
    own_stage.wait_until_drained(engine)


def test_a_broker_that_names_no_broker_for_a_moment_costs_no_event(
    proxied_stage: HuntStage, broker_proxy: BrokerProxy
) -> None:
    """As a single broker does until its controller has registered it: clients then know of nobody to ask."""
    proxied_stage.create_topics()
    engine = proxied_stage.run_engine()
    load = proxied_stage.start_load("--rate", "600", "--duration", "10s")
    engine.wait_for_sample(lambda sample: sample.counters.events_applied > 1000, "1000 events applied")
    with broker_proxy.without_brokers():
        misled = {"eventengine", "eventengine-load"}
        wait_for(lambda: broker_proxy.misled >= misled, "metadata that name no broker", SOON_SECONDS)
    result = proxied_stage.finish_load(load)
    engine.wait_until_ready(SOON_SECONDS)
    require_exact(proxied_stage.audit())
    assert proxied_stage.check_outputs() == result["acknowledged"] == 6000
    proxied_stage.wait_until_drained(engine)


def test_malformed_events_become_dead_letters_with_reason_and_offset(stage: HuntStage) -> None:
    engine = stage.run_engine(deadLetter={"maxPayloadBytes": 1024})
    result = stage.load("--rate", "1000", "--duration", "3s", "--malformed", "0.1")
    assert len(result["malformed"]) == 7
    report = stage.audit("--dead-letter", stage.dead_letter_topic)
    require_exact(report)
    assert report["dead_letters"]["reasons"] == result["malformed"]
    events = {
        (record.partition, record.offset): record.value
        for record in read_topic(stage.broker.bootstrap_servers, stage.events_topic)
    }
    for letter in read_topic(stage.broker.bootstrap_servers, stage.dead_letter_topic):
        assert letter.headers["source.topic"].decode() == stage.events_topic
        origin = (int(letter.headers["source.partition"]), int(letter.headers["source.offset"]))
        payload = events.pop(origin)
        assert payload[:1024] == letter.value
        assert 0 <= int(letter.headers["payload.position"]) <= len(payload)
        assert len(letter.value) <= 1024
    answered = stage.outputs()
    assert events.keys() == answered.keys()
    sample = stage.wait_until_drained(engine)
    counted = {reason: count for reason, count in sample.counters.dead_letters.items() if count}
    assert counted == result["malformed"]
    assert engine.get("/livez")[0] == 200
    metrics = engine.get("/metrics")[1]
    assert all(f'reason="{reason}"' in metrics for reason in counted)


def test_a_drained_topic_reads_lag_0_although_it_ends_in_transaction_markers(stage: HuntStage) -> None:
    settings = {
        "bootstrap.servers": stage.broker.bootstrap_servers,
        "transactional.id": stage.name,
        "log_level": 0,
    }
    producer = Producer(settings)
    producer.init_transactions(END_SECONDS)
    sequence = 0
    for transaction in range(6):
        producer.begin_transaction()
        for partition in ALL_PARTITIONS:
            event = {
                "kind": "clue_discovered",
                "producer": 1,
                "sequence": sequence,
                "sent_at_ns": 1,
                "player": 1,
                "team": 1,
                "district": 1,
                "puzzle": sequence % 40,
                "clue": transaction % 5,
            }
            producer.produce(stage.events_topic, json.dumps(event).encode(), partition=partition)
            sequence += 1
        producer.flush(END_SECONDS)
        if transaction % 3 == 2:
            producer.abort_transaction(END_SECONDS)
        else:
            producer.commit_transaction(END_SECONDS)
    engine = stage.run_engine()
    sample = stage.wait_until_drained(engine)
    assert lag_events(sample) == 0
    assert stage.check_outputs() == 4 * PARTITIONS
    # Two thirds of the transactions were committed; every one of the six left a marker.
    assert end_offsets(stage.broker.bootstrap_servers, stage.events_topic) == dict.fromkeys(
        ALL_PARTITIONS, 12
    )
