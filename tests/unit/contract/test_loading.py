"""Reading engine.yaml: what is accepted, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventengine_contract.loading import ConfigurationError, load_engine_config

ARTICLE = """
runtime:
  hot_path: native_arena
  gc_managed_layer: discovery_fanout
arena:
  capacity: 256000
  slot_size_bytes: 256
  preallocate: true
  fragmentation_threshold: 0.05
transport:
  protocol: quic
  zero_copy: true
  stream_multiplexing: 128
  tls_handshake_target_ms: 3
monitoring:
  heap_profile_interval: 30s
  gc_pause_alert_ms: 5
  rss_flatness_window: 5m
  rollback_sla_ms: 200
  ci_native_integration: true
"""

KAFKA = "sources: [{name: moves, type: kafka, kafka: {bootstrapServers: ['b:9092'], topic: hunt%s}}]"


def test_the_articles_configuration_loads_as_it_stands() -> None:
    config = load_engine_config(ARTICLE)
    assert config.arena.capacity == 256_000
    assert config.transport.protocol == "quic"
    assert config.monitoring.rss_flatness_window == 300_000_000_000
    assert config.monitoring.heap_profile_interval == 30_000_000_000


def test_a_copy_of_the_articles_configuration_that_lost_its_indentation_means_the_same() -> None:
    flattened = "\n".join(line.strip() for line in ARTICLE.splitlines())
    assert load_engine_config(flattened) == load_engine_config(ARTICLE)


def test_a_key_that_does_not_act_is_told_with_the_reason_and_an_acting_one_is_not() -> None:
    config = load_engine_config(ARTICLE)
    reasons = config.inactive_reasons()
    assert reasons["transport.protocol"] == "direct sources speak TCP so far"
    assert sorted(reasons) == config.inactive_keys()
    monitoring = {path for path in reasons if path.startswith("monitoring.")}
    assert monitoring == {"monitoring.ciNativeIntegration", "monitoring.heapProfileInterval"}
    assert not {"arena.capacity", "arena.fragmentationThreshold"} & set(reasons)


def test_the_interval_of_heap_profiles_acts_where_a_directory_is_given() -> None:
    interval = "monitoring.heapProfileInterval"
    assert interval in load_engine_config(ARTICLE).inactive_reasons()
    given = load_engine_config(f"{ARTICLE}  heap_profile_directory: /var/profiles\n")
    assert interval not in given.inactive_reasons()
    assert given.to_native()["monitoring"]["heap_profile_directory"] == "/var/profiles"


def test_keys_that_were_not_given_are_never_called_inactive() -> None:
    assert load_engine_config("").inactive_keys() == []


def test_both_spellings_of_a_key_mean_the_same() -> None:
    camel = load_engine_config("bufferPool: {chunkBytes: 1024}\ndrainTimeout: 3s")
    snake = load_engine_config("buffer_pool: {chunk_bytes: 1024}\ndrain_timeout: 3s")
    assert camel == snake
    assert camel.drain_timeout == 3_000_000_000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sorces: []", "engine.yaml: sorces: unknown key; did you mean `sources`?"),
        ("arena: {capcity: 9}", "arena.capcity: unknown key; did you mean `capacity`?"),
        (
            "arena: {capacity: 64, tenants: [{source: a, reserved: 65}]}",
            "arena: the tenants reserve 65 slots, but `capacity` is 64",
        ),
        (
            "arena: {tenants: [{source: a}]}",
            "arena.tenants names the source 'a', which is not among the sources",
        ),
        ("arena: {capacity: 1}", "arena.capacity: input should be greater than or equal to 64, not 1"),
        ("arena:\n  slotSizeBytes: 256\n  slot_size_bytes: 256", "one key in two spellings; keep one"),
        ("arena: {}\narena: {}", "line 2, column 1: the key 'arena' is given twice"),
        (
            "monitoring: {ciNativeIntegration: false}",
            "monitoring.ciNativeIntegration: input should be True, not False",
        ),
        ("program: {serviceTime: 3x}", "program.serviceTime: '3x' is no duration"),
        ("sources: [{name: a, type: kafka}]", "sources[0]: a source of type kafka needs the section `kafka`"),
        (
            "sources: [{name: a, type: tcp, tcp: {}}]",
            "sources[0].tcp: name a tokenFile, or say `insecure: true`",
        ),
        (KAFKA % ", properties: {group.id: x}", "the property `group.id` is the engine's own to set"),
        ("sources: [{name: A!, type: kafka}]", "sources[0].name:"),
        ("[1", "line 1, column 3"),
        ("- 1", "valid dictionary"),
        ("1: 2", "the key 1 is not a text"),
    ],
)
def test_a_mistake_is_told_with_its_path_and_a_remedy(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_engine_config(text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_engine_config("sorces: []\narena: {capcity: 9}")
    assert {path for path, _ in caught.value.faults} == {"sorces", "arena.capcity"}


def test_two_engines_worth_of_kafka_sources_are_refused() -> None:
    source = "{name: %s, type: kafka, kafka: {bootstrapServers: ['b:9092'], topic: hunt}}"
    with pytest.raises(ConfigurationError, match="at most one source of type kafka"):
        load_engine_config(f"sources: [{source % 'a'}, {source % 'b'}]")


def test_yaml_that_grows_without_end_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ConfigurationError, match="longer than"):
        load_engine_config("name: " + "a" * 2_000_000)


def test_yaml_tags_make_no_objects(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with pytest.raises(ConfigurationError):
        load_engine_config(f"name: !!python/object/apply:os.mkdir ['{witness}']")
    assert not witness.exists()


def test_the_native_form_fills_in_defaults_and_says_its_units() -> None:
    native = load_engine_config("name: hunt\n" + KAFKA % "").to_native()
    assert native["sources"][0]["kafka"]["group_id"] == "hunt"
    assert native["changelog"]["topic"] == "hunt-changelog"
    assert native["dead_letter"]["topic"] == "hunt-dead-letter"
    assert native["transactions"] == {"commit_interval_milliseconds": 100, "timeout_milliseconds": 15_000}
    assert native["program"]["service_time_nanoseconds"] == 0
    assert native["monitoring"] == {
        "stall_alert_nanoseconds": 5_000_000,
        "rollback_sla_nanoseconds": 200_000_000,
        "rss_flatness_window_nanoseconds": 300_000_000_000,
        "rss_growth_alert_ratio": 0.05,
        "heap_profile_directory": None,
        "heap_profile_interval_nanoseconds": 30_000_000_000,
    }
