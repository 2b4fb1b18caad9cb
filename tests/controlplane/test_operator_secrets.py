"""Secrets that the pods mount, on a real control plane: a change rolls out, a missing one is waited for."""

from __future__ import annotations

from typing import Any

from eventengine_contract.well_known import ANNOTATION_SECRETS_HASH

from .spaces import SHARED, Space

Object = dict[str, Any]
CONTENT = "the-word-that-nobody-may-see"


def mounting(secret: str, **options: Any) -> Object:
    volume = {"name": "token", "secret": {"secretName": secret} | options}
    return {"pod": SHARED | {"template": {"volumes": [volume]}}}


def secret(space: Space, name: str, content: str) -> None:
    text = space.kubectl(
        *(
            "create",
            "secret",
            "generic",
            name,
            f"--from-literal=token={content}",
            "--dry-run=client",
            "-o",
            "yaml",
        )
    )
    space.kubectl("apply", "-f", "-", stdin=text)


def hash_of(deployment: Object) -> str:
    return str(deployment["spec"]["template"]["metadata"]["annotations"].get(ANNOTATION_SECRETS_HASH, ""))


def test_changed_secret_rolls_out_and_its_content_is_never_told(space: Space) -> None:
    secret(space, "token", CONTENT)
    space.engine(**mounting("token"))
    (deployment,) = space.until_exists("deployment/hunt")
    space.until_quiet()
    before = space.get("deployment/hunt")
    assert before is not None
    assert before["metadata"]["generation"] == deployment["metadata"]["generation"], "no change, no rollout"
    secret(space, "token", f"{CONTENT}-too")
    changed = space.until("deployment/hunt", lambda item: hash_of(item) != hash_of(before), "rolled out")
    assert hash_of(before)
    assert hash_of(changed)
    secret(space, "of-others", CONTENT)
    space.until_quiet()
    unchanged = space.get("deployment/hunt")
    assert unchanged is not None
    assert hash_of(unchanged) == hash_of(changed), "a Secret that nobody mounts concerns nobody"
    assert CONTENT not in space.operator.log()


def test_missing_secret_is_a_condition_and_its_arrival_starts_the_pods(space: Space) -> None:
    space.engine(**mounting("late"))
    for kind, status in (("Degraded", "True"), ("Ready", "False")):
        condition = space.until_condition(kind, status, "SecretMissing")
        assert "the pods mount late, which doesn't exist in this namespace; create it" in condition["message"]
    assert space.get("deployment/hunt") is None
    assert space.get("configmap/hunt-engine") is not None, "all else is there"
    secret(space, "late", CONTENT)
    space.until_exists("deployment/hunt")
    space.until_condition("Progressing", "True", "AwaitingPods")


def test_deleted_secret_leaves_the_pods_as_they_are(space: Space) -> None:
    secret(space, "token", CONTENT)
    space.engine(**mounting("token"))
    (deployment,) = space.until_exists("deployment/hunt")
    space.kubectl("delete", "secret/token")
    space.until_condition("Degraded", "True", "SecretMissing")
    live = space.get("deployment/hunt")
    assert live is not None
    assert live["spec"]["template"] == deployment["spec"]["template"]


def test_optional_secret_may_be_missing(space: Space) -> None:
    space.engine(**mounting("maybe", optional=True))
    (deployment,) = space.until_exists("deployment/hunt")
    secret(space, "maybe", CONTENT)
    space.until(
        "deployment/hunt", lambda item: hash_of(item) != hash_of(deployment), "rolled out on its arrival"
    )
