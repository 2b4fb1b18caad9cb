"""Nodes that don't exist, played by KWOK on a control plane: the objects are all there is of them.

For what one machine can't show: a thousand pods, and kubelets that refuse pods. A pod bound to such a node says a
moment later that it runs and is ready. No container runs, so nothing answers on its address, and it has no container
ID. What becomes of pods on a node can be changed by stages, KWOK's rules of "a pod like this becomes a pod like that".

The nodes that `add` makes carry TAINT, so that pods of others, which wait for a node on purpose, go on waiting. Those
that want one tolerate it (TOLERATION). Whoever else makes nodes, Karpenter for one, has them played by ANNOTATION.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import yaml

from eventengine_harness import builds
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.processes import ComponentProcess

Object = dict[str, Any]

COMPONENT: Final = "kwok"
LABEL: Final = "tests.eventengine.dev/fake-node"
ANNOTATION: Final = ("kwok.x-k8s.io/node", "fake")
"""Nodes with it are KWOK's; a real node beside them stays its kubelet's."""
TAINT: Final = {"key": LABEL, "effect": "NoSchedule"}
TOLERATION: Final = {"key": LABEL, "operator": "Exists"}
DRAINING: Final = "tests.eventengine.dev/draining"
"""A deleted pod with this annotation is still there, until it is taken off."""
READY_SECONDS_MAX: Final = 60.0
POD_ADDRESSES: Final = "198.18.0.1/15"
"""Of the range for measuring devices, which no network routes."""

LEASE_SECONDS: Final = 40

_RUNNING: Final = """\
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  imageID: ""
  ready: true
  started: true
  restartCount: 0
  state:
    running:
      startedAt: {{ $now | Quote }}
{{ end }}
"""
_READY: Final = """\
{{ $now := Now }}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
conditions:
- type: Ready
  status: "True"
  reason: KubeletReady
  message: played
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
"""
_REFUSED: Final = """\
phase: Failed
reason: {reason}
message: "{message}"
startTime: {{{{ Now | Quote }}}}
"""
REFUSALS: Final = {
    "TopologyAffinityError": "Pod was rejected: Resources cannot be allocated with Topology locality",
    "SMTAlignmentError": "Pod was rejected: SMT Alignment Error: requested 1 cpus not multiple cpus per core = 2",
    "UnexpectedAdmissionError": "Pod was rejected: Allocate failed due to not enough cpus available to satisfy request",
}
"""What a kubelet says when it can't give a pod the cores that the scheduler counted, by reason."""


def stage(
    name: str,
    conditions: Sequence[Object],
    following: Object,
    *,
    kind: str = "Pod",
    delay_seconds: float = 0.0,
) -> Object:
    """A rule for what meets all conditions (`key` is a jq path, as in KWOK's own format)."""
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": list(conditions)},
            "delay": {"durationMilliseconds": round(delay_seconds * 1000)},
            "next": following,
        },
    }


def refusing_stage(node: str, reason: str) -> Object:
    """The kubelet of `node` refuses every pod, for a reason of REFUSALS."""
    template = _REFUSED.format(reason=reason, message=REFUSALS[reason])
    return stage(
        f"refused-{node}",
        [_HERE_TO_STAY, {"key": ".spec.nodeName", "operator": "In", "values": [node]}, _PENDING],
        {"statusTemplate": template},
    )


_HERE_TO_STAY: Final = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
_PENDING: Final = {"key": ".status.phase", "operator": "In", "values": ["Pending"]}


def pod_stages(refusals: Mapping[str, str], start_seconds: float) -> list[Object]:
    """All rules: pods run after a while, those of refusing nodes fail, deleted ones go at once unless they drain."""
    elsewhere: list[Object] = []
    if refusals:
        elsewhere = [{"key": ".spec.nodeName", "operator": "NotIn", "values": sorted(refusals)}]
    return [
        *(refusing_stage(node, reason) for node, reason in sorted(refusals.items())),
        stage(
            "running",
            [_HERE_TO_STAY, _PENDING, *elsewhere],
            {"statusTemplate": _RUNNING},
            delay_seconds=start_seconds,
        ),
        stage(
            "gone",
            [
                {"key": ".metadata.deletionTimestamp", "operator": "Exists"},
                {"key": f'.metadata.annotations["{DRAINING}"]', "operator": "DoesNotExist"},
            ],
            {"finalizers": {"empty": True}, "delete": True},
        ),
    ]


def node_stage() -> Object:
    """A node gets ready at once and stays so; KWOK renews its Lease."""
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    return stage(
        "ready",
        [{"key": ready, "operator": "NotIn", "values": ["True"]}],
        {"statusTemplate": _READY},
        kind="Node",
    )


class Plane(Protocol):
    """A running control plane that takes further components."""

    @property
    def access(self) -> KubernetesAccess:
        """As its administrator."""
        ...

    def launch(self, name: str, words: Sequence[str | Path]) -> ComponentProcess:
        """Start a component that ends with it at the latest."""
        ...


class FakeNodes:
    """KWOK beside a control plane; use it in a `with`.

    Args:
        plane: The control plane, up.
        refusals: Names of nodes whose kubelet refuses every pod, and the reason that it gives.
        start_seconds: How long a pod takes from being bound to being ready.
    """

    def __init__(
        self, plane: Plane, *, refusals: Mapping[str, str] | None = None, start_seconds: float = 0.0
    ) -> None:
        self._plane = plane
        self._stages = [node_stage(), *pod_stages(refusals or {}, start_seconds)]
        self._process: ComponentProcess | None = None
        self._added: list[str] = []

    def add(
        self,
        name: str,
        *,
        cpus: str = "64",
        memory: str = "256Gi",
        pods: int = 1000,
        labels: Mapping[str, str] | None = None,
        taints: Iterable[Mapping[str, str]] = (TAINT,),
    ) -> None:
        """Make a node and wait until it is ready."""
        room = {"cpu": cpus, "memory": memory, "pods": str(pods)}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/hostname": name, LABEL: "", **(labels or {})},
                "annotations": dict([ANNOTATION]),
            },
            "spec": {"taints": [dict(taint) for taint in taints]},
            "status": {"allocatable": room, "capacity": room},
        }
        self._plane.access.requests.send("POST", "/api/v1/nodes", body=node)
        self._added.append(name)
        self._plane.access.wait_for_condition("node", name, "Ready", deadline_seconds=READY_SECONDS_MAX)

    def remove(self, name: str) -> None:
        """Delete a node; its pods are collected by the control plane."""
        self._plane.access.delete("node", name)
        self._added.remove(name)

    def __enter__(self) -> Self:
        kubeconfig = self._plane.access.kubeconfig
        rules = kubeconfig.parent / f"{COMPONENT}.yaml"
        rules.write_text(yaml.safe_dump_all(self._stages))
        self._process = self._plane.launch(
            COMPONENT,
            [
                builds.kwok(),
                f"--kubeconfig={kubeconfig}",
                f"--config={rules}",
                f"--cidr={POD_ADDRESSES}",
                "--node-ip=127.0.0.1",
                "--manage-all-nodes=false",
                f"--manage-nodes-with-annotation-selector={'='.join(ANNOTATION)}",
                f"--node-lease-duration-seconds={LEASE_SECONDS}",
            ],
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in list(self._added):
            self._plane.access.delete("node", name, wait=False)
        self._added.clear()
        if self._process is not None:
            self._process.stop()
            self._process = None
