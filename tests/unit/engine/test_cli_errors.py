"""What the command says to a wrong configuration or wrong arguments, and with which exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from eventengine.cli import build_parser, main
from eventengine.cli.load import build_plan
from eventengine.plans import KafkaTarget, TcpTarget

VALID = """\
name: hunt
sources:
  - {name: moves, type: kafka, kafka: {bootstrapServers: [localhost:9092], topic: hunt-events}}
sinks:
  - {name: standings, type: kafka, kafka: {bootstrapServers: [localhost:9092], topic: hunt-standings}}
"""


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str, name: str = "engine.yaml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write_file


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bufferPol: {chunks: 64}", "bufferPol: unknown key; did you mean `bufferPool`?"),
        (
            VALID.replace("topic: hunt-events", "topik: x"),
            "sources[0].kafka.topik: unknown key; did you mean `topic`?",
        ),
        ("drainTimeout: soon", "drainTimeout: 'soon' is no duration"),
        ("payload: {maxDepth: 0}", "payload.maxDepth: input should be greater than or equal to 1"),
        ("name: [", "line "),
    ],
)
def test_a_wrong_configuration_is_one_line_with_path_and_nearest_key_and_status_2(
    command, text, expected, write, capsys
):
    path = write(text)
    assert main([command, path]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("eventengine:")]
    assert len(lines) == 1
    assert lines[0].startswith(f"eventengine: {path}: ")
    assert expected in lines[0]
    assert "Traceback" not in captured.err


def test_a_missing_file_is_named(capsys, tmp_path):
    assert main(["run", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: No such file or directory" in capsys.readouterr().err


def test_a_file_that_is_not_utf_8_is_named_with_the_place(capsys, tmp_path):
    path = tmp_path / "engine.yaml"
    path.write_bytes(b"name: \xff\n")
    assert main(["check", str(path)]) == 2
    assert "not UTF-8 at byte 6" in capsys.readouterr().err


def test_a_wrong_environment_is_named_before_anything_starts(capsys, write, monkeypatch):
    monkeypatch.setenv("EVENTENGINE_MEMORY_LIMIT_BYTES", "1Gi")
    assert main(["run", write(VALID)]) == 2
    assert (
        "EVENTENGINE_MEMORY_LIMIT_BYTES: must be a whole number above 0, not '1Gi'" in capsys.readouterr().err
    )


def test_check_lists_the_keys_that_do_not_act_with_the_reason(capsys, write):
    assert main(["check", write(VALID + "durability: fsync\ntransport: {protocol: quic}\n")]) == 0
    output = capsys.readouterr().out
    assert "valid" in output
    keys = [line.strip().partition(": ") for line in output.splitlines() if line.startswith("  ")]
    assert [key for key, _, _ in keys] == ["durability", "transport.protocol"]
    assert all(reason for _, _, reason in keys)


def test_check_shows_every_default_but_no_secret(capsys, write):
    text = VALID.replace(
        "topic: hunt-events", "topic: hunt-events, properties: {sasl.password: geheim, linger.ms: '1'}"
    )
    assert main(["check", "--show", write(text)]) == 0
    output = capsys.readouterr().out
    shown = json.loads(output)
    assert shown["bufferPool"]["chunks"] == 16384
    assert shown["sources"][0]["kafka"]["properties"] == {"sasl.password": "(hidden)", "linger.ms": "1"}
    assert "geheim" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a target"),
        (["--bootstrap", "localhost:9092"], "name a target"),
        (["--tcp", "localhost:9400", "--topic", "t"], "--tcp: goes without"),
        (["--tcp", "localhost:9400", "--duration", "0s"], "--duration: must be above 0s"),
        (["--tcp", "localhost:9400", "--rate", "0"], "sends nothing"),
        (["--tcp", "localhost:9400", "--burst", "at=10s,duration=1s,rate=1"], "begins at 10s, after"),
        (
            [
                "--tcp",
                "localhost:9400",
                "--districts",
                "4",
                "--burst",
                "at=1s,duration=1s,rate=1,districts=10",
            ],
            "opens 10 districts of only 4",
        ),
        (
            ["--tcp", "localhost:9400", "--token-file", "/nonexistent/token"],
            "/nonexistent/token: No such file",
        ),
    ],
)
def test_load_arguments_that_do_not_go_together_are_explained(arguments, message, capsys):
    assert main(["load", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("--rate", "many", "'many' is no number from 0 to 5e+06"),
        ("--rate", "nan", "is no number"),
        ("--malformed", "1.5", "is no number from 0 to 1"),
        ("--bootstrap", "localhost", "is no address; write host:port"),
        ("--duration", "30", "is no duration"),
        ("--burst", "at=1s,rate=5", "the part 'duration' is missing"),
        ("--burst", "at=1s,duration=1s,rate=5,color=red", "unknown part 'color'"),
        ("--burst", "at=1s,duration=0s,rate=5", "lasts longer than 0s"),
        ("--property", "enable.idempotence=false", "exactness depends on it"),
        ("--key", "player", "invalid choice"),
    ],
)
def test_a_wrong_load_argument_is_refused_by_name(argument, value, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args(["load", argument, value])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert f"argument {argument}" in error
    assert message in error


def test_a_load_plan_holds_what_the_arguments_say():
    options = build_parser().parse_args(
        [
            *("load", "--bootstrap", "one:9092,two:9092", "--topic", "hunt-events", "--partitions", "64"),
            *("--rate", "500", "--duration", "1m", "--arrivals", "poisson", "--key", "district-team"),
            *("--burst", "at=10s,duration=20s,rate=5000,districts=10", "--first-producer", "7"),
            *("--malformed", "0.001", "--property", "security.protocol=ssl"),
        ]
    )
    plan = build_plan(options).to_native()
    assert plan["target"] == {
        "kafka": {
            "bootstrap_servers": ("one:9092", "two:9092"),
            "topic": "hunt-events",
            "partitions": 64,
            "properties": {"security.protocol": "ssl"},
        }
    }
    assert plan["schedule"] == {
        "arrivals": "poisson",
        "rate_per_second": 500.0,
        "duration_nanoseconds": 60_000_000_000,
        "events_max": None,
        "bursts": (
            {
                "at_nanoseconds": 10_000_000_000,
                "duration_nanoseconds": 20_000_000_000,
                "rate_per_second": 5000.0,
                "districts": 10,
            },
        ),
    }
    assert (plan["key"], plan["first_producer"], plan["malformed_share"]) == ("district-team", 7, 0.001)


def test_secrets_of_a_plan_do_not_show_in_its_text():
    assert "geheim" not in repr(TcpTarget("localhost:9400", token="geheim"))
    assert "geheim" not in repr(KafkaTarget(("a:1",), "t", properties={"sasl.password": "geheim"}))


def test_an_audit_refuses_what_is_no_result(capsys, write):
    path = write("{}", "result.json")
    assert main(["audit", "--bootstrap", "a:1", "--topic", "t", "--expect", path]) == 2
    assert "not a result of `eventengine load --result`" in capsys.readouterr().err


def test_an_audit_refuses_two_results_with_the_same_producer(capsys, write):
    text = json.dumps({"version": 1, "producers": [{"producer": 3, "last_sequence": 9}], "malformed": {}})
    paths = [write(text, "one.json"), write(text, "two.json")]
    assert (
        main(["audit", "--bootstrap", "a:1", "--topic", "t", "--expect", paths[0], "--expect", paths[1]]) == 2
    )
    assert "two.json: producer 3 is in another result too" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["run"], ["check"], ["load"], ["audit"], ["version"]])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert "usage: eventengine" in capsys.readouterr().out


def test_the_installed_command_reports_a_wrong_configuration(write):
    launcher = Path(sys.executable).with_name("eventengine")
    finished = subprocess.run(
        [launcher, "run", write("sourcs: []")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert finished.returncode == 2
    assert finished.stderr.strip().endswith("sourcs: unknown key; did you mean `sources`?")
    assert finished.stdout == ""
