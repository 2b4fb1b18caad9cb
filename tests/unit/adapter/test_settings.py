"""What can be set, and what Kubernetes sets besides."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventengine_adapter import __version__
from eventengine_adapter.settings import Address, SettingsError, describe_settings, read_settings


def test_without_any_variable_the_defaults_hold() -> None:
    settings = read_settings({})

    assert settings.listen == Address("0.0.0.0", 6443)
    assert settings.snapshot_port == 9464
    assert settings.drain_seconds == 10
    assert settings.kubeconfig is None


def test_variables_are_read() -> None:
    settings = read_settings(
        {
            "EVENTENGINE_ADAPTER_LISTEN": "[::]:7443",
            "EVENTENGINE_ADAPTER_KUBECONFIG": "/tmp/config",
            "EVENTENGINE_ADAPTER_ANONYMOUS": "false",
            "EVENTENGINE_ADAPTER_LOG_LEVEL": "DEBUG",
        }
    )

    assert settings.listen == Address("::", 7443)
    assert settings.kubeconfig == Path("/tmp/config")
    assert settings.anonymous is False
    assert settings.log_level == "debug"


def test_the_links_that_kubernetes_sets_for_the_service_of_that_name_do_no_harm() -> None:
    links = {
        "EVENTENGINE_ADAPTER_PORT": "tcp://10.96.0.7:443",
        "EVENTENGINE_ADAPTER_PORT_443_TCP_ADDR": "10.96.0.7",
        "EVENTENGINE_ADAPTER_SERVICE_HOST": "10.96.0.7",
        "EVENTENGINE_ADAPTER_SERVICE_PORT_HTTPS": "443",
    }

    assert read_settings(links) == read_settings({})


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("LISTEN", "6443", "an address and a port"),
        ("LISTEN", "0.0.0.0:99999", "an address and a port"),
        ("DRAIN_SECONDS", "long", "a number from 0 to 120"),
        ("DRAIN_SECONDS", "nan", "a number from 0 to 120"),
        ("READS_MAX", "0", "a whole number from 1 to 1024"),
        ("KEDA_LISTEN", "9095", "an address and a port"),
        ("CHAINED_ADAPTER", "http://queues.others.svc", "a URL of https"),
        ("CHAINED_ADAPTER", "https://queues.others.svc/apis", "no path"),
        ("CHAINED_ADAPTER", "https://queues.others.svc:443", "go together"),
        ("ANONYMOUS", "yes", "one of true, false"),
        ("LOG_LEVL", "info", "did you mean EVENTENGINE_ADAPTER_LOG_LEVEL"),
    ],
)
def test_a_bad_setting_is_named_with_its_remedy(variable: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_settings({f"EVENTENGINE_ADAPTER_{variable}": value})


def test_help_lists_every_setting() -> None:
    assert describe_settings().count("EVENTENGINE_ADAPTER_") == 15


def test_the_version_is_that_of_the_package() -> None:
    project = Path(__file__).resolve().parents[3] / "adapter" / "pyproject.toml"

    assert f'version = "{__version__}"' in project.read_text()
