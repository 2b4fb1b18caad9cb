"""The watches' tale of the operator's own writes is told apart from everybody else's."""

from __future__ import annotations

from eventengine_operator.clients.echoes import Echoes, version_of


def written(version: str, uid: str = "one") -> dict[str, object]:
    return {"metadata": {"uid": uid, "resourceVersion": version}}


def test_only_the_very_state_that_was_written_is_an_echo() -> None:
    echoes = Echoes()
    echoes.expect(written("7"))
    assert echoes.is_echo(version_of(written("7")))
    assert not echoes.is_echo(version_of(written("8"))), "somebody wrote afterwards"
    assert not echoes.is_echo(version_of(written("7", uid="another")))


def test_second_telling_of_the_same_state_is_an_echo_too() -> None:
    echoes = Echoes()
    echoes.expect(written("7"))
    assert echoes.is_echo(version_of(written("7")))
    assert echoes.is_echo(version_of(written("7")))


def test_oldest_expectation_goes_when_there_are_too_many() -> None:
    echoes = Echoes(expected_max=2)
    for version in ("1", "2", "3"):
        echoes.expect(written(version))
    assert [echoes.is_echo(version_of(written(version))) for version in ("1", "2", "3")] == [
        False,
        True,
        True,
    ]
