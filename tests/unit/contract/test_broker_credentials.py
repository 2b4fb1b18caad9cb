"""What is shown to brokers: which file stands for which property, and what is refused without being told."""

from __future__ import annotations

from typing import Any

import pytest
from eventengine_contract.broker_credentials import CREDENTIAL_BYTES_MAX, credential_properties
from eventengine_contract.loading import ConfigurationError, parse_engine_config

USER = {"username": b"hunt\n", "password": b"s3cret\r\n"}


def test_files_become_properties_and_lines_lose_their_ends() -> None:
    files = USER | {
        "ca.crt": b"CA\n",
        "tls.crt": b"C\n",
        "tls.key": b"K\n",
        "sasl.jaas.config": b"passed over",
    }

    assert credential_properties(files) == {
        "sasl.username": "hunt",
        "sasl.password": "s3cret",
        "ssl.ca.pem": "CA\n",
        "ssl.certificate.pem": "C\n",
        "ssl.key.pem": "K\n",
    }


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds none of username, password"),
        ({"user": b"x"}, "holds none of"),
        ({"username": b"x"}, "username and password"),
        ({"tls.key": b"SECRET"}, "tls.crt and tls.key"),
        ({"ca.crt": b"\xff"}, "ca.crt is no UTF-8 text"),
        ({"ca.crt": b"S" * (CREDENTIAL_BYTES_MAX + 1)}, "ca.crt is longer than"),
    ],
)
def test_what_can_not_be_used_is_named_by_file_and_never_shown(files: dict[str, bytes], words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        credential_properties(files)

    assert "SECRET" not in str(error.value)
    assert "SSSS" not in str(error.value)


def config(kafka: dict[str, Any]) -> dict[str, Any]:
    common = {"bootstrapServers": ["broker:9093"], "topic": "hunt"}
    return {
        "sources": [{"name": "moves", "type": "kafka", "kafka": common | kafka}],
        "sinks": [{"name": "out", "type": "kafka", "kafka": common | {"credentials": "writer"}}],
    }


def test_the_native_module_never_learns_where_credentials_come_from() -> None:
    native = parse_engine_config(config({"credentials": "hunt-user"}), "engine").to_native()

    assert "credentials" not in str(native)


@pytest.mark.parametrize("name", ["sasl.password", "ssl.key.pem"])
def test_credentials_and_a_property_that_they_bring_exclude_each_other(name: str) -> None:
    with pytest.raises(ConfigurationError, match="comes with the credentials 'hunt-user'; remove one"):
        parse_engine_config(config({"credentials": "hunt-user", "properties": {name: "x"}}), "engine")


@pytest.mark.parametrize("name", ["../other", "A", "a/b", ""])
def test_credentials_are_a_name_and_no_path(name: str) -> None:
    with pytest.raises(ConfigurationError, match="credentials"):
        parse_engine_config(config({"credentials": name}), "engine")
