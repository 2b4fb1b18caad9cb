"""An engine called `hunt` on a control plane, and what tests of the adapter ask and await there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from eventengine_harness.certificates import KeyPair
from eventengine_harness.control_planes import LoopbackControlPlane
from eventengine_harness.waiting import wait_for

from .adapters import AdapterPlane, AdapterProcess, EngineState, refusal

EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
CUSTOM = "/apis/custom.metrics.k8s.io/v1beta2"
CUSTOM_OLD = "/apis/custom.metrics.k8s.io/v1beta1"
ENGINES = "eventengines.eventengine.dev"
FORGED = {"X-Remote-User": "kubernetes-admin", "X-Remote-Group": "system:masters"}
"""What the front proxy says of an administrator; from anybody else it means nothing."""

SAMPLED_SECONDS_MAX = 15.0


class Hunt:
    """An engine `hunt` whose running pods share four partitions with a lag of 1,000 each."""

    def __init__(
        self,
        plane: AdapterPlane,
        adapter: AdapterProcess,
        namespace: str,
        stack: ExitStack,
        pods: int = 2,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self.adapter = adapter
        self.namespace = namespace
        self.lag = f"{EXTERNAL}/namespaces/{namespace}/kafka_consumer_lag"
        """Path of its lag."""
        plane.engine("hunt", namespace, pods, annotations)
        self.pods = plane.pods("hunt", namespace, pods)
        share = 4 // pods
        self.states = [
            EngineState(
                "hunt",
                namespace,
                pod,
                dict.fromkeys(range(number * share, (number + 1) * share), 1000),
                utilisation=(number + 0.5) / pods,
            )
            for number, pod in enumerate(self.pods)
        ]
        self.servers = [plane.start_pod(state.pod, state) for state in self.states]
        for server in self.servers:
            stack.enter_context(closing(server))
        wait_served(plane, self.lag, 4)


def items(plane: AdapterPlane, path: str) -> list[dict[str, Any]]:
    """The items of an answer."""
    found: list[dict[str, Any]] = plane.access.raw(path)["items"]
    return found


def wait_served(plane: AdapterPlane, path: str, count: int) -> list[dict[str, Any]]:
    """The items of an answer, once there are that many."""
    refusals = [""]

    def served() -> list[dict[str, Any]] | None:
        refusals[0] = refusal(plane.access, path)
        found = [] if refusals[0] else items(plane, path)
        return found if len(found) == count else None

    return wait_for(served, f"{count} items at {path}", SAMPLED_SECONDS_MAX, last_seen=lambda: refusals[0])


def wait_refused(plane: AdapterPlane, path: str, words: str, deadline_seconds: float = 20) -> str:
    """What a path is refused with, once that contains `words`."""
    seen = [""]

    def refused() -> str | None:
        seen[0] = refusal(plane.access, path)
        return seen[0] if words in seen[0] else None

    return wait_for(refused, f"{words!r} from {path}", deadline_seconds, last_seen=lambda: seen[0])


def certificate(control_plane: LoopbackControlPlane, name: str) -> KeyPair:
    """The files of one of the control plane's clients or authorities."""
    folder = control_plane.kubeconfig.parent / "certificates"
    return KeyPair(folder / f"{name}.crt", folder / f"{name}.key")


def autoscaler(name: str, metric: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hunt"},
            "minReplicas": 1,
            "maxReplicas": 6,
            "metrics": [metric],
        },
    }
