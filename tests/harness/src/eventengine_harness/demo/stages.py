"""Where the demo plays: a cluster of its own, or the one that the kubeconfig points at.

Owns the difference between the two and nothing else: both give a way to run kubectl and helm, the
address of Kafka as pods see it, and images that the nodes can run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

COMMAND_TIMEOUT_SECONDS: Final = 180


@dataclass(frozen=True)
class Images:
    """References of the three images."""

    engine: str
    operator: str
    adapter: str


class Stage(Protocol):
    """A cluster to play on."""

    @property
    def kubeconfig(self) -> Path | None:
        """The kubeconfig, or None for the current one."""

    @property
    def kafka_address(self) -> str:
        """host:port of Kafka, as pods see it."""

    @property
    def images(self) -> Images:
        """Images that the nodes can run."""

    def kubectl(self, arguments: Sequence[str], text: str | None = None) -> str:
        """Run kubectl and return what it printed."""

    def helm(self, arguments: Sequence[str]) -> str:
        """Run helm and return what it printed."""


class StageError(RuntimeError):
    """The stage can't be used; the message says what to do."""


@dataclass(frozen=True)
class CurrentStage:
    """The cluster of the current kubeconfig, with a Kafka and images that it can reach."""

    kafka_address: str
    images: Images
    kubectl_path: str
    helm_path: str
    kubeconfig: Path | None = None

    def kubectl(self, arguments: Sequence[str], text: str | None = None) -> str:
        """Run kubectl against the current context."""
        return run_command([self.kubectl_path, *arguments], text)

    def helm(self, arguments: Sequence[str]) -> str:
        """Run helm against the current context."""
        return run_command([self.helm_path, *arguments], None)


def run_command(command: Sequence[str], text: str | None) -> str:
    """Run a command to its end.

    Raises:
        StageError: with the command and what it said, when it fails or takes too long.
    """
    try:
        process = subprocess.run(
            command, check=False, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise StageError(f"{' '.join(command)}: no end after {COMMAND_TIMEOUT_SECONDS} s") from None
    if process.returncode:
        raise StageError(f"{' '.join(command)}: {process.stderr.strip() or process.stdout.strip()}")
    return process.stdout


@contextlib.contextmanager
def current_stage() -> Iterator[Stage]:
    """The stage for `CLUSTER=current`.

    Reads KAFKA_BOOTSTRAP (a Kafka that pods can reach), IMAGE_REGISTRY and IMAGE_TAG (where the three images are).
    """
    address = os.environ.get("KAFKA_BOOTSTRAP")
    registry = os.environ.get("IMAGE_REGISTRY", "").rstrip("/")
    tag = os.environ.get("IMAGE_TAG", "0.1.0")
    if not address:
        raise StageError(
            "CLUSTER=current needs a Kafka that the cluster's pods can reach: set KAFKA_BOOTSTRAP=host:port"
        )
    tools = {name: shutil.which(name) for name in ("kubectl", "helm")}
    for name, path in tools.items():
        if path is None:
            raise StageError(f"CLUSTER=current needs {name} on the PATH")
    prefix = f"{registry}/" if registry else ""
    stage = CurrentStage(
        kafka_address=address,
        images=Images(*(f"{prefix}eventengine/{part}:{tag}" for part in ("engine", "operator", "adapter"))),
        kubectl_path=str(tools["kubectl"]),
        helm_path=str(tools["helm"]),
    )
    try:
        stage.kubectl(["version", "--request-timeout=5s", "-o", "json"])
    except StageError as error:
        raise StageError(f"CLUSTER=current: the kubeconfig's cluster does not answer: {error}") from None
    yield stage
