"""What the adapter reads of a snapshot is a part of the contract: same names, same bounds, same say on null."""

from __future__ import annotations

import json
from typing import Any, get_args, get_origin

import msgspec
import pytest
from eventengine_adapter.samples.fleets import EnginePod
from eventengine_adapter.samples.snapshot_views import SnapshotView, decode
from eventengine_adapter.sources.snapshot_reading import (
    INCARNATIONS_MAX,
    CheckedLayouts,
    Outcome,
    ReadError,
    interpret,
)
from eventengine_contract.snapshots import Snapshot
from pydantic import BaseModel, ValidationError

NOW = 1_795_255_200
HUNT_A = EnginePod("default", "hunt-a", "uid-a", "hunt", "10.0.0.7", True)


def models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models(part)]


def views(annotation: Any) -> list[type[msgspec.Struct]]:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return [annotation]
    return [view for part in get_args(annotation) for view in views(part)]


def allows_null(annotation: Any) -> bool:
    return type(None) in get_args(annotation) or (
        get_origin(annotation) is not None and any(allows_null(part) for part in get_args(annotation)[:1])
    )


def differences(view: type[msgspec.Struct], model: type[BaseModel], where: str = "$") -> list[str]:
    """Where a view reads what the contract doesn't say."""
    found = []
    for field in msgspec.structs.fields(view):
        described = model.model_fields.get(field.encode_name)
        place = f"{where}.{field.encode_name}"
        if described is None:
            found.append(f"{place} is no field of the contract")
            continue
        if field.required != described.is_required():
            found.append(f"{place} may be left out of one of the two only")
        if allows_null(field.type) != allows_null(described.annotation):
            found.append(f"{place} may be null in one of the two only")
        for inner, of in zip(views(field.type), models(described.annotation), strict=True):
            found += differences(inner, of, place)
    return found


def test_the_view_is_a_part_of_the_contract() -> None:
    assert differences(SnapshotView, Snapshot) == []


def paths(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a document."""
    if isinstance(document, dict):
        return [path, *(found for key, value in document.items() for found in paths(value, (*path, key)))]
    if isinstance(document, list):
        return [path, *(found for key, value in enumerate(document) for found in paths(value, (*path, key)))]
    return [path]


def replaced(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("value", [None, -1, -0.5, "1", True, [], {}, 1e300, 2**70, "NaN"])
def test_what_the_contract_refuses_is_never_a_number_after_an_accepted_layout(
    snapshot_document: dict[str, Any], value: Any
) -> None:
    """A figure that metrics are made from is refused in every body, not only in the first of a start."""
    layouts = CheckedLayouts()
    undamaged = interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW, layouts)
    for path in paths(snapshot_document):
        body = json.dumps(replaced(snapshot_document, path, value)).encode()
        try:
            accepted = interpret(body, HUNT_A, NOW, NOW, layouts)
        except ReadError:
            continue
        try:
            Snapshot.model_validate_json(body)
        except ValidationError:
            # Damage outside of what is read: the sample is what it would be without.
            assert accepted == undamaged, path


@pytest.mark.parametrize("part", ["counters", "process"])
def test_an_empty_part_is_no_part_in_which_everything_is_none(
    snapshot_document: dict[str, Any], part: str
) -> None:
    layouts = CheckedLayouts()
    interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW, layouts)
    snapshot_document[part] = {}

    with pytest.raises(ReadError, match=rf"\$\.{part}"):
        interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW, layouts)


def test_a_body_that_lacks_what_no_metric_reads_is_refused_at_the_first_contact(
    snapshot_document: dict[str, Any],
) -> None:
    del snapshot_document["arena"]["slots"]

    with pytest.raises(ReadError, match=r"invalid at arena\.slots"):
        interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW, CheckedLayouts())


def test_a_process_that_began_anew_is_checked_anew(snapshot_document: dict[str, Any]) -> None:
    layouts = CheckedLayouts()
    interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW, layouts)
    del snapshot_document["arena"]["slots"]
    interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW, layouts)

    snapshot_document["identity"]["incarnation"] = "another"
    with pytest.raises(ReadError) as caught:
        interpret(json.dumps(snapshot_document).encode(), HUNT_A, NOW, NOW, layouts)

    assert caught.value.outcome is Outcome.INVALID


def test_the_memory_of_checked_starts_is_bounded(snapshot_document: dict[str, Any]) -> None:
    layouts = CheckedLayouts()
    body = json.dumps(snapshot_document).encode()
    for number in range(50):
        layouts.check(body, "uid-a", f"start-{number}")

    assert len(layouts) == 50 <= INCARNATIONS_MAX


@pytest.mark.parametrize(
    "body", [b"\xff", b"[" * 100_000, b'{"version":1}', b"", b"1e999", b'{"version":1e999}']
)
def test_what_is_no_snapshot_is_an_error_and_no_crash(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        decode(body)
    with pytest.raises(ReadError):
        interpret(body, HUNT_A, NOW, NOW)
