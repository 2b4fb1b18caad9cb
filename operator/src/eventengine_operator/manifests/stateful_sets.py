"""The StatefulSet of an EventEngine with storage: the same pods as a Deployment's, each with a volume of its own.

Rules: a claim outlives its pod and the scaling away of it; pods start and end in parallel, and are replaced one by
one. Name of the Service, management policy, selector and claim templates can't be changed later: the first three are
constants, and the CRD refuses a change of the last.
"""

from __future__ import annotations

from typing import Final

from eventengine_contract.event_engine import EventEngineSpec, Storage
from eventengine_contract.well_known import engine_labels, pod_selector

from eventengine_operator.resources.engines import DATA_VOLUME_NAME, Engine
from eventengine_operator.resources.objects import Object

from .deployments import ANNOTATION_REPLICAS, REPLICAS_OF_OTHERS, REVISIONS_KEPT, pod_template
from .metadata import owned_object
from .services import pods_service_name

PARTITION_OF_ALL: Final = 1_000_000
"""More than any ordinal: no pod is replaced."""


def stateful_set(
    engine: Engine,
    spec: EventEngineSpec,
    storage: Storage,
    default_image: str,
    replicas: int | None,
    *,
    is_held: bool = False,
    secrets_hash: str = "",
) -> Object:
    """The StatefulSet `<X>`; the arguments are those of `deployment`."""
    partition = PARTITION_OF_ALL if is_held else 0
    body: Object = {
        "serviceName": pods_service_name(engine.name),
        "podManagementPolicy": "Parallel",
        "persistentVolumeClaimRetentionPolicy": {
            "whenDeleted": storage.when_deleted,
            "whenScaled": storage.when_scaled,
        },
        "revisionHistoryLimit": REVISIONS_KEPT,
        "selector": {"matchLabels": pod_selector(engine.name)},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
        "template": pod_template(engine, spec, default_image, secrets_hash),
        "volumeClaimTemplates": [_claim(engine, storage)],
    }
    if spec.rollout.min_ready_seconds:
        body["minReadySeconds"] = spec.rollout.min_ready_seconds
    annotations = {}
    if replicas is not None:
        body["replicas"] = replicas
    else:
        annotations[ANNOTATION_REPLICAS] = REPLICAS_OF_OTHERS
    return owned_object(engine, "apps/v1", "StatefulSet", engine.name, {"spec": body}, annotations)


def _claim(engine: Engine, storage: Storage) -> Object:
    spec: Object = {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": DATA_VOLUME_NAME, "labels": engine_labels(engine.name)},
        "spec": spec,
    }
