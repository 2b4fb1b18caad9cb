"""What an engine shows brokers is read from files at start, or the start fails and names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventengine.credentials import native_form
from eventengine_contract.engine_config import EngineConfig
from eventengine_contract.loading import ConfigurationError, load_engine_config

TEXT = """
sources:
  - name: moves
    type: kafka
    kafka: {bootstrapServers: [broker:9093], topic: moves, credentials: hunt-user,
            properties: {security.protocol: sasl_ssl, sasl.mechanism: SCRAM-SHA-512}}
sinks:
  - {name: out, type: kafka, kafka: {bootstrapServers: [broker:9093], topic: out, credentials: writer}}
"""


@pytest.fixture
def config() -> EngineConfig:
    return load_engine_config(TEXT)


def write(folder: Path, **files: str) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)


def test_properties_are_joined_by_those_of_the_files(config: EngineConfig, tmp_path: Path) -> None:
    write(tmp_path / "hunt-user", username="hunt\n", password="s3cret\n", ca_crt="CA\n")
    write(tmp_path / "writer", tls_crt="C", tls_key="K")

    native = native_form(config, tmp_path, "engine.yaml")

    assert native["sources"][0]["kafka"]["properties"] == {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "hunt",
        "sasl.password": "s3cret",
        "ssl.ca.pem": "CA\n",
    }
    assert native["sinks"][0]["kafka"]["properties"] == {"ssl.certificate.pem": "C", "ssl.key.pem": "K"}


def test_a_folder_that_is_missing_is_named_with_the_key(config: EngineConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"sources\[0\]\.kafka\.credentials.*hunt-user.*is missing"):
        native_form(config, tmp_path, "engine.yaml")


def test_half_a_pair_is_refused_without_showing_it(config: EngineConfig, tmp_path: Path) -> None:
    write(tmp_path / "hunt-user", username="hunt", password="s3cret")
    write(tmp_path / "writer", tls_key="PRIVATE")

    with pytest.raises(ConfigurationError, match=r"sinks\[0\]\.kafka\.credentials.*belong together") as error:
        native_form(config, tmp_path, "engine.yaml")

    assert "PRIVATE" not in str(error.value)
