"""EventEngine: the custom resource, as a user writes it and as the operator reports on it.

Owns the spec and status models and the CEL rules that the API server applies to
them. The CRD is generated from here (`generating.py`); nobody edits it by hand.
`spec.engine` is an EngineConfig, verbatim.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from .engine_config import EngineConfig
from .modelling import Model, validation
from .pod_metrics import pod_metrics
from .quantities import Count, Quantity, parse_quantity_millis
from .well_known import HEADROOM_PRIORITY_CLASS

ENGINE_NAME_LENGTH_MAX = 52
"""So that the names derived from it stay within 63 characters."""

FreeForm = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
"""An object of the Kubernetes API that is handed on as it stands."""

Label = Annotated[str, Field(max_length=253)]
Text = Annotated[str, Field(max_length=1024)]


class ConditionType(StrEnum):
    """Conditions of an EventEngine."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SPEC_VALID = "SpecValid"
    PINNING_SATISFIED = "PinningSatisfied"
    METRICS_AVAILABLE = "MetricsAvailable"
    AUTOSCALING_ACTIVE = "AutoscalingActive"
    PAUSED = "Paused"
    HIBERNATED = "Hibernated"


class PodTemplate(Model):
    """What a user may add to the pods. The engine container itself is the operator's."""

    labels: Annotated[dict[Label, Label], Field(max_length=32)] = Field({}, description="Further labels.")
    annotations: Annotated[dict[Label, Annotated[str, Field(max_length=65_536)]], Field(max_length=32)] = (
        Field({}, description="Further annotations.")
    )
    node_selector: Annotated[dict[Label, Label], Field(max_length=32)] = Field(
        {}, description="Node labels to ask for."
    )
    tolerations: list[FreeForm] = Field([], max_length=32, description="Tolerations, as in a pod.")
    affinity: FreeForm | None = Field(None, description="Affinity, as in a pod.")
    topology_spread_constraints: list[FreeForm] | None = Field(
        None,
        max_length=8,
        description="As in a pod; where left out, pods prefer to spread over zones and nodes. [] turns that off.",
    )
    priority_class_name: Label | None = Field(None, description="PriorityClass of the pods.")
    image_pull_secrets: list[FreeForm] = Field(
        [], max_length=8, description="Secrets to pull the image with."
    )
    resource_claims: list[FreeForm] = Field(
        [], max_length=8, description="Claims of devices, as in a pod; the engine's container uses them all."
    )
    volumes: list[FreeForm] = Field(
        [], max_length=32, description="Further volumes, such as a Secret with a token."
    )
    volume_mounts: list[FreeForm] = Field([], max_length=32, description="Mounts of these volumes.")

    @field_validator("annotations")
    @classmethod
    def _check_metrics(cls, annotations: dict[str, str]) -> dict[str, str]:
        pod_metrics(annotations)
        return annotations


class Pod(Model):
    """The shape of one engine pod."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "(has(self.pinning) && self.pinning == 'Off') || (type(self.cpus) == int ? self.cpus >= 1 : "
                    "(quantity(self.cpus).isInteger() && quantity(self.cpus).compareTo(quantity('1')) >= 0))",
                    "a pinned engine needs whole cores: set cpus to 1, 2, ... or pinning to Off",
                )
            ]
        }
    )

    cpus: Quantity = Field(
        "1", description="Cores of one pod, requested and limited; whole numbers when pinned."
    )
    memory: Quantity = Field("512Mi", description="Memory of one pod, requested and limited.")
    pinning: Literal["Required", "Preferred", "Off"] = Field(
        "Required",
        description=(
            "Required: a pod is not ready until it has cores of its own. Preferred: it runs and says so. "
            "Off: it shares cores."
        ),
    )
    template: PodTemplate = Field(
        default_factory=lambda: PodTemplate.model_validate({}), description="Additions to the pod."
    )

    @property
    def cpus_millis(self) -> int:
        """Cores of one pod in thousandths."""
        return parse_quantity_millis(self.cpus)


class LabelSelector(Model):
    """Labels that the selected items of a metric carry."""

    match_labels: Annotated[dict[Label, Label], Field(max_length=16)] = Field(
        {}, description="Label and value."
    )


class MetricTarget(Model):
    """What the autoscaler aims for: exactly one of both."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "has(self.averageValue) != has(self.value)",
                    "set exactly one of averageValue and value",
                )
            ]
        }
    )

    average_value: Quantity | None = Field(None, description="Value per pod.")
    value: Quantity | None = Field(None, description="Value of the whole.")


class AutoscalingMetric(Model):
    """One of the engine's metrics to scale on."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "self.source != 'Pods' || self.name != 'consumer_lag_forecast'",
                    "consumer_lag_forecast is of the engine as a whole: use source External or Object",
                ),
                validation(
                    "self.source != 'Pods' || has(self.target.averageValue)",
                    "a metric of source Pods needs averageValue",
                ),
            ]
        }
    )

    name: Literal[
        "buffer_pool_utilisation",
        "ring_utilisation",
        "arena_utilisation",
        "consumer_lag",
        "consumer_lag_forecast",
        "kafka_consumer_lag",
        "allocator_pressure",
        "shed_events_per_second",
        "service_time_p99_milliseconds",
    ] = Field(description="Name of the metric.")
    source: Literal["Pods", "Object", "External"] = Field(
        "External",
        description="Which metrics API: per pod, of the EventEngine as a whole, or external.",
    )
    selector: LabelSelector | None = Field(
        None, description="Narrows the metric down, for instance to one source."
    )
    target: MetricTarget = Field(description="What to aim for.")


class ScalingPolicy(Model):
    """One bound on the speed of scaling, as in autoscaling/v2."""

    type: Literal["Pods", "Percent"] = Field(description="Unit of value.")
    value: int = Field(ge=1, le=10_000, description="Largest change within the period.")
    period_seconds: int = Field(ge=1, le=1800, description="The period.")


class ScalingRules(Model):
    """Behaviour in one direction, as in autoscaling/v2."""

    stabilization_window_seconds: int | None = Field(None, ge=0, le=3600, description="Look back this far.")
    select_policy: Literal["Max", "Min", "Disabled"] | None = Field(None, description="Which policy counts.")
    policies: list[ScalingPolicy] | None = Field(None, max_length=16, description="Bounds on the speed.")
    tolerance: Quantity | None = Field(
        None,
        description="Deviation to ignore, as a ratio; from Kubernetes 1.35 on, and left out before.",
    )


class ScalingBehavior(Model):
    """How fast to scale, as in autoscaling/v2."""

    scale_up: ScalingRules | None = Field(None, description="Upwards.")
    scale_down: ScalingRules | None = Field(None, description="Downwards.")


class ScaleToZero(Model):
    """When an engine that has nothing to do runs no pods. Its presence turns this on."""

    idle_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="No lag and no event taken for so long: the last pods go, once there are only minReplicas of them.",
    )
    activation_lag_events: int = Field(
        0, ge=0, le=1_000_000_000, description="A lag above this brings pods back."
    )
    unknown_seconds_max: int = Field(
        600,
        ge=10,
        le=86_400,
        description="With no pods and a lag that stays unknown for so long, pods come back to find out.",
    )


class Headroom(Model):
    """Room on nodes that is kept for pods to come. Its presence turns this on."""

    pods: int = Field(
        1,
        ge=1,
        le=100,
        description="As many pods of the same size, which do nothing and give way to any other.",
    )
    priority_class_name: Label = Field(
        HEADROOM_PRIORITY_CLASS, description="PriorityClass of these pods; lower than the engines' own."
    )


class Autoscaling(Model):
    """Who decides on replicas, and on what grounds."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "!has(self.maxReplicas) || !has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
                    "minReplicas must not be greater than maxReplicas",
                ),
                validation(
                    "self.driver == 'none' || (has(self.metrics) && size(self.metrics) > 0)",
                    "a driver other than none needs at least one metric",
                ),
                validation(
                    "!has(self.scaleToZero) || self.driver != 'none'",
                    "scaleToZero needs a driver other than none, which brings the pods after the first",
                ),
            ]
        }
    )

    driver: Literal["hpa", "keda", "none"] = Field(
        "hpa",
        description=(
            "hpa: the operator makes a HorizontalPodAutoscaler. keda: it makes a ScaledObject for KEDA. "
            "none: replicas are yours."
        ),
    )
    min_replicas: int = Field(1, ge=1, le=1000, description="Fewest pods.")
    max_replicas: int = Field(
        10, ge=1, le=1000, description="Most pods; no more than there are partitions, once these are known."
    )
    metrics: list[AutoscalingMetric] = Field(
        [], max_length=8, description="Metrics to scale on; the largest wish wins."
    )
    behavior: ScalingBehavior | None = Field(None, description="Speed of scaling, as in autoscaling/v2.")
    scale_to_zero: ScaleToZero | None = Field(
        None,
        description=(
            "Run no pods while there is nothing to do; only where every source is a Kafka topic. Left out: never."
        ),
    )
    headroom: Headroom | None = Field(
        None, description="Have an autoscaler of nodes keep room for pods to come. Left out: none."
    )
    last_known_good_seconds: int = Field(
        0,
        ge=0,
        le=300,
        description=(
            "How old an external value may get that the adapter serves, labelled last_known_good, while it has no "
            "fresh one. 0: never; the autoscaler gets an error and does not scale down on it."
        ),
    )


class Disruption(Model):
    """How much of an engine a drain of nodes may take at once."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "type(self.maxUnavailable) == int ? self.maxUnavailable >= 1 : self.maxUnavailable != '0%'",
                    "maxUnavailable must be at least 1 or 1%: a budget of none would block every drain of a node",
                )
            ]
        }
    )

    max_unavailable: Count = Field(
        1, description="Pods, or a percentage of them (rounded up), that may be evicted at the same time."
    )
    consolidation: Literal["Allow", "Never"] = Field(
        "Allow",
        description=(
            "Whether an autoscaler of nodes may move running pods to empty a node. Never: it removes nodes that have "
            "none, and waits for the last ones to drain."
        ),
    )


class Rollout(Model):
    """How a change of the pods is rolled out."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "!has(self.maxSurge) || !has(self.maxUnavailable) || "
                    "!(self.maxSurge == 0 || self.maxSurge == '0%') || "
                    "!(self.maxUnavailable == 0 || self.maxUnavailable == '0%')",
                    "maxSurge and maxUnavailable can't both be 0: no pod could ever be replaced",
                ),
                validation(
                    "self.minReadySeconds < self.progressDeadlineSeconds",
                    "progressDeadlineSeconds must be greater than minReadySeconds",
                ),
            ]
        }
    )

    max_surge: Count | None = Field(
        None,
        description=(
            "Pods beyond the desired number; where left out 1, and 0 for pinned pods, whose successors may find "
            "no free cores."
        ),
    )
    max_unavailable: Count | None = Field(
        None, description="Pods that may be missing; where left out 0, and 1 for pinned pods."
    )
    min_ready_seconds: int = Field(
        0, ge=0, le=3600, description="How long a new pod must be ready before the next one is replaced."
    )
    progress_deadline_seconds: int = Field(
        600, ge=1, le=86_400, description="A rollout without progress for this long is reported as stalled."
    )


class Storage(Model):
    """A volume of its own for each pod, which outlives the pod."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "self.size == oldSelf.size",
                    "size can't be changed here: enlarge the claims themselves, where their storage class allows it",
                ),
                validation(
                    "has(self.storageClassName) == has(oldSelf.storageClassName) && "
                    "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
                    "storageClassName can't be changed: a volume stays in the class that it was made in",
                ),
            ]
        }
    )

    size: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$", max_length=8)] = Field(
        description="Size of each pod's volume, for example 10Gi."
    )
    storage_class_name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None, description="StorageClass of the volumes; the cluster's default where left out."
    )
    mount_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$", max_length=255)] = Field(
        "/var/lib/eventengine", description="Where the engine finds its volume."
    )
    when_deleted: Literal["Retain", "Delete"] = Field(
        "Retain", description="What becomes of the volumes when the EventEngine is deleted."
    )
    when_scaled: Literal["Retain"] = Field(
        "Retain",
        description=(
            "What becomes of the volume of a pod that is scaled away: it stays, unless the pod reported before it went "
            "that its log is empty."
        ),
    )


class EventEngineSpec(Model):
    """What a user declares."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                validation(
                    "has(self.storage) == has(oldSelf.storage)",
                    "storage can't be added or taken away, for pods with a volume are of another kind: "
                    "make a new EventEngine",
                ),
                validation(
                    "!has(self.storage) || !has(self.rollout) || "
                    "!(has(self.rollout.maxSurge) || has(self.rollout.maxUnavailable))",
                    "pods with storage are replaced one by one: leave out rollout.maxSurge and rollout.maxUnavailable",
                ),
            ]
        }
    )

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = Field(
        None, description="Engine image; the operator's own default where left out."
    )
    replicas: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Pods to run; written by the autoscaler through /scale. Left out with driver none: not managed.",
    )
    pod: Pod = Field(default_factory=lambda: Pod.model_validate({}), description="Shape of one pod.")
    engine: EngineConfig = Field(
        default_factory=lambda: EngineConfig.model_validate({}),
        description="Configuration of the engine.",
    )
    storage: Storage | None = Field(
        None, description="A volume for each pod; without it pods keep nothing of their own."
    )
    autoscaling: Autoscaling = Field(
        default_factory=lambda: Autoscaling.model_validate({"driver": "none"}),
        description="Who scales, and on what.",
    )
    rollout: Rollout = Field(
        default_factory=lambda: Rollout.model_validate({}), description="How changes reach the pods."
    )
    disruption: Disruption = Field(
        default_factory=lambda: Disruption.model_validate({}), description="What a drain of nodes may take."
    )


class Condition(Model):
    """One condition, as in the Kubernetes API conventions."""

    type: Annotated[str, Field(max_length=316)] = Field(description="Type of the condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, Field(max_length=1024)] = Field(description="One word for why.")
    message: Annotated[str, Field(max_length=32_768)] = Field("", description="A sentence for people.")
    observed_generation: int = Field(0, ge=0, description="Generation it was set for.")
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = Field(
        description="When status changed last."
    )


class PodPinning(Model):
    """What one pod reports of its cores."""

    name: Label = Field(description="Pod.")
    cpu_set: Text = Field(description="Cores it may use, in the kernel's list format.")
    exclusive: bool = Field(description="Whether no other pod may use them.")


class PinningStatus(Model):
    """Pinning of all ready pods."""

    required: int = Field(0, ge=0, description="Pods that should own their cores.")
    satisfied: int = Field(0, ge=0, description="Pods that report they do.")
    pods: list[PodPinning] = Field([], max_length=1000, description="Each pod's own report.")


class AdmissionStatus(Model):
    """Pods that nodes refused after the scheduler had chosen them, and the wait before the next attempt."""

    failed_attempts: int = Field(0, ge=0, description="Attempts that failed in a row.")
    held_until: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = Field(
        description="No attempt before."
    )
    held_at: int = Field(0, ge=0, description="Pods that run meanwhile.")
    rollout_held: bool = Field(False, description="Whether a rollout waits, rather than further pods.")
    reason: Annotated[str, Field(max_length=253)] = Field("", description="What the kubelet gave as reason.")
    nodes: list[Label] = Field([], max_length=16, description="Nodes that refused, the first few.")


class EventEngineStatus(Model):
    """What the operator reports. Lag and other fast figures are never here."""

    observed_generation: int = Field(0, ge=0, description="Generation that was reconciled last.")
    replicas: int = Field(0, ge=0, description="Pods that exist.")
    ready_replicas: int = Field(0, ge=0, description="Pods that are ready.")
    selector: Text = Field("", description="Label selector of the pods, for /scale.")
    partitions: int = Field(
        0, ge=0, description="Partitions to share among pods, as they report; 0 where unknown or unlimited."
    )
    message: Annotated[str, Field(max_length=32_768)] = Field("", description="The state in one sentence.")
    admission: AdmissionStatus | None = Field(None, description="Refusals by nodes, while there are any.")
    pinning: PinningStatus | None = Field(None, description="Cores, as the pods report them.")
    conditions: list[Condition] = Field([], max_length=16, description="Conditions, sorted by type.")


class EventEngine(Model):
    """The resource as a whole, as far as its own fields go."""

    spec: EventEngineSpec = Field(description="What is declared.")
    status: EventEngineStatus | None = Field(None, description="What the operator reports.")
