"""The demo on a cluster that is not its own: whatever ends it, the cluster and its Kafka are as they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.brokers import Broker
from eventengine_harness.demo.installing import DEFINITION, NAMESPACE, SYSTEM_NAMESPACE
from eventengine_harness.demo.runs import topics_and_groups
from eventengine_harness.waiting import wait_for

ACT_DEADLINE_SECONDS = 150.0
END_DEADLINE_SECONDS = 150.0
CLUSTER_WIDE_KINDS = (
    "namespaces",
    "clusterroles",
    "clusterrolebindings",
    "apiservices",
    "customresourcedefinitions",
)


def everything(access: KubernetesAccess, kafka: Broker) -> dict[str, object]:
    """What a run of the demo could leave behind, by place."""
    present: dict[str, object] = {
        kind: sorted(item["metadata"]["name"] for item in access.list(kind)) for kind in CLUSTER_WIDE_KINDS
    }
    present["kafka"] = topics_and_groups(kafka.bootstrap_servers)
    return present


def demo(access: KubernetesAccess, kafka: Broker, log: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        **access.environment,
        "KAFKA_BOOTSTRAP": kafka.bootstrap_servers,
        "IMAGE_REGISTRY": "docker.io",
    }
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "eventengine_harness.demo", "--cluster", "current"],
            env=environment,
            stdout=output,
            stderr=output,
        )


@pytest.mark.timeout(360, func_only=True)
@pytest.mark.usefixtures("product_images")
def test_a_demo_that_is_interrupted_leaves_another_ones_cluster_as_it_was(
    access: KubernetesAccess, kafka: Broker, tmp_path: Path
) -> None:
    # An earlier test's release leaves its definition, as it should; a demo refuses such a cluster.
    access.delete("customresourcedefinition", DEFINITION)
    access.wait_until_gone("namespace", SYSTEM_NAMESPACE)
    before = everything(access, kafka)
    log = tmp_path / "demo.log"
    with demo(access, kafka, log) as process:
        try:

            def runs() -> bool:
                assert process.poll() is None, log.read_text()
                if access.get("namespace", NAMESPACE) is None:
                    return False
                pods = access.list("pods", NAMESPACE, "eventengine.dev/engine=hunt-pinned")
                topics, _ = topics_and_groups(kafka.bootstrap_servers, "demo-")
                return bool(topics and pods and pods[0]["status"]["phase"] == "Running")

            wait_for(runs, "the demo's first engine", ACT_DEADLINE_SECONDS, last_seen=log.read_text)
            process.send_signal(signal.SIGTERM)
            assert process.wait(END_DEADLINE_SECONDS) == 128 + signal.SIGTERM, log.read_text()
        finally:
            process.kill()

    def difference() -> dict[str, object]:
        return {place: now for place, now in everything(access, kafka).items() if now != before[place]}

    # A deleted topic leaves the broker's answers a moment after its deletion was confirmed.
    wait_for(lambda: not difference(), "a cluster as it was", 10, last_seen=lambda: str(difference()))
