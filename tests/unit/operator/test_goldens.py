"""Every byte of what EventEngines become: the examples that users start from, and two that use all there is.

After a wanted change: `UPDATE_GOLDENS=1 .venv/bin/python -m pytest tests/unit/operator/test_goldens.py`, and read
the difference that git shows.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from eventengine_contract.well_known import KIND
from eventengine_operator.manifests.children import FEATURES, Circumstances, desired_children
from eventengine_operator.reconciling.replicas import decide_replicas
from eventengine_operator.resources.engines import read_engine
from eventengine_operator.resources.objects import Object

from .samples import DEFAULT_IMAGE, PINNED, SHARED, STORED, engine_object

GOLDENS = Path(__file__).with_name("goldens")
EXAMPLES = Path(__file__).parents[3] / "examples"


def declared() -> dict[str, Object]:
    """Name of the golden file → EventEngine."""
    found: dict[str, Any] = {
        "pinned": engine_object(replicas=1, **PINNED),
        "stored": engine_object(replicas=2, **STORED),
        "shared-autoscaled": engine_object(replicas=3, **SHARED),
    }
    for path in sorted(EXAMPLES.glob("*/*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document.get("kind") == KIND:
                stored = engine_object()["metadata"] | document["metadata"]
                found[f"{path.parent.name}-{path.stem}"] = document | {"metadata": stored}
    return found


@pytest.mark.parametrize("golden", declared())
def test_objects_are_exactly_the_golden_ones(golden: str) -> None:
    engine = read_engine(declared()[golden])
    assert engine.spec is not None, engine.faults
    most = engine.spec.autoscaling.max_replicas
    decision = decide_replicas(engine.spec, None, None, most)
    circumstances = Circumstances(
        DEFAULT_IMAGE,
        decision.replicas,
        with_autoscaler=decision.with_autoscaler,
        replicas_max=most,
        features=FEATURES,
    )
    objects = desired_children(engine, engine.spec, circumstances)
    path = GOLDENS / f"{golden}.yaml"
    if os.environ.get("UPDATE_GOLDENS"):
        path.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    assert objects == list(yaml.safe_load_all(path.read_text()))


def test_every_golden_file_is_of_something() -> None:
    assert {path.stem for path in GOLDENS.glob("*.yaml")} == set(declared())
