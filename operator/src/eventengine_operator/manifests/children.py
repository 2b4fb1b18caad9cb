"""All objects of one EventEngine, in the order they have to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eventengine_contract.event_engine import EventEngineSpec

from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.objects import Object, Reference

from .autoscalers import autoscaler
from .broker_credentials import broker_credentials_access
from .config_maps import config_map
from .deployments import deployment
from .disruption_budgets import disruption_budget
from .headroom import headroom
from .network_policies import network_policy
from .scaled_objects import KedaScaler, scaled_object, trust
from .service_monitors import service_monitor
from .services import services
from .stateful_sets import stateful_set

SERVICE_MONITOR: Final = "ServiceMonitor"
TRIGGER_AUTHENTICATION: Final = "TriggerAuthentication"
SCALED_OBJECT: Final = "ScaledObject"
BROKER_CREDENTIALS: Final = frozenset({"Role", "RoleBinding"})
TOLERANCE: Final = "HorizontalPodAutoscaler.tolerance"
FEATURES: Final = frozenset(
    {SERVICE_MONITOR, SCALED_OBJECT, TRIGGER_AUTHENTICATION, TOLERANCE, *BROKER_CREDENTIALS}
)
"""What a cluster may or may not have: kinds that others install, a field of Kubernetes 1.35, and what the operator may
write only where it was given the rights."""


@dataclass(frozen=True)
class Circumstances:
    """What the objects of an EventEngine depend on besides itself."""

    default_image: str = ""
    replicas: int | None = None
    """None: they are left to whoever owns them."""
    is_rollout_held: bool = False
    with_autoscaler: bool = False
    """Whether our own HorizontalPodAutoscaler is to scale."""
    keda_scaler: KedaScaler | None = None
    """Where KEDA is to scale: whom it asks."""
    is_keda_blind: bool = False
    """Whether it says that it doesn't know the metrics."""
    replicas_max: int = 0
    """Most pods that the autoscaler may ask for."""
    features: frozenset[str] = frozenset()
    """Which of FEATURES the cluster has."""
    secrets_hash: str = ""
    """Of the versions of the Secrets that the pods mount; empty where there are none, or nothing is known."""
    adapter_namespace: str = ""
    """Where the adapter's account is."""


def desired_children(engine: Engine, spec: EventEngineSpec, circumstances: Circumstances) -> list[Object]:
    """What has to exist. The ConfigMap precedes the workload whose pods mount it."""
    children = [
        config_map(engine),
        *services(engine, spec),
        network_policy(engine, spec),
        disruption_budget(engine, spec),
        _workload(engine, spec, circumstances),
    ]
    reserve = spec.autoscaling.headroom
    if reserve is not None:
        image, replicas = circumstances.default_image, circumstances.replicas
        children.append(headroom(engine, spec, reserve, image, replicas))
    if circumstances.features >= BROKER_CREDENTIALS:
        children += broker_credentials_access(engine, spec.engine, circumstances.adapter_namespace)
    if SERVICE_MONITOR in circumstances.features:
        children.append(service_monitor(engine))
    most = circumstances.replicas_max
    has_tolerance = TOLERANCE in circumstances.features
    if circumstances.with_autoscaler:
        children.append(autoscaler(engine, spec.autoscaling, most, with_tolerance=has_tolerance))
    scaler = circumstances.keda_scaler
    if scaler is not None:
        children += trust(engine, scaler)
        children.append(
            scaled_object(
                engine,
                spec.autoscaling,
                most,
                scaler,
                with_tolerance=has_tolerance,
                is_blind=circumstances.is_keda_blind,
            )
        )
    return children


def is_of_keda(reference: Reference, engine: Engine) -> bool:
    """Whether an object is made for KEDA's sake."""
    return reference.kind in (SCALED_OBJECT, TRIGGER_AUTHENTICATION) or reference == Reference(
        "ConfigMap", f"{engine.name}-keda"
    )


def _workload(engine: Engine, spec: EventEngineSpec, circumstances: Circumstances) -> Object:
    image, replicas = circumstances.default_image, circumstances.replicas
    is_held, secrets_hash = circumstances.is_rollout_held, circumstances.secrets_hash
    if spec.storage is None:
        return deployment(engine, spec, image, replicas, is_held=is_held, secrets_hash=secrets_hash)
    return stateful_set(
        engine, spec, spec.storage, image, replicas, is_held=is_held, secrets_hash=secrets_hash
    )
