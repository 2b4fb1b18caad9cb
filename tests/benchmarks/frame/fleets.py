"""Many EventEngines on a control plane with fake nodes: made, changed, and compared.

Owns what the EventEngines of the operator's rows declare, which child is changed by hand in which field, and the
client that does it: so many threads, each with one request under way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.fake_nodes import TOLERATION

from frame.sightings import Key, Object, Sightings, Wanted

KIND: Final = "eventengines.eventengine.dev"
LABEL: Final = "eventengine.dev/engine"
TURN: Final = "tests/turn"
ENGINES_PER_NAMESPACE: Final = 50
THREADS: Final = 8
MERGE_PATCH: Final = "application/merge-patch+json"
VERSIONS_ONLY: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
SPEC: Final[dict[str, Any]] = {
    "replicas": 1,
    "pod": {
        "cpus": "100m",
        "memory": "64Mi",
        "pinning": "Off",
        "template": {"tolerations": [TOLERATION], "labels": {TURN: "0"}},
    },
    "engine": {
        "sources": [
            {
                "name": "moves",
                "type": "kafka",
                "kafka": {"bootstrapServers": ["127.0.0.1:1"], "topic": "events", "groupId": "fleet"},
            }
        ]
    },
}
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class HandChange:
    """A change that somebody makes to a child by hand, and how to tell that it is gone again."""

    kind: str
    suffix: str
    patch: Mapping[str, Any]
    is_as_declared: Callable[[Object], bool]


HAND_CHANGES: Final = (
    HandChange(
        "configmaps",
        "-engine",
        {"data": {"engine.yaml": "by hand"}},
        lambda item: item["data"]["engine.yaml"] != "by hand",
    ),
    HandChange(
        "services",
        "",
        {"spec": {"publishNotReadyAddresses": False}},
        lambda item: item["spec"].get("publishNotReadyAddresses") is True,
    ),
    HandChange(
        "networkpolicies",
        "",
        {"spec": {"policyTypes": ["Ingress", "Egress"]}},
        lambda item: item["spec"]["policyTypes"] == ["Ingress"],
    ),
    HandChange(
        "poddisruptionbudgets",
        "",
        {"spec": {"maxUnavailable": 7}},
        lambda item: item["spec"]["maxUnavailable"] == 1,
    ),
    HandChange(
        "deployments.apps",
        "",
        {"spec": {"progressDeadlineSeconds": 77}},
        lambda item: item["spec"]["progressDeadlineSeconds"] == 600,
    ),
)


def is_ready(engine: Object) -> bool:
    """Whether an EventEngine is Ready as of its present generation."""
    ready = condition_of(engine, "Ready")
    return (ready.get("status"), ready.get("observedGeneration")) == (
        "True",
        engine["metadata"]["generation"],
    )


def turn_of(deployment: Object) -> str:
    """Which spec change has reached a Deployment."""
    labels: Mapping[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return labels.get(TURN, "")


class Fleet:
    """The EventEngines of one control plane."""

    def __init__(self, access: KubernetesAccess) -> None:
        self._access = access
        self._pool = ThreadPoolExecutor(THREADS)
        self.keys: list[Key] = []
        self.ready = Sightings(access, KIND, "", is_ready)

    def create(self, count: int) -> float:
        """Declare so many further EventEngines at once; the instant after the last one."""
        first = len(self.keys)
        added = [
            (f"fleet-{number // ENGINES_PER_NAMESPACE}", f"engine-{number}")
            for number in range(first, first + count)
        ]
        for namespace in sorted(
            {namespace for namespace, _ in added} - {namespace for namespace, _ in self.keys}
        ):
            self._access.kubectl("create", "namespace", namespace)
        self._all(self._create_one, added)
        self.keys += added
        return time.monotonic()

    def until_ready(self, keys: Iterable[Key], seconds: float) -> dict[Key, float]:
        """The instants at which these were Ready, as far as they were within so many seconds."""
        return self.ready.until({key: Wanted(True) for key in keys}, seconds)

    def change_children(self, keys: Iterable[Key], seconds: float) -> tuple[int, float, list[float]]:
        """Change every child of these by hand; how many, the instant of the last, and when each was restored."""
        chosen = list(keys)
        watches = [
            Sightings(self._access, change.kind, LABEL, change.is_as_declared) for change in HAND_CHANGES
        ]
        wanted: list[dict[Key, Wanted]] = []
        for change in HAND_CHANGES:
            names = [(namespace, name + change.suffix) for namespace, name in chosen]
            path = self._access.requests.type_of(change.kind).path
            versions = self._all(lambda key: self._patch(path(*key), change.patch), names)  # noqa: B023 - used at once
            wanted.append({key: Wanted(True, version) for key, version in zip(names, versions, strict=True)})
        last = time.monotonic()
        restored: list[float] = []
        for watch, what in zip(watches, wanted, strict=True):
            restored += watch.until(what, max(0.0, last + seconds - time.monotonic())).values()
        return sum(map(len, wanted)), last, restored

    def change_specs(self, keys: Iterable[Key], per_second: float, turn: str, seconds: float) -> list[float]:
        """Change these specs one by one on a schedule; seconds from when each was due to its Deployment's change.

        A change that never arrived counts as infinity.
        """
        chosen = list(keys)
        deployments = Sightings(self._access, "deployments.apps", LABEL, turn_of)
        path = self._access.requests.type_of(KIND).path
        patch = {"spec": {"pod": {"template": {"labels": {TURN: turn}}}}}
        started = time.monotonic()
        due = {key: started + number / per_second for number, key in enumerate(chosen)}
        for key in chosen:
            time.sleep(max(0.0, due[key] - time.monotonic()))
            self._pool.submit(self._patch, path(*key), patch)
        seen = deployments.until({key: Wanted(turn) for key in chosen}, seconds)
        return sorted(seen[key] - due[key] if key in seen else math.inf for key in chosen)

    def versions(self) -> dict[tuple[str, Key], str]:
        """The resource version of every EventEngine and every child."""
        found = {}
        for kind in (KIND, *(change.kind for change in HAND_CHANGES)):
            path = self._access.requests.type_of(kind).path()
            query = {} if kind == KIND else {"labelSelector": LABEL}
            answer = self._access.requests.send("GET", path, query=query, accept=VERSIONS_ONLY)
            for item in answer["items"]:
                metadata = item["metadata"]
                found[kind, (metadata["namespace"], metadata["name"])] = metadata["resourceVersion"]
        return found

    def close(self) -> None:
        """End the client."""
        self._pool.shutdown()

    def _create_one(self, key: Key) -> None:
        namespace, name = key
        engine = {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {"name": name, "namespace": namespace},
            "spec": SPEC,
        }
        path = self._access.requests.type_of(KIND).path(namespace)
        self._access.requests.send("POST", path, body=engine)

    def _patch(self, path: str, patch: Mapping[str, Any]) -> int:
        changed = self._access.requests.send("PATCH", path, body=patch, content_type=MERGE_PATCH)
        return int(changed["metadata"]["resourceVersion"])

    def _all(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        return list(self._pool.map(function, items))
