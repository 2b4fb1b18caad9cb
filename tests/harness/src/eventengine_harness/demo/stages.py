"""Where the demo plays: a cluster of its own, or the one that the kubeconfig points at.

Owns the difference between the two and nothing else: both come down to a kubeconfig, the address of
Kafka as pods see it, and images that the nodes can run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eventengine_harness import builds, images
from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.clusters import Cluster
from eventengine_harness.exceptions import CommandError

OTHER_CLUSTER_WAIT_SECONDS: Final = 900.0
"""Only one cluster fits on a machine: the demo waits so long for another one, such as the tests', to end."""


@dataclass(frozen=True)
class Images:
    """References of the three images, `repository:tag`."""

    engine: str
    operator: str
    adapter: str


@dataclass(frozen=True)
class Stage:
    """A cluster to play on, a Kafka that its pods reach, and images that its nodes can run."""

    access: KubernetesAccess
    kafka_address: str
    images: Images
    kafka_address_outside: str | None = None
    """Kafka as this machine reaches it, where what the demo made in it has to be removed afterwards."""

    @staticmethod
    def of(cluster: Cluster) -> Stage:
        """The stage that a cluster of the harness is, once its node has our images."""
        tag = images.default_tag()
        return Stage(
            access=cluster.access,
            kafka_address=cluster.broker.bootstrap_servers,
            images=Images(**{part: images.reference(part, tag) for part in images.PARTS}),
        )


class StageError(RuntimeError):
    """The stage can't be used; the message says what to do."""


@contextlib.contextmanager
def local_stage(say: Callable[[str], None]) -> Iterator[Stage]:
    """A cluster and a Kafka on this machine, made for the demo and removed after it."""
    say("Setting the stage: images, Kubernetes, Kafka (the first time builds them)")
    archives = {part: images.image(part) for part in images.PARTS}
    with Cluster(kafka=True, wait_seconds=OTHER_CLUSTER_WAIT_SECONDS) as cluster:
        for archive in archives.values():
            cluster.node.import_image(archive)
        yield Stage.of(cluster)


@contextlib.contextmanager
def current_stage() -> Iterator[Stage]:
    """The cluster of the current kubeconfig, for `CLUSTER=current`.

    Reads KUBECONFIG, KAFKA_BOOTSTRAP (a Kafka that pods can reach), KAFKA_BOOTSTRAP_OUTSIDE (the same as this
    machine reaches it, where that differs), IMAGE_REGISTRY and IMAGE_TAG (where the three images are).

    Raises:
        StageError: something is missing; the message says what to set.
    """
    address = os.environ.get("KAFKA_BOOTSTRAP")
    if not address:
        raise StageError(
            "CLUSTER=current needs a Kafka that the cluster's pods reach: set KAFKA_BOOTSTRAP=host:port. Where the "
            "pods reach this machine, it can be one of its own: python -m eventengine_harness kafka up --host ADDRESS"
        )
    kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not kubeconfig.exists():
        raise StageError(f"CLUSTER=current needs a kubeconfig: {kubeconfig} does not exist; set KUBECONFIG")
    registry = os.environ.get("IMAGE_REGISTRY", "").rstrip("/")
    tag = os.environ.get("IMAGE_TAG") or images.default_tag()
    prefix = f"{registry}/" if registry else ""
    access = KubernetesAccess(kubeconfig, builds.kubernetes() / "kubectl")
    try:
        access.kubectl("version", "--request-timeout=5s", "-o", "json")
    except CommandError as error:
        raise StageError(f"CLUSTER=current: the cluster of {kubeconfig} does not answer: {error}") from None
    yield Stage(
        access=access,
        kafka_address=address,
        kafka_address_outside=os.environ.get("KAFKA_BOOTSTRAP_OUTSIDE") or address,
        images=Images(*(f"{prefix}eventengine/{part}:{tag}" for part in ("engine", "operator", "adapter"))),
    )
