"""The chart on the demo's cluster: refused where it would harm, installed, and removed again.

Owns what the demo makes in Kubernetes outside of its story. On a cluster of somebody's own nothing may be
there afterwards that was not there before, and nothing may be taken away that was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from eventengine_contract import well_known

from eventengine_harness.accesses import KubernetesAccess
from eventengine_harness.exceptions import HarnessError

from .stages import Stage, StageError

ROOT: Final = Path(__file__).resolve().parents[5]
CHART: Final = ROOT / "charts" / "eventengine"
NAMESPACE: Final = "eventengine-demo"
SYSTEM_NAMESPACE: Final = well_known.SYSTEM_NAMESPACE
RELEASE: Final = "eventengine"
DEFINITION: Final = f"{well_known.PLURAL}.{well_known.API_GROUP}"
AWAITED_APIS: Final = ("v1beta1.external.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io")
KUBECTL_SECONDS_MAX: Final = 120


def check_is_free(access: KubernetesAccess) -> None:
    """Refuse a cluster that the demo would harm, because EventEngine or another demo is there.

    Raises:
        StageError: naming what is there and how to go on.
    """
    remedies = {
        ("namespace", NAMESPACE): (
            f"another demo runs here, or one was killed: kubectl delete namespace {NAMESPACE}"
        ),
        ("namespace", SYSTEM_NAMESPACE): (
            "the demo installs a release of its own there and removes it afterwards; take another cluster, "
            f"or, if nobody needs it: helm uninstall {RELEASE} --namespace {SYSTEM_NAMESPACE} and "
            f"kubectl delete namespace {SYSTEM_NAMESPACE}"
        ),
        ("customresourcedefinition", DEFINITION): (
            "the demo would remove it and with it every EventEngine; take another cluster, or, if nobody needs "
            f"it: kubectl delete customresourcedefinition {DEFINITION}"
        ),
    }
    for (kind, name), remedy in remedies.items():
        if access.get(kind, name) is not None:
            raise StageError(f"CLUSTER=current: the cluster has the {kind} {name}: {remedy}")


def install(stage: Stage) -> None:
    """Install the chart with the stage's images, and wait until the metrics APIs are served."""
    access = stage.access
    settings = {
        f"{part}.image.{key}": value
        for part in ("operator", "adapter", "engine")
        for key, value in zip(("repository", "tag"), getattr(stage.images, part).rsplit(":", 1), strict=True)
    }
    # The definition goes with the release: it was not there before.
    settings["crds.keep"] = "false"
    access.helm(
        *("upgrade", "--install", RELEASE, CHART, "--namespace", SYSTEM_NAMESPACE),
        *("--create-namespace", "--take-ownership", "--wait", "--timeout", "120s"),
        *(f"--set={key}={value}" for key, value in settings.items()),
    )
    access.kubectl("create", "namespace", NAMESPACE)
    for name in AWAITED_APIS:
        access.wait_for_condition("apiservice", name, "Available")


def remove(access: KubernetesAccess, say: Callable[[str], None]) -> bool:
    """Take away what the demo made in the cluster; says what could not be, and returns False then."""
    steps = (
        lambda: access.delete("namespace", NAMESPACE),
        lambda: access.helm(
            *("uninstall", RELEASE, "--namespace", SYSTEM_NAMESPACE),
            *("--ignore-not-found", "--wait", "--timeout", "120s"),
        ),
        lambda: access.delete("namespace", SYSTEM_NAMESPACE),
    )
    complete = True
    for step in steps:
        try:
            step()
        except HarnessError as error:
            say(f"not removed: {error}")
            complete = False
    return complete
