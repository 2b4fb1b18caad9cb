"""The Deployment of an EventEngine: Guaranteed pods that may own their cores.

Rules: requests equal limits, for the static CPU manager gives whole cores to Guaranteed
pods with integer CPUs only; `replicas` is in the manifest only where the operator is
their owner; a change of the configuration changes the template through its hash.
"""

from __future__ import annotations

from typing import Final

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.quantities import NANOSECONDS
from eventengine_contract.well_known import (
    ANNOTATION_CONFIG_HASH,
    ANNOTATION_SECRETS_HASH,
    CREDENTIALS_FOLDER,
    ENGINE_CONFIG_PATH,
    ENV_CPU_LIMIT_MILLICORES,
    ENV_ENGINE,
    ENV_MEMORY_LIMIT_BYTES,
    ENV_NAMESPACE,
    ENV_PINNING,
    ENV_POD,
    PORT_TELEMETRY,
    PORT_TELEMETRY_NAME,
    config_map_name,
    engine_labels,
    pod_selector,
)

from eventengine_operator.resources.engines import (
    CONFIG_FOLDER,
    CONFIG_VOLUME_NAME,
    CREDENTIALS_VOLUME_PREFIX,
    DATA_VOLUME_NAME,
    Engine,
    tcp_ports,
    workload_kind,
)
from eventengine_operator.resources.mounted_secrets import credential_names
from eventengine_operator.resources.objects import Object, text_at
from eventengine_operator.resources.pods import CONTAINER_NAME

from .config_maps import engine_yaml
from .metadata import content_hash, owned_object
from .quantities import decimal_quantity, memory_quantity
from .services import port_name

ANNOTATION_REPLICAS: Final = "eventengine.dev/replicas"
REPLICAS_OF_OTHERS: Final = "not-managed"
"""Says on the Deployment that its replicas weren't the operator's when it was applied last."""
USER_ID: Final = 65_532
REVISIONS_KEPT: Final = 3
SPREAD_KEYS: Final = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"
"""Said outright: without it a volume of the user's would hold a node for ever."""
DO_NOT_DISRUPT: Final = "karpenter.sh/do-not-disrupt"
CREDENTIALS_MODE: Final = 0o440
DRAIN_MARGIN_SECONDS: Final = 10
"""Beyond drainTimeout: for the process to notice the signal, and to exit after the drain."""
STARTUP_SECONDS_MAX: Final = 120
SECURITY: Final[Object] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""What the restricted standard asks of a container."""
NONE: Final = (0, "0%")
REVISION_LABELS: Final = {"Deployment": "pod-template-hash", "StatefulSet": "controller-revision-hash"}


def deployment(
    engine: Engine,
    spec: EventEngineSpec,
    default_image: str,
    replicas: int | None,
    *,
    is_held: bool = False,
    secrets_hash: str = "",
) -> Object:
    """The Deployment `<X>`; `replicas` None leaves them to whoever owns them; `is_held` stops its rollout."""
    body: Object = {
        "revisionHistoryLimit": REVISIONS_KEPT,
        "progressDeadlineSeconds": spec.rollout.progress_deadline_seconds,
        "selector": {"matchLabels": pod_selector(engine.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling_update(spec)},
        "template": pod_template(engine, spec, default_image, secrets_hash),
    }
    if spec.rollout.min_ready_seconds:
        body["minReadySeconds"] = (
            spec.rollout.min_ready_seconds
        )  # a 0 isn't stored, and would look like drift
    if is_held:
        body["paused"] = True
    annotations = {}
    if replicas is not None:
        body["replicas"] = replicas
    else:
        annotations[ANNOTATION_REPLICAS] = REPLICAS_OF_OTHERS
    return owned_object(engine, "apps/v1", "Deployment", engine.name, {"spec": body}, annotations)


def _rolling_update(spec: EventEngineSpec) -> Object:
    """A pinned pod's successor may find no free core while its predecessor still holds one."""
    surge, unavailable = spec.rollout.max_surge, spec.rollout.max_unavailable
    is_shared = spec.pod.pinning == "Off"
    if surge is None:
        surge = 1 if is_shared or unavailable in NONE else 0
    if unavailable is None:
        unavailable = 1 if not is_shared or surge in NONE else 0
    return {"maxSurge": surge, "maxUnavailable": unavailable}


def pod_template(engine: Engine, spec: EventEngineSpec, default_image: str, secrets_hash: str = "") -> Object:
    """The pod template: a pure function of the EventEngine, the default image and the mounted Secrets' versions."""
    template = spec.pod.template
    hashes = {ANNOTATION_CONFIG_HASH: content_hash(engine_yaml(engine))}
    if secrets_hash:
        hashes[ANNOTATION_SECRETS_HASH] = secrets_hash
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _grace_period_seconds(spec),
        "securityContext": pod_security(),
        "containers": [_container(engine, spec, default_image)],
        # The volume of a StatefulSet's pod is named here by its mount alone: its controller adds the rest.
        "volumes": [
            {"name": CONFIG_VOLUME_NAME, "configMap": {"name": config_map_name(engine.name)}},
            *(_credentials_volume(name) for name in credential_names(spec.engine)),
            *template.volumes,
        ],
    }
    optional: Object = {
        "nodeSelector": template.node_selector,
        "tolerations": template.tolerations,
        "affinity": template.affinity,
        "topologySpreadConstraints": _spread(
            engine, template.topology_spread_constraints, REVISION_LABELS[workload_kind(spec)]
        ),
        "priorityClassName": template.priority_class_name,
        "imagePullSecrets": template.image_pull_secrets,
        "resourceClaims": template.resource_claims,
    }
    pod.update({key: value for key, value in optional.items() if value})
    return {
        "metadata": {
            "labels": template.labels | engine_labels(engine.name),
            "annotations": _consolidation(spec) | template.annotations | hashes,
        },
        "spec": pod,
    }


def pod_security() -> Object:
    """What the restricted standard asks of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_resources(spec: EventEngineSpec) -> Object:
    """Requests and limits, equal."""
    resources = {"cpu": decimal_quantity(spec.pod.cpus), "memory": memory_quantity(spec.pod.memory)}
    return {"requests": dict(resources), "limits": resources}


def _consolidation(spec: EventEngineSpec) -> dict[str, str]:
    """What autoscalers of nodes read before they move a running pod. One that is leaving they wait for anyhow."""
    if spec.disruption.consolidation == "Never":
        return {SAFE_TO_EVICT: "false", DO_NOT_DISRUPT: "true"}
    return {SAFE_TO_EVICT: "true"}


def _credentials_volume(secret: str) -> Object:
    """Readable by the engine's group alone; a pod waits for a Secret that doesn't exist yet."""
    return {
        "name": _credentials_volume_name(secret),
        "secret": {"secretName": secret, "defaultMode": CREDENTIALS_MODE},
    }


def _credentials_volume_name(secret: str) -> str:
    """A volume's name has no dots and 63 characters; the hash tells `a.b` from `a-b`."""
    return f"{CREDENTIALS_VOLUME_PREFIX}{content_hash(secret)[:10]}"


def _spread(engine: Engine, declared: list[Object] | None, revision_label: str) -> list[Object]:
    """What the user says; else a wish, which a full cluster may leave unfulfilled. Each revision counts for itself."""
    if declared is not None:
        return declared
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": pod_selector(engine.name)},
            "matchLabelKeys": [revision_label],
        }
        for key in SPREAD_KEYS
    ]


def _grace_period_seconds(spec: EventEngineSpec) -> int:
    return -(-spec.engine.drain_timeout // NANOSECONDS["s"]) + DRAIN_MARGIN_SECONDS


def _container(engine: Engine, spec: EventEngineSpec, default_image: str) -> Object:
    resources = pod_resources(spec)
    claims = [{"name": text_at(claim, "name")} for claim in spec.pod.template.resource_claims]
    if claims:
        resources["claims"] = claims
    ports = [(PORT_TELEMETRY_NAME, PORT_TELEMETRY)]
    ports += [(port_name(port), port) for _, port in tcp_ports(spec.engine)]
    return {
        "name": CONTAINER_NAME,
        "image": spec.image or default_image,
        "args": ["run", ENGINE_CONFIG_PATH],
        "env": _environment(engine, spec),
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "resources": resources,
        "startupProbe": _probe("/livez", period_seconds=1, failures=STARTUP_SECONDS_MAX),
        "livenessProbe": _probe("/livez", period_seconds=10, failures=6),
        "readinessProbe": _probe("/readyz", period_seconds=2, failures=2),
        "securityContext": SECURITY,
        "volumeMounts": [
            {
                "name": CONFIG_VOLUME_NAME,
                "mountPath": CONFIG_FOLDER,
                "readOnly": True,
            },
            *_data_mount(spec),
            *(
                {
                    "name": _credentials_volume_name(name),
                    "mountPath": f"{CREDENTIALS_FOLDER}/{name}",
                    "readOnly": True,
                }
                for name in credential_names(spec.engine)
            ),
            *spec.pod.template.volume_mounts,
        ],
    }


def _data_mount(spec: EventEngineSpec) -> list[Object]:
    if spec.storage is None:
        return []
    return [{"name": DATA_VOLUME_NAME, "mountPath": spec.storage.mount_path}]


def _environment(engine: Engine, spec: EventEngineSpec) -> list[Object]:
    """All that an engine is told of where it runs; it knows nothing of Kubernetes."""
    return [
        {"name": ENV_ENGINE, "value": engine.name},
        {"name": ENV_PINNING, "value": spec.pod.pinning},
        {"name": ENV_NAMESPACE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": ENV_POD, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {
            "name": ENV_CPU_LIMIT_MILLICORES,
            "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}},
        },
        {
            "name": ENV_MEMORY_LIMIT_BYTES,
            "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1"}},
        },
    ]


def _probe(path: str, period_seconds: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": PORT_TELEMETRY_NAME},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }
