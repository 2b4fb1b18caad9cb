"""An image is built without a network, imported into the node, and runs there."""

from __future__ import annotations

from pathlib import Path

import pytest
from eventengine_harness import images
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.clusters import Cluster
from eventengine_harness.exceptions import CommandError

DOCKERFILE = """\
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE} AS made
RUN python3 -c 'open("/greeting", "w").write("hello from " + __import__("sys").version[:4])'
FROM ${PYTHON_IMAGE}
COPY --from=made /greeting /greeting
USER 65532:65532
ENTRYPOINT ["python3", "-c", "print(open('/greeting').read(), __import__('os').getuid())"]
"""
NAME = "docker.io/eventengine-test/greeting:1"


@pytest.mark.usefixtures("all_cpus")
def test_a_dockerfile_of_two_stages_becomes_an_image_that_a_pod_runs(
    cluster: Cluster, access: KubernetesAccess, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text(DOCKERFILE)
    archive = tmp_path / "image.tar"
    images.build_image(tmp_path / "context", NAME, archive, arguments={}, title="building greeting")
    cluster.node.import_image(archive)
    assert NAME in cluster.node.images()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "greeter"},
        # The short name, as the chart uses it.
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "eventengine-test/greeting:1"}],
        },
    }
    access.apply(pod, namespace=namespace)
    access.wait_until(
        "pod",
        "greeter",
        lambda found: found.get("status", {}).get("phase") == "Succeeded",
        "ended well",
        namespace=namespace,
    )
    logs = access.kubectl("logs", "greeter", f"--namespace={namespace}")
    assert logs.strip() == "hello from 3.11 65532"


def test_a_build_that_wants_the_network_fails(tmp_path: Path) -> None:
    ask = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)"
    (tmp_path / "Dockerfile").write_text(f'FROM python:3.11-slim\nRUN python3 -c "{ask}"\n')
    with pytest.raises(CommandError, match="Network is unreachable"):
        images.build_image(tmp_path, NAME, tmp_path / "image.tar", arguments={}, title="building in vain")
