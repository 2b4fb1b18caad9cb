"""One namespace with at most one EventEngine, called hunt, and what a test does and awaits there."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import yaml
from eventengine_harness.accesses import KubernetesAccess, condition_of
from eventengine_harness.waiting import wait_for

from .operators import OperatorProcess

KAFKA = {
    "name": "moves",
    "type": "kafka",
    "kafka": {"bootstrapServers": ["127.0.0.1:1"], "topic": "hunt-events", "groupId": "hunt"},
}
LAG = {"name": "kafka_consumer_lag", "source": "External", "target": {"averageValue": "1000"}}
HPA = {"driver": "hpa", "minReplicas": 2, "maxReplicas": 5, "metrics": [LAG]}
SHARED = {"cpus": "100m", "memory": "64Mi", "pinning": "Off"}
SECONDS = 60.0
"""After that something hangs. How fast drift is repaired, `make bench ONLY=operator` measures."""

Object = dict[str, Any]
Result = TypeVar("Result")


class Space:
    """See the module; use it in a `with`."""

    def __init__(self, access: KubernetesAccess, operator: OperatorProcess) -> None:
        self.access = access
        self.namespace = f"hunt-{secrets.token_hex(3)}"
        self.operator = operator

    def __enter__(self) -> Self:
        self.access.kubectl("create", "namespace", self.namespace)
        return self

    def __exit__(self, *_: object) -> None:
        self.access.delete("namespace", self.namespace, wait=False)

    def engine(self, **spec: Any) -> None:
        """Declare the EventEngine as a user's `kubectl apply` does: what is left out is removed."""
        document = {
            "apiVersion": "eventengine.dev/v1alpha1",
            "kind": "EventEngine",
            "metadata": {"name": "hunt"},
            "spec": {"pod": SHARED, "engine": {"sources": [KAFKA]}} | spec,
        }
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(document))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.access.kubectl(*arguments, f"--namespace={self.namespace}", stdin=stdin)

    def get(self, name: str) -> Object | None:
        return self.access.get(*name.split("/"), self.namespace)

    def until(self, name: str, condition: Callable[[Object], bool], what: str) -> Object:
        kind, _, single = name.partition("/")
        return self.access.wait_until(
            kind, single, condition, what, namespace=self.namespace, deadline_seconds=SECONDS
        )

    def until_exists(self, *names: str) -> list[Object]:
        return [self.until(name, lambda _: True, "exists") for name in names]

    def wait(self, condition: Callable[[], Result | None], what: str) -> Result:
        return wait_for(condition, what, SECONDS)

    def until_gone(self, name: str) -> None:
        self.access.wait_until_gone(*name.split("/"), namespace=self.namespace, deadline_seconds=SECONDS)

    def until_condition(self, kind: str, status: str, reason: str) -> Object:
        found = self.until(
            "ee/hunt",
            lambda engine: (
                (condition_of(engine, kind).get("status"), condition_of(engine, kind).get("reason"))
                == (status, reason)
            ),
            f"{kind}={status} ({reason})",
        )
        return condition_of(found, kind)

    def until_observed(self) -> Object:
        return self.until(
            "ee/hunt",
            lambda engine: (
                engine.get("status", {}).get("observedGeneration") == engine["metadata"]["generation"]
            ),
            "observed",
        )

    def pods(self, count: int) -> list[str]:
        """Names of the engine's pods, once there are that many."""

        def names() -> list[str] | None:
            found = self.access.list("pods", self.namespace, "eventengine.dev/engine=hunt")
            here = [item for item in found if "deletionTimestamp" not in item["metadata"]]
            return sorted(item["metadata"]["name"] for item in here) if len(here) == count else None

        return wait_for(names, f"{count} pods", SECONDS)

    def make_ready(self, pod: str, *, ready: bool = True, address: str = "") -> None:
        """Have a pod run, as a kubelet would."""
        container = {
            "name": "engine",
            "image": "example.invalid/engine:1",
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "containerID": "containerd://one",
            "state": {"running": {"startedAt": "2026-11-21T10:00:00Z"}},
        }
        conditions = [{"type": "Ready", "status": str(ready)}]
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}
        if address:
            status |= {"podIP": address, "podIPs": [{"ip": address}]}
        self.set_pod_status(pod, status)

    def refuse(self, pod: str, reason: str) -> None:
        """Have a pod fail, as a kubelet that can't give it its cores would."""
        message = "Pod was rejected: Resources cannot be allocated with Topology locality"
        self.set_pod_status(pod, {"phase": "Failed", "reason": reason, "message": message})

    def set_pod_status(self, pod: str, status: Object) -> None:
        """Report on a pod, as a kubelet would."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", f"pod/{pod}", "--subresource=status", "--type=merge", f"--patch={patch}")

    @contextmanager
    def every_number_of_replicas(self) -> Iterator[set[int]]:
        """All values that the Deployment's replicas have, from now until its annotation tests/end is set."""
        seen: set[int] = set()
        columns = r'jsonpath={.spec.replicas} {.metadata.annotations.tests/end}{"\n"}'
        command = [
            *(str(self.access.kubectl_program), f"--kubeconfig={self.access.kubeconfig}"),
            *("get", "deployment/hunt", f"--namespace={self.namespace}", "--watch", "--output", columns),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            output = process.stdout
            assert output is not None
            try:
                seen.add(int(output.readline().split()[0]))
                yield seen
                for line in output:
                    number, *end = line.split()
                    seen.add(int(number))
                    if end:
                        break
            finally:
                process.kill()

    def replicas(self) -> int:
        deployment = self.get("deployment/hunt")
        assert deployment is not None
        return int(deployment["spec"]["replicas"])

    def until_quiet(self) -> None:
        """Until the operator has done what there is to do, twice over."""
        self.until_observed()
        before = self.operator.metric("eventengine_operator_reconciles_total")
        self.kubectl("annotate", "--overwrite", "ee/hunt", f"tests/nudge={secrets.token_hex(4)}")
        wait_for(
            lambda: self.operator.metric("eventengine_operator_reconciles_total") > before,
            "a reconcile",
            SECONDS,
        )
