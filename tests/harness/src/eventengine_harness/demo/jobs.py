"""Pods of the demo's own: load generator, audit, and a best-effort neighbour. Pure: types to manifests.

They run the engine's image, under the restricted pod security standard, in the demo's namespace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

USER_ID: Final = 65532
RESULTS_FOLDER: Final = "/results"
JOB_DEADLINE_SECONDS: Final = 600


def container(image: str, arguments: Sequence[str], cpu_request: str, results: str | None) -> dict[str, Any]:
    """A restricted container of the engine's image that runs `eventengine` with `arguments`."""
    mounts = [{"name": "results", "mountPath": RESULTS_FOLDER, "readOnly": True}] if results else []
    return {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(arguments),
        "resources": {
            "requests": {"cpu": cpu_request, "memory": "96Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _pod_spec(main: dict[str, Any], results: str | None) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [main],
        "volumes": [{"name": "results", "configMap": {"name": results}}] if results else [],
    }


def job(name: str, image: str, arguments: Sequence[str], results: str | None = None) -> dict[str, Any]:
    """A Job that runs `eventengine ARGUMENTS` once; `results` names a ConfigMap to mount at RESULTS_FOLDER."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": JOB_DEADLINE_SECONDS,
            "template": {
                "metadata": {"labels": {"eventengine.dev/demo": name}},
                "spec": _pod_spec(container(image, arguments, "50m", results), results),
            },
        },
    }


def neighbour(name: str, image: str) -> dict[str, Any]:
    """A best-effort pod that only waits: it gets what the pinned pods leave."""
    main = container(image, [], "0", None)
    main["command"] = ["sleep", "600"]
    main["resources"] = {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": _pod_spec(main, None),
    }


def results_map(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """A ConfigMap that hands the results of Jobs to another."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(files)}
