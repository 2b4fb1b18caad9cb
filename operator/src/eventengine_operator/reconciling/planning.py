"""From one EventEngine and what was observed to the writes that bring both together.

Rules: nothing is taken over that isn't ours; nothing is written while an older EventEngine's
objects of the same name still wait for the garbage collector; autoscalers go before anything
else, so that two never act on the same pods longer than they must.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.well_known import (
    ANNOTATION_SECRETS_HASH,
    KIND,
    LABEL_ENGINE,
    LABEL_MANAGED_BY,
    MANAGED_BY,
)

from eventengine_operator.manifests.children import (
    SCALED_OBJECT,
    Circumstances,
    desired_children,
    is_of_keda,
)
from eventengine_operator.manifests.metadata import content_hash
from eventengine_operator.manifests.scaled_objects import complaint
from eventengine_operator.resources.engines import Engine, workload_kind
from eventengine_operator.resources.mounted_secrets import missing_secrets, referenced_secrets
from eventengine_operator.resources.objects import (
    Object,
    Reference,
    controller_uid_of,
    is_being_deleted,
    labels_of,
    list_at,
    mapping_at,
    name_of,
    reference_of,
    resource_version_of,
    text_at,
    uid_of,
)

from .actions import Action, Apply, Delete, KeepReplicas, SetReplicas, StopReplicaSet
from .admission import (
    Admission,
    failing_replica_sets,
    judge_admission,
    pods_while_held,
    read_admission,
    refused_pods,
)
from .claims import plan_claims
from .comparing import differs
from .observations import Observed
from .replicas import (
    ForeignAutoscaler,
    autoscalers_of_keda,
    count_partitions,
    decide_replicas,
    find_foreign_autoscaler,
    live_replicas,
    most_replicas,
    needs_a_keeper,
    rest_or_wake,
)

AUTOSCALER_KINDS: Final = frozenset({"HorizontalPodAutoscaler", SCALED_OBJECT})


@dataclass(frozen=True)
class Plan:
    """What to write, and what stands in the way of writing."""

    actions: tuple[Action, ...] = ()
    conflicts: tuple[str, ...] = ()
    """Objects of other parties on names that the EventEngine needs."""
    awaits_deletion_of: tuple[str, ...] = ()
    foreign_autoscaler: ForeignAutoscaler | None = None
    replicas: int | None = None
    """Pods the EventEngine should have, as far as the operator decides."""
    partitions: int = 0
    """Partitions that the pods share; 0 where unknown or without meaning."""
    admission: Admission | None = None
    """Refusals by nodes, while there are any."""
    missing_secrets: tuple[str, ...] = ()
    """Secrets that the pods can't start without; while one is missing the pods stay as they are."""
    awaits_autoscalers: tuple[str, ...] = ()
    """What KEDA has yet to let go of before an autoscaler of ours may follow."""
    absent: tuple[Reference, ...] = ()
    """Names that are needed, and that nothing was seen on."""

    @property
    def only_adds(self) -> bool:
        """Whether it does no more than apply what is declared: that can't be wrong for long, nor take anything away."""
        return all(isinstance(action, Apply) for action in self.actions)


def make_plan(
    engine: Engine,
    spec: EventEngineSpec,
    observed: Observed,
    default_image: str,
    now: datetime,
    *,
    adapter_namespace: str = "",
) -> Plan:
    """Decide on everything that has to be written for one EventEngine."""
    kind = workload_kind(spec)
    workload = observed.child(kind, engine.name)
    owned = workload if workload and _is_ours(engine, workload) else None
    foreign = find_foreign_autoscaler(engine, observed.autoscalers, observed.scaled_objects)
    partitions = count_partitions(engine, spec, observed.reports)
    most = most_replicas(spec.autoscaling, partitions)
    decision = decide_replicas(spec, owned, foreign, most)
    decision = rest_or_wake(engine, spec, decision, observed.idleness, now)
    admission = judge_admission(
        observed.pods, observed.replica_sets, read_admission(engine.status), decision.replicas, now
    )
    held = admission if admission is not None and admission.is_held(now) else None
    is_rollout_held = held is not None and held.is_rollout_held
    replicas = decision.replicas
    if held is not None and replicas is not None and not is_rollout_held:
        replicas = min(replicas, pods_while_held(held, observed.pods))
    driver = spec.autoscaling.driver if decision.with_autoscaler else "none"
    has_keda = driver == "keda" and SCALED_OBJECT in observed.features
    left = autoscalers_of_keda(engine, observed.autoscalers, observed.scaled_objects)
    awaited = left if driver == "hpa" else ()
    circumstances = Circumstances(
        default_image=default_image,
        replicas=replicas,
        is_rollout_held=is_rollout_held,
        with_autoscaler=driver == "hpa" and not awaited,
        keda_scaler=observed.keda_scaler if has_keda else None,
        is_keda_blind=bool(complaint(observed.child(SCALED_OBJECT, engine.name) or {})),
        replicas_max=most,
        features=observed.features,
        secrets_hash=secrets_hash(observed.secrets, owned),
        adapter_namespace=adapter_namespace,
    )
    wanted = desired_children(engine, spec, circumstances)
    names = [reference_of(item) for item in wanted]
    conflicts, leaving = _obstacles(engine, names, observed)
    missing = missing_secrets(referenced_secrets(spec), observed.secrets)
    # Of autoscalers all were listed, whatever their labels.
    absent = tuple(
        name for name in names if name not in observed.children and name.kind not in AUTOSCALER_KINDS
    )
    plan = Plan(
        (), conflicts, leaving, foreign, decision.replicas, partitions, admission, missing, awaited, absent
    )
    if engine.is_paused or engine.is_being_deleted or conflicts or leaving:
        return plan
    actions: list[Action] = []
    if decision.first is not None:
        actions.append(SetReplicas(decision.first, engine.resource_version))
    if owned is not None and decision.replicas is None and needs_a_keeper(owned):
        replicas_now = live_replicas(owned) or 0
        actions.append(
            KeepReplicas(kind, engine.name, uid_of(owned), resource_version_of(owned), replicas_now)
        )
    kept = set(names)
    if has_keda and observed.keda_scaler is None:
        # Not known yet is no reason to take an autoscaler away.
        kept |= {reference for reference in observed.children if is_of_keda(reference, engine)}
    actions += _deletions(engine, kept, observed)
    actions += _applications([item for item in wanted if not missing or item["kind"] != kind], observed)
    actions += _collections(observed, is_rollout_held)
    if spec.storage is not None:
        actions += plan_claims(engine, observed.claims, observed.pods, observed.reports, decision.replicas)
    return replace(plan, actions=tuple(actions))


def secrets_hash(versions: Mapping[str, str | None], live: Object | None) -> str:
    """What the pod template says of the mounted Secrets; where one can't be read, what it says already."""
    if not versions:
        return ""
    if None in versions.values():
        said = mapping_at(live or {}, "spec", "template", "metadata", "annotations")
        return text_at(said, ANNOTATION_SECRETS_HASH)
    return content_hash(sorted(versions.items()))


def _applications(wanted: list[Object], observed: Observed) -> list[Apply]:
    actions = []
    for manifest in wanted:
        live = observed.children.get(reference_of(manifest))
        if live is None:
            actions.append(Apply(manifest, "it doesn't exist"))
        elif differs(manifest, live) and not observed.spellings.cover(manifest, live):
            actions.append(Apply(manifest, "it differs from what is declared"))
    return actions


def _collections(observed: Observed, is_rollout_held: bool) -> list[Action]:
    """Stop what makes pods that nodes refuse, then delete those that there are."""
    failing = failing_replica_sets(observed.pods, observed.replica_sets) if is_rollout_held else []
    return [
        *(StopReplicaSet(name_of(item), resource_version_of(item)) for item in failing),
        *(
            Delete(Reference("Pod", pod.name), pod.uid, "", f"its node refused it: {pod.refusal}")
            for pod in refused_pods(observed.pods)
        ),
    ]


def _deletions(engine: Engine, wanted: set[Reference], observed: Observed) -> list[Delete]:
    """What this EventEngine owns and no longer wants, autoscalers first."""
    surplus = [
        (reference, live)
        for reference, live in observed.children.items()
        if reference not in wanted and controller_uid_of(live) == engine.uid and not is_being_deleted(live)
    ]
    surplus.sort(key=lambda item: (item[0].kind not in AUTOSCALER_KINDS, item[0]))
    return [
        Delete(reference, uid_of(live), resource_version_of(live), "it is no longer declared")
        for reference, live in surplus
    ]


def _obstacles(
    engine: Engine, wanted: list[Reference], observed: Observed
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    conflicts, leaving = [], []
    for reference in wanted:
        live = observed.children.get(reference)
        if live is None:
            continue
        if _belongs_to_a_predecessor(engine, live) or (is_being_deleted(live) and _is_ours(engine, live)):
            leaving.append(str(reference))
        elif not _is_ours(engine, live):
            conflicts.append(str(reference))
    return tuple(sorted(conflicts)), tuple(sorted(leaving))


def _is_ours(engine: Engine, live: Object) -> bool:
    """Controlled by this EventEngine, or left without a controller but with its labels (orphaned)."""
    controller = controller_uid_of(live)
    if controller:
        return controller == engine.uid
    labels = labels_of(live)
    return labels.get(LABEL_MANAGED_BY) == MANAGED_BY and labels.get(LABEL_ENGINE) == engine.name


def _belongs_to_a_predecessor(engine: Engine, live: Object) -> bool:
    """Of a deleted EventEngine of the same name: the garbage collector is about to take it."""
    return any(
        owner.get("controller") is True
        and owner.get("kind") == KIND
        and owner.get("name") == engine.name
        and owner.get("uid") != engine.uid
        for owner in list_at(live, "metadata", "ownerReferences")
    )
