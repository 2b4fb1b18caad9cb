"""What a request needs leave for, and how long a leave holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from eventengine_adapter.apis.routing import resolve
from eventengine_adapter.cluster.client import KubernetesError
from eventengine_adapter.security.access_reviews import AccessReviews, attributes
from eventengine_adapter.security.identities import Identity

JANE = Identity("jane", "7", ("team-a",), {"scope": ("x",)})
WISH = attributes(resolve("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/m"), "GET")
assert WISH is not None


class Reviewer:
    """Answers SubjectAccessReviews with what it is told to."""

    def __init__(self, *answers: dict[str, Any] | KubernetesError) -> None:
        self.answers = list(answers)
        self.bodies: list[dict[str, Any]] = []

    async def create(self, path: str, body: Mapping[str, Any], seconds_max: float) -> dict[str, Any]:
        self.bodies.append(dict(body))
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, KubernetesError):
            raise answer
        return {"status": answer}


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        (
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/a/Some_Metric",
            "GET",
            {
                "resourceAttributes": {
                    "verb": "list",
                    "group": "external.metrics.k8s.io",
                    "version": "v1beta1",
                    "namespace": "a",
                    "resource": "some_metric",
                }
            },
        ),
        (
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/pods/%2A/m",
            "GET",
            {
                "resourceAttributes": {
                    "verb": "get",
                    "group": "custom.metrics.k8s.io",
                    "version": "v1beta2",
                    "namespace": "a",
                    "resource": "pods",
                    "subresource": "m",
                    "name": "*",
                }
            },
        ),
        (
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/metrics/m",
            "GET",
            {
                "resourceAttributes": {
                    "verb": "get",
                    "group": "custom.metrics.k8s.io",
                    "version": "v1beta2",
                    "namespace": "a",
                    "resource": "metrics",
                    "name": "m",
                }
            },
        ),
        (
            "/apis/custom.metrics.k8s.io/v1beta2",
            "GET",
            {"nonResourceAttributes": {"path": "/apis/custom.metrics.k8s.io/v1beta2", "verb": "get"}},
        ),
        ("/anything/else", "POST", {"nonResourceAttributes": {"path": "/anything/else", "verb": "post"}}),
    ],
)
def test_a_request_is_described_as_the_api_server_would(
    path: str, method: str, expected: dict[str, Any]
) -> None:
    wish = attributes(resolve(path), method)

    assert wish is not None
    assert wish.to_spec() == expected


def test_a_write_is_reviewed_as_a_write() -> None:
    wish = attributes(resolve("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/m"), "DELETE")

    assert wish is not None
    assert wish.verb == "delete"


def test_health_is_open_to_everybody() -> None:
    assert attributes(resolve("/readyz"), "GET") is None


async def test_the_review_names_the_user_whole() -> None:
    reviewer = Reviewer({"allowed": True})

    assert await AccessReviews(reviewer, lambda: 0.0).allowed(JANE, WISH) == (True, "")

    spec = reviewer.bodies[0]["spec"]
    assert (spec["user"], spec["uid"], spec["groups"], spec["extra"]) == (
        "jane",
        "7",
        ["team-a"],
        {"scope": ["x"]},
    )


@pytest.mark.parametrize(
    "status", [{}, {"allowed": False}, {"allowed": "true"}, {"allowed": True, "denied": True}]
)
async def test_anything_but_a_clear_yes_is_a_no(status: dict[str, Any]) -> None:
    assert (await AccessReviews(Reviewer(status), lambda: 0.0).allowed(JANE, WISH))[0] is False


async def test_answers_hold_for_ten_seconds_and_for_that_user_only() -> None:
    reviewer, now = Reviewer({"allowed": True}, {"allowed": False, "reason": "no"}), [0.0]
    reviews = AccessReviews(reviewer, lambda: now[0])

    assert (await reviews.allowed(JANE, WISH))[0]
    assert not (await reviews.allowed(Identity("jane", "7", ("team-b",)), WISH))[0]
    now[0] = 9.9
    assert (await reviews.allowed(JANE, WISH))[0]
    now[0] = 10.1
    assert await reviews.allowed(JANE, WISH) == (False, "no")
    assert len(reviewer.bodies) == 3


async def test_equal_questions_at_once_are_one_review() -> None:
    reviewer = Reviewer({"allowed": True})
    reviews = AccessReviews(reviewer, lambda: 0.0)

    answers = await asyncio.gather(*(reviews.allowed(JANE, WISH) for _ in range(20)))

    assert all(allowed for allowed, _ in answers)
    assert len(reviewer.bodies) == 1


async def test_superusers_need_no_review() -> None:
    reviewer = Reviewer({"allowed": False})

    assert (
        await AccessReviews(reviewer, lambda: 0.0).allowed(Identity("x", groups=("system:masters",)), WISH)
    )[0]
    assert reviewer.bodies == []


async def test_a_review_that_can_not_be_had_is_an_error_and_is_not_remembered() -> None:
    reviewer = Reviewer(*[KubernetesError(503, "down")] * 3, {"allowed": True})
    reviews = AccessReviews(reviewer, lambda: 0.0)

    with pytest.raises(KubernetesError):
        await reviews.allowed(JANE, WISH)
    assert (await reviews.allowed(JANE, WISH))[0]


async def test_the_memory_of_answers_is_bounded() -> None:
    reviewer = Reviewer({"allowed": True})
    reviews = AccessReviews(reviewer, lambda: 0.0)

    for number in range(5000):
        await reviews.allowed(Identity(f"user-{number}"), WISH)

    assert len(reviews._memory._answers) == 4096


async def test_how_often_a_remembered_answer_holds_and_how_long_a_review_takes_is_told() -> None:
    now, asked, told = [0.0], [], []

    class Slow(Reviewer):
        async def create(self, path: str, body: Mapping[str, Any], seconds_max: float) -> dict[str, Any]:
            now[0] += 0.25
            return await super().create(path, body, seconds_max)

    reviews = AccessReviews(
        Slow({"allowed": True}),
        lambda: now[0],
        lambda outcome, seconds: told.append((outcome, seconds)),
        asked.append,
    )
    for _ in range(3):
        await reviews.allowed(JANE, WISH)

    assert asked == [False, True, True]
    assert told == [("allowed", 0.25)]
