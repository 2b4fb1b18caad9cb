"""Pods that keep room on nodes: as large as an engine's, of no use, and the first to give way.

An autoscaler of nodes makes nodes for them as for any pod. When an engine's pod finds no room it takes theirs at once,
and they wait for the next node instead. They run the engine's image, which is then on the node already.

Never labelled as pods of the engine: neither its selectors nor the metrics may count them.
"""

from __future__ import annotations

from eventengine_contract.event_engine import EventEngineSpec, Headroom
from eventengine_contract.well_known import (
    COMPONENT_HEADROOM,
    LABEL_COMPONENT,
    LABEL_HEADROOM,
    LABEL_NAME,
    PART_NAME,
)

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object

from .deployments import SAFE_TO_EVICT, SECURITY, pod_resources, pod_security
from .metadata import owned_object


def headroom(
    engine: Engine, spec: EventEngineSpec, declared: Headroom, default_image: str, replicas: int | None
) -> Object:
    """The Deployment `<X>-headroom`; an engine that rests at zero needs none."""
    template = spec.pod.template
    labels = {
        LABEL_NAME: PART_NAME,
        LABEL_COMPONENT: COMPONENT_HEADROOM,
        LABEL_HEADROOM: engine.name,
    }
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "priorityClassName": declared.priority_class_name,
        "securityContext": pod_security(),
        "containers": [
            {
                "name": COMPONENT_HEADROOM,
                "image": spec.image or default_image,
                "command": ["sleep", "infinity"],
                "resources": pod_resources(spec),
                "securityContext": SECURITY,
            }
        ],
    }
    optional: Object = {
        "nodeSelector": template.node_selector,
        "tolerations": template.tolerations,
        "affinity": template.affinity,
        "imagePullSecrets": template.image_pull_secrets,
    }
    pod.update({key: value for key, value in optional.items() if value})
    body = {
        "replicas": 0 if replicas == 0 else declared.pods,
        "revisionHistoryLimit": 0,
        "selector": {"matchLabels": {LABEL_COMPONENT: COMPONENT_HEADROOM, LABEL_HEADROOM: engine.name}},
        "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": labels, "annotations": {SAFE_TO_EVICT: "true"}}, "spec": pod},
    }
    return owned_object(engine, "apps/v1", "Deployment", headroom_name(engine), {"spec": body})


def headroom_name(engine: Engine) -> str:
    """Name of the Deployment."""
    return f"{engine.name}-headroom"
