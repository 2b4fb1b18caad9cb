"""What docs/operations tells people who are in a hurry exists: reasons, metrics, values of the chart, settings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from eventengine_contract import well_known
from eventengine_contract.event_engine import ConditionType
from eventengine_operator.measuring import Measurements
from eventengine_operator.reconciling import conditions

ROOT = Path(__file__).parents[3]
PAGES = sorted((ROOT / "docs" / "operations").glob("*.md"))
VALUES = yaml.safe_load((ROOT / "charts" / "eventengine" / "values.yaml").read_text())
OF_KUBERNETES = {
    *("True", "False", "Unknown", "Off", "External", "And"),
    *("HPAActive", "ReplicaFailure", "ScalingActive", "ProgressDeadlineExceeded"),
    *("Deployment", "EventEngine", "HorizontalPodAutoscaler"),
}
"""Words of the module that are no reasons of ours: statuses, kinds, and what it reads from others' conditions."""
AMBIGUOUS = ("engine",)
"""Keys of the chart's values that are keys of an EventEngine's spec, too."""


def reasons() -> set[str]:
    tree = ast.parse(inspect.getsource(conditions))
    words = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {word for word in words if re.fullmatch(r"[A-Z][a-z]+([A-Z][A-Za-z]+)*", word)} - OF_KUBERNETES


def test_every_reason_is_in_the_troubleshooting_with_its_condition() -> None:
    text = (ROOT / "docs" / "operations" / "troubleshooting.md").read_text()
    table = text.partition("## Every reason that a condition can have")[2]
    told = set(re.findall(r"`([A-Z][A-Za-z]+)`", table))
    assert "PodsNotMade" in reasons()
    assert reasons() <= told
    assert set(ConditionType) <= told


def words(page: Path, pattern: str) -> Iterator[str]:
    yield from re.findall(pattern, page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_of_the_operator_that_a_page_names_exist(page: Path) -> None:
    exposition = Measurements().exposition().decode()
    known = set(re.findall(r"^# TYPE (\S+)", exposition, re.MULTILINE))
    assert set(words(page, r"\b(eventengine_operator_[a-z_]+[a-z])\b")) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_values_of_the_chart_that_a_page_names_exist(page: Path) -> None:
    heads = "|".join(key for key in VALUES if key not in AMBIGUOUS)
    for path in words(page, rf"`((?:{heads})\.[A-Za-z.]+)(?:[:=` ]|`)"):
        here: Any = VALUES
        for key in path.split("."):
            assert key in here, f"{page.name}: {path}"
            here = here[key]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_labels_and_annotations_that_a_page_names_exist(page: Path) -> None:
    known = {value for value in vars(well_known).values() if isinstance(value, str)}
    known |= {f"{well_known.API_GROUP}/{well_known.API_VERSION}", "eventengine.dev/refused-pods"}
    assert set(words(page, r"(?<![.\w])(eventengine\.dev/[a-z0-9-]*[a-z0-9])")) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in words(page, r"\]\(([^)#:]*(?:#[^)]+)?)\)"):
        path, _, heading = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if heading:
            found = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^a-z0-9 _-]", "", text.lower()).replace(" ", "-") for text in found}
            assert heading in anchors, f"{page.name}: {target}"
