"""Settings from the environment, and readable refusals."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from eventengine_operator.settings import PREFIX, SettingsError, describe_settings, read_settings


def read(**variables: str) -> object:
    return read_settings({PREFIX + name: value for name, value in variables.items()})


def test_defaults_stand_without_any_variable() -> None:
    settings = read_settings({})
    assert settings.namespace == "eventengine-system"
    assert settings.metrics_mode == "auto"
    assert settings.lease_seconds == 15


def test_values_are_read_by_their_type() -> None:
    settings = read_settings(
        {
            f"{PREFIX}WATCH_NAMESPACES": "b, a,b",
            f"{PREFIX}WORKERS": "9",
            f"{PREFIX}RESYNC_SECONDS": "1.5",
            f"{PREFIX}CERTIFICATE_LIFETIME": "24h",
            f"{PREFIX}METRICS_MODE": "custom-only",
            f"{PREFIX}DEFAULT_IMAGE": "",
            f"{PREFIX}FOLLOW_SECRETS": "false",
        }
    )
    assert settings.watch_namespaces == ("a", "b")
    assert (settings.workers, settings.resync_seconds) == (9, 1.5)
    assert settings.certificate_lifetime == 24 * 3600 * 10**9
    assert settings.metrics_mode == "custom-only"
    assert settings.follow_secrets is False
    assert settings.default_image == read_settings({}).default_image, "an empty variable is an absent one"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"METRIC_MODE": "auto"}, "EVENTENGINE_OPERATOR_METRIC_MODE: unknown"),
        (
            {"METRICS_MODE": "all"},
            "EVENTENGINE_OPERATOR_METRICS_MODE: 'all' is none of auto, custom-only, keda, off",
        ),
        ({"FOLLOW_SECRETS": "yes"}, "EVENTENGINE_OPERATOR_FOLLOW_SECRETS: 'yes' is none of true, false"),
        ({"WORKERS": "many"}, "EVENTENGINE_OPERATOR_WORKERS: "),
        ({"WORKERS": "0"}, "EVENTENGINE_OPERATOR_WORKERS: must be above 0"),
        ({"NAMESPACE": "Not A Name"}, "EVENTENGINE_OPERATOR_NAMESPACE: "),
        ({"WATCH_NAMESPACES": "a,*"}, "EVENTENGINE_OPERATOR_WATCH_NAMESPACES: '*' is no namespace's name"),
        ({"LEASE_SECONDS": "5"}, "EVENTENGINE_OPERATOR_LEASE_SECONDS: needs RETRY_SECONDS < "),
        ({"AUTHORITY_LIFETIME": "1h"}, "EVENTENGINE_OPERATOR_CERTIFICATE_LIFETIME: "),
        ({"AUTHORITY_LIFETIME": "soon"}, "EVENTENGINE_OPERATOR_AUTHORITY_LIFETIME: 'soon' is no duration"),
    ],
)
def test_wrong_value_names_its_variable(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(**variables)
    assert str(refusal.value).startswith(message)


def test_help_lists_every_variable_and_needs_no_cluster() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    command = [sys.executable, "-m", "eventengine_operator", "--help"]
    shown = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    for line in describe_settings().splitlines():
        assert line.strip() in shown


def test_wrong_setting_ends_with_code_2_and_one_line() -> None:
    environment = os.environ | {f"{PREFIX}WORKERS": "x"}
    command = [sys.executable, "-m", "eventengine_operator"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


def test_no_way_to_an_api_server_is_one_line_too() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    command = [sys.executable, "-m", "eventengine_operator"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.strip() == "eventengine-operator: Service host/port is not set."


def test_write_is_given_up_before_another_leader_may_be_at_work() -> None:
    settings = read_settings({f"{PREFIX}LEASE_SECONDS": "15", f"{PREFIX}RENEW_DEADLINE_SECONDS": "10"})
    assert settings.write_seconds < settings.lease_seconds - settings.renew_deadline_seconds
