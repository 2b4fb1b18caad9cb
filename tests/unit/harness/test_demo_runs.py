"""Two runs of the demo never meet in Kafka, and a cluster that it would harm is refused."""

from __future__ import annotations

from typing import Any

import pytest
from eventengine_harness.demo import installing
from eventengine_harness.demo.runs import Run, remove_from_kafka
from eventengine_harness.demo.stages import StageError, current_stage


def test_every_run_has_names_of_its_own() -> None:
    first, second = Run(), Run()
    assert first.name("hunt-events") != second.name("hunt-events")
    assert first.name("hunt-events") == f"{first.prefix}hunt-events"


def test_a_kafka_out_of_reach_is_said_with_what_stays_there() -> None:
    said: list[str] = []
    # Nothing listens on port 1.
    assert remove_from_kafka("127.0.0.1:1", Run("abc123"), said.append, request_seconds=0.2) is False
    (line,) = said
    assert "begin with demo-abc123- may stay there" in line
    assert "KAFKA_BOOTSTRAP_OUTSIDE" in line


class PresentObjects:
    """An access to a cluster that has these objects."""

    def __init__(self, *present: tuple[str, str]) -> None:
        self._present = present

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        return {} if (kind, name) in self._present else None


def test_an_empty_cluster_is_taken() -> None:
    installing.check_is_free(PresentObjects())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("present", "remedy"),
    [
        (("namespace", "eventengine-demo"), "kubectl delete namespace eventengine-demo"),
        (("namespace", "eventengine-system"), "helm uninstall eventengine"),
        (
            ("customresourcedefinition", "eventengines.eventengine.dev"),
            "kubectl delete customresourcedefinition eventengines.eventengine.dev",
        ),
    ],
)
def test_a_cluster_in_use_is_refused_with_the_remedy(present: tuple[str, str], remedy: str) -> None:
    with pytest.raises(StageError, match=remedy):
        installing.check_is_free(PresentObjects(present))  # type: ignore[arg-type]


def test_a_foreign_cluster_without_kafka_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    with pytest.raises(StageError, match=r"set KAFKA_BOOTSTRAP=host:port.*kafka up --host"), current_stage():
        pass
