"""The canary proves that changes are heard of, and its silence only counts where it was heard to sing."""

from __future__ import annotations

from typing import Any

import pytest
from eventengine_operator.clients.echoes import Echoes, version_of
from eventengine_operator.clients.errors import UnavailableError
from eventengine_operator.handlers import canary as keeping
from eventengine_operator.handlers.canary import keep_canary
from eventengine_operator.measuring import Measurements
from eventengine_operator.operating import Operator
from eventengine_operator.reconciling.canary import (
    BEATS_KEPT_MAX,
    UNANSWERED_MAX,
    Beats,
    beat_of,
    canary,
    is_canary,
)
from eventengine_operator.resources.engines import EngineKey, read_engine
from eventengine_operator.resources.objects import Object
from eventengine_operator.settings import Settings


def test_beat_is_answered_by_the_watch_and_then_the_reconcile() -> None:
    beats = Beats("one")
    beat = beats.next(100.0)
    beats.reconciled(beat, 101.0)
    assert beats.unanswered == 1, "a resync reads it, too: that proves nothing of the watch"
    beats.told(beat)
    assert beats.unanswered == 1, "a watch that nobody acts on proves nothing of the reconcile"
    beats.reconciled(beat, 102.5)
    assert (beats.unanswered, beats.last_seconds) == (0, 2.5)


def test_late_answer_answers_all_beats_before_it() -> None:
    beats = Beats("one")
    written = [beats.next(float(second)) for second in range(4)]
    beats.told(written[2])
    beats.reconciled(written[3], 10.0)
    assert beats.unanswered == 1, "of the fourth no watch has told"


def test_silence_counts_only_for_beats_that_were_written() -> None:
    beats = Beats("one")
    for second in range(50):
        beats.not_written(beats.next(float(second)))
    assert not beats.are_dead
    for second in range(UNANSWERED_MAX + 1):
        assert not beats.are_dead
        beats.next(float(second))
    assert beats.are_dead
    for second in range(1000):
        beats.next(float(second))
    assert beats.unanswered == BEATS_KEPT_MAX, "bounded, however long it lasts"


def test_beat_of_another_process_is_no_answer() -> None:
    mine, theirs = Beats("one"), Beats("two")
    mine.next(0.0)
    for beat in (theirs.next(0.0), "", "one-", "one-x", "1"):
        mine.told(beat)
        mine.reconciled(beat, 1.0)
    assert mine.unanswered == 1


def test_canary_is_valid_and_known_by_name_and_label() -> None:
    made = canary("system", "one-1", None)
    assert is_canary(made)
    assert beat_of(made) == "one-1"
    stored = made | {"metadata": made["metadata"] | {"uid": "u", "generation": 1, "resourceVersion": "1"}}
    assert read_engine(stored).spec is not None
    assert not is_canary({"metadata": {"name": "eventengine-canary"}}), "a user's own of that name is served"
    assert not is_canary({"metadata": {"name": "hunt", "labels": made["metadata"]["labels"]}})


class ApiEndError(Exception):
    """The test has seen enough."""


class Api:
    """An API server that has `live`, and answers writes by a script."""

    def __init__(self, live: Object | None, *answers: Exception | None) -> None:
        self.live = live
        self.answers = list(answers)
        self.applied: list[str] = []

    async def get(self, *_: Any) -> Object | None:
        if not self.answers:
            raise ApiEndError
        return self.live

    async def apply(self, manifest: Object, *_: Any) -> Object:
        answer = self.answers.pop(0)
        self.applied.append(beat_of(manifest))
        if answer is not None:
            raise answer
        return manifest


async def test_refused_beat_is_none_and_the_next_one_comes() -> None:
    api: Any = Api(None, UnavailableError(503, "apply", "no"), None, None)
    beats = Beats("one")
    with pytest.raises(ApiEndError):
        await keep_canary(api, "system", 0.0, None, beats, Measurements())
    assert api.applied == ["one-1", "one-2", "one-3"]
    assert beats.unanswered == 3, "two that were written, and the one that the test ended"


async def test_engine_of_a_user_on_the_canarys_name_is_left_alone() -> None:
    theirs = {"metadata": {"name": "eventengine-canary", "namespace": "system"}}
    api: Any = Api(theirs, None)
    beats = Beats("one")
    await keeping._beat(api, "system", None, beats)
    assert (api.applied, beats.unanswered) == ([], 0)


def test_liveness_fails_only_once_the_path_is_dead() -> None:
    unused: Any = None
    operator = Operator(Settings(), unused, unused, Measurements())
    for _ in range(UNANSWERED_MAX):
        operator._beats.next(0.0)
    assert operator._why_dead() == ""
    beat = operator._beats.next(0.0)
    assert operator._why_dead() == f"{UNANSWERED_MAX + 1} changes of the canary in a row were not heard of"
    operator._beats.told(beat)
    operator._canary_reconciled(beat)
    assert operator._why_dead() == ""
    assert b"eventengine_operator_canary_unanswered_beats 0.0" in operator._measurements.exposition()


@pytest.mark.parametrize(
    ("served", "namespace"),
    [((), "system"), (("games", "system"), "system"), (("games", "race"), "games")],
)
def test_canary_lives_where_the_operator_listens(served: tuple[str, ...], namespace: str) -> None:
    assert Settings(namespace="system", watch_namespaces=served).canary_namespace == namespace


async def test_beat_is_news_although_the_operator_wrote_it_itself() -> None:
    class Writing:
        echoes = Echoes()

    api: Any = Writing()
    operator = Operator(Settings(namespace="system"), api, api, Measurements())
    written = {"metadata": {"uid": "u", "resourceVersion": "7"}}
    api.echoes.expect(written)
    operator._hear(EngineKey("system", "hunt"), version_of(written))
    assert EngineKey("system", "hunt") not in operator._queue._timers
    operator._hear(EngineKey("system", "eventengine-canary"), version_of(written))
    assert EngineKey("system", "eventengine-canary") in operator._queue._timers
    operator._queue.close()
