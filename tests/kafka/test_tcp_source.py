"""Events over TCP: accepted only with the token, answered one by one, applied exactly once to the same sink."""

from __future__ import annotations

import json
import socket
import struct
from collections import Counter
from typing import Any

import pytest
from eventengine_harness.control_planes import free_port
from eventengine_harness.engines import RunningEngine
from eventengine_harness.hunt_stages import HuntStage
from eventengine_harness.records import read_topic

TOKEN = "a token of this test"
TIMEOUT_SECONDS = 20.0
ACCEPTED, WRONG_TOKEN = 0, 254


class DirectStage:
    """An engine with a TCP source beside its Kafka source."""

    def __init__(self, stage: HuntStage) -> None:
        self.stage = stage
        self.port = free_port()
        self.token_file = stage.processes.folder / "token"
        self.token_file.write_text(f"{TOKEN}\n")
        self.engine: RunningEngine = self._run()

    def _run(self) -> RunningEngine:
        sources = self.stage.config()["sources"]
        tcp = {"listen": f"127.0.0.1:{self.port}", "tokenFile": str(self.token_file)}
        return self.stage.run_engine(sources=[*sources, {"name": "direct", "type": "tcp", "tcp": tcp}])

    def load(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Run a load over TCP; returns status, result and output."""
        self.stage.result.unlink(missing_ok=True)
        status, output = self.stage.processes.call(
            *("load", "--tcp", f"127.0.0.1:{self.port}", "--result", str(self.stage.result), *arguments)
        )
        result = json.loads(self.stage.result.read_text()) if self.stage.result.exists() else {}
        return status, result, output


@pytest.fixture
def direct(stage: HuntStage) -> DirectStage:
    return DirectStage(stage)


def test_events_with_the_token_are_applied_once_and_acknowledged_when_committed(direct: DirectStage) -> None:
    token = ("--token-file", str(direct.token_file))
    status, result, output = direct.load(*token, "--rate", "1000", "--duration", "3s", "--connections", "3")
    assert status == 0, output
    assert result["acknowledged"] == result["intended"] == 3000
    # Acknowledged means committed: nothing is waited for.
    report = direct.stage.audit(wait="0s")
    assert report["exact"], report
    sample = direct.engine.wait_for_sample(
        lambda sample: sample.counters.outputs_committed == 3000, "3000 outputs committed"
    )
    assert [source.type for source in sample.sources] == ["kafka", "tcp"]


def test_events_that_are_broken_on_purpose_are_refused_for_their_reason_and_kept(direct: DirectStage) -> None:
    token = ("--token-file", str(direct.token_file))
    status, result, output = direct.load(*token, "--rate", "500", "--duration", "2s", "--malformed", "0.2")
    # The load counts an event as acknowledged only if it was refused for the reason it was broken for.
    assert status == 0, output
    assert len(result["malformed"]) == 7
    report = direct.stage.audit()
    assert report["exact"], report
    letters = read_topic(direct.stage.broker.bootstrap_servers, direct.stage.dead_letter_topic)
    kept = Counter(letter.headers["reason"].decode() for letter in letters)
    # A frame beyond the payload limit is refused by its length alone: nothing of it was read, nothing is kept.
    assert kept == {reason: count for reason, count in result["malformed"].items() if reason != "too_large"}
    assert {letter.headers["source.topic"] for letter in letters} == {b"direct"}
    assert not any("source.offset" in letter.headers for letter in letters)
    sample = direct.engine.wait_for_sample(
        lambda sample: sum(sample.counters.dead_letters.values()) >= len(letters), "the dead letters counted"
    )
    assert sample.readiness.ready


def test_events_from_kafka_and_tcp_reach_one_sink(direct: DirectStage) -> None:
    direct.stage.load("--rate", "500", "--duration", "1s", "--first-producer", "1000")
    first = direct.stage.processes.folder / "first.json"
    first.write_bytes(direct.stage.result.read_bytes())
    token = ("--token-file", str(direct.token_file), "--first-producer", "5000")
    status, _, output = direct.load(*token, "--rate", "500", "--duration", "1s")
    assert status == 0, output
    report = direct.stage.audit("--expect", str(first))
    assert report["exact"], report
    assert report["expected"] == 1000


def test_a_load_with_a_wrong_token_sends_nothing(direct: DirectStage) -> None:
    wrong = direct.stage.processes.folder / "wrong"
    wrong.write_text("sesame")
    status, _, output = direct.load("--token-file", str(wrong), "--rate", "10", "--duration", "1s")
    assert status == 1
    assert "the engine doesn't accept the token" in output


def test_a_connection_without_the_token_is_told_so_and_closed(direct: DirectStage) -> None:
    with socket.create_connection(("127.0.0.1", direct.port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(frame(b'{"kind":"clue_discovered"}'))
        assert read_to_end(connection) == struct.pack(">IIB", 5, 0, WRONG_TOKEN)
    assert direct.engine.get("/livez")[0] == 200
    assert "a token of this test" not in direct.engine.log


def test_a_frame_of_an_absurd_length_costs_the_connection_and_nothing_else(direct: DirectStage) -> None:
    with socket.create_connection(("127.0.0.1", direct.port), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(frame(TOKEN.encode()) + b"\xff\xff\xff\xff")
        assert read_to_end(connection)[:9] == struct.pack(">IIB", 5, 0, ACCEPTED)
    assert direct.engine.get("/livez")[0] == 200
    token = ("--token-file", str(direct.token_file))
    status, result, output = direct.load(*token, "--rate", "100", "--duration", "1s")
    assert status == 0, output
    assert result["acknowledged"] == 100


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(4096):
        received += part
    return received
