"""One reconcile of one EventEngine: look, decide, write, report.

Called with a key by one worker at a time. Holds nothing between calls but what is known of
pods and metrics APIs, which others keep up to date.

What is declared is asked for each time. What there is the mirror of the watches tells, where there is one. A decision
to do anything but apply what is declared is made anew on lists made for it, and so is all after a conflict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from eventengine_contract.event_engine import ConditionType, EventEngineSpec

from eventengine_operator.clients.engine_reports import REREAD_SECONDS, EngineReports, can_be_asked
from eventengine_operator.clients.errors import ConflictError, NamespaceEndingError
from eventengine_operator.clients.event_posting import EventPoster
from eventengine_operator.clients.executing import Outcome, execute, write_status
from eventengine_operator.clients.kubernetes_api import ENGINES, STATEFUL_SETS, KubernetesApi
from eventengine_operator.clients.mirrors import Mirror
from eventengine_operator.clients.observing import Surroundings, observe, occupants
from eventengine_operator.manifests.scaled_objects import KedaScaler
from eventengine_operator.reconciling.actions import Apply
from eventengine_operator.reconciling.admission import read_admission, refused_pods
from eventengine_operator.reconciling.canary import beat_of, is_canary
from eventengine_operator.reconciling.comparing import Spellings
from eventengine_operator.reconciling.conditions import STARTING_SECONDS_MAX
from eventengine_operator.reconciling.observations import MetricsApis, Observed
from eventengine_operator.reconciling.planning import Plan, make_plan
from eventengine_operator.reconciling.replicas import find_foreign_autoscaler, may_hibernate
from eventengine_operator.reconciling.statuses import make_status, news, scaling_news
from eventengine_operator.resources.engines import Engine, EngineKey, read_engine, workload_kind
from eventengine_operator.resources.mounted_secrets import referenced_secrets
from eventengine_operator.resources.objects import Reference, reference_of
from eventengine_operator.resources.pod_refusals import lacks_pods

from .idling import Followed, IdleWatch

BAD_WHEN_TRUE = frozenset({ConditionType.DEGRADED, ConditionType.PAUSED})
HAND_OVER_SECONDS = 1.0
"""Between two looks at whether KEDA has let go."""
REPORT_SECONDS = 1.0
"""After a change of the workload, until there is a report in any case."""
NEVER_BAD = frozenset({ConditionType.HIBERNATED})
NO_OUTCOME = Outcome({}, frozenset(), ())
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outlook:
    """What a reconcile leaves to do: when to look again of itself, and whether it could do its work.

    What blocks it is another's (a name, a quota, a namespace), and the end of that wakes nobody up.
    """

    seconds: float | None = None
    is_blocked: bool = False


NOTHING_LEFT = Outlook()
BLOCKED = Outlook(is_blocked=True)


class Reconciler:
    """See the module."""

    def __init__(
        self,
        api: KubernetesApi,
        reports: EngineReports,
        events: EventPoster,
        default_image: str,
        adapter_namespace: str,
        when_read: Callable[[EngineKey], None],
        when_mounting: Callable[[EngineKey, frozenset[str]], None] | None = None,
        when_canary: Callable[[str], None] = lambda _: None,
        when_refused: Callable[[frozenset[str]], None] = lambda _: None,
        mirror: Mirror | None = None,
    ) -> None:
        self._api = api
        self._mirror = mirror
        self._in_doubt: set[EngineKey] = set()
        """Those where something was another way than it was taken to be."""
        self._unreported: set[EngineKey] = set()
        """Those whose workload was written, and whose status waits for what its controller makes of it."""
        self._reports = reports
        self._events = events
        self._default_image = default_image
        self._adapter_namespace = adapter_namespace
        self._when_read = when_read
        self._when_mounting = when_mounting
        """Told which Secrets an EventEngine's pods mount; None where Secrets aren't followed."""
        self._when_refused = when_refused
        """Told which nodes refused pods."""
        self._when_canary = when_canary
        """Told which beat the canary carries."""
        self._pods_by_key: dict[EngineKey, frozenset[str]] = {}
        self._spellings = Spellings()
        self.idle_watch = IdleWatch(api, reports, when_read)
        self.metrics_apis = MetricsApis()
        self.keda_scaler: KedaScaler | None = None
        """How KEDA reaches the adapter; None until its certificates were looked after."""
        self.features: frozenset[str] = frozenset()
        """What this cluster has of what not every cluster has."""

    async def reconcile(self, key: EngineKey) -> Outlook:
        """Bring one EventEngine about.

        Raises:
            ApiError: the pass could not be finished and has to be repeated.
        """
        source = await self._api.get(ENGINES, key.namespace, key.name)
        if source is None:
            self._in_doubt.discard(key)
            self._unreported.discard(key)
            self._remember_pods(key, frozenset())
            self._remember_secrets(key, None)
            self.idle_watch.forget(key)
            return NOTHING_LEFT
        if is_canary(source):
            self._when_canary(beat_of(source))
            return NOTHING_LEFT
        engine = read_engine(source)
        if engine.is_being_deleted:
            self.idle_watch.forget(key)
            return NOTHING_LEFT
        # Before they are looked at: a change right after the look has to find somebody to wake up.
        secrets = self._remember_secrets(key, engine.spec)
        now = datetime.now(UTC)
        surroundings, plan = await self._decide(key, engine, secrets, now)
        refusing = frozenset(pod.node for pod in refused_pods(surroundings.pods) if pod.node)
        if refusing:
            self._when_refused(refusing)
        try:
            outcome = await execute(self._api, engine, plan.actions)
        except ConflictError:
            self._in_doubt.add(key)
            raise
        except NamespaceEndingError:
            _log.info("%s/%s: its namespace is being deleted", key.namespace, key.name)
            return BLOCKED
        for action in plan.actions:
            if isinstance(action, Apply) and (answer := outcome.applied.get(reference_of(action.manifest))):
                self._spellings.learn(action.manifest, answer)
        self._in_doubt.discard(key)
        self._remember_pods(key, frozenset(pod.uid for pod in surroundings.pods))
        self._reports.refresh(surroundings.pods, lambda: self._when_read(key))
        self._follow(key, engine, plan, surroundings)
        if self._may_report_later(key, engine, plan, outcome):
            return Outlook(REPORT_SECONDS)
        observed = self._observed(key, surroundings, outcome)
        await self._report(engine, plan, observed, outcome.errors, now)
        return self._outlook(key, plan, observed, outcome, now)

    def _outlook(
        self, key: EngineKey, plan: Plan, observed: Observed, outcome: Outcome, now: datetime
    ) -> Outlook:
        """When to look again of itself."""
        if plan.conflicts or plan.awaits_deletion_of or plan.missing_secrets or outcome.errors:
            return BLOCKED
        if plan.admission is not None and plan.admission.is_held(now):
            left_seconds = (plan.admission.held_until - now).total_seconds()
            return Outlook(min(left_seconds, REREAD_SECONDS))
        if plan.awaits_autoscalers:
            return Outlook(HAND_OVER_SECONDS)
        awaited = [pod for pod in observed.pods if (pod.has_volume if pod.is_leaving else not pod.is_ready)]
        if any(map(can_be_asked, awaited)):
            return Outlook(REREAD_SECONDS)
        if lacks_pods(observed.child(STATEFUL_SETS.kind, key.name)):
            return BLOCKED
        # A watch tells when they run. Only that they should long have done so tells nobody.
        return Outlook(STARTING_SECONDS_MAX) if awaited else NOTHING_LEFT

    async def _decide(
        self, key: EngineKey, engine: Engine, secrets: frozenset[str], now: datetime
    ) -> tuple[Surroundings, Plan]:
        """Look and plan, by the mirror if that is enough."""
        if self._mirror is not None and key not in self._in_doubt:
            surroundings, plan = await self._decide_by(self._mirror, key, engine, secrets, now)
            if plan.only_adds:
                return surroundings, plan
        return await self._decide_by(None, key, engine, secrets, now)

    async def _decide_by(
        self, mirror: Mirror | None, key: EngineKey, engine: Engine, secrets: frozenset[str], now: datetime
    ) -> tuple[Surroundings, Plan]:
        surroundings = await observe(self._api, engine, self.features, secrets, mirror)
        plan = self._plan(engine, self._observed(key, surroundings, NO_OUTCOME), now)
        if plan.absent:
            found = await occupants(self._api, engine.namespace, plan.absent)
            if found:
                surroundings = replace(surroundings, children=surroundings.children | found)
                plan = self._plan(engine, self._observed(key, surroundings, NO_OUTCOME), now)
        return surroundings, plan

    def _may_report_later(self, key: EngineKey, engine: Engine, plan: Plan, outcome: Outcome) -> bool:
        """Whether the workload was written just now, and its controller is about to say what that means.

        A report between the two would say that nothing is known. Once; then there is a report whatever happens. What
        the next reconcile reads from the status, which is the story of refused pods, is written at once.
        """
        is_written = engine.spec is not None and (
            Reference(workload_kind(engine.spec), engine.name) in outcome.applied
        )
        has_a_story = plan.admission is not None or read_admission(engine.status) is not None
        may_wait = is_written and plan.only_adds and not has_a_story and not outcome.errors
        if not may_wait or key in self._unreported:
            self._unreported.discard(key)
            return False
        self._unreported.add(key)
        return True

    def _plan(self, engine: Engine, observed: Observed, now: datetime) -> Plan:
        if engine.spec is None:
            foreign = find_foreign_autoscaler(engine, observed.autoscalers, observed.scaled_objects)
            return Plan(foreign_autoscaler=foreign, admission=read_admission(engine.status))
        return make_plan(
            engine, engine.spec, observed, self._default_image, now, adapter_namespace=self._adapter_namespace
        )

    def _follow(self, key: EngineKey, engine: Engine, plan: Plan, surroundings: Surroundings) -> None:
        """Have the lag of an engine read that may be scaled to zero, and of no other."""
        scaling = engine.spec.autoscaling if engine.spec is not None else None
        declared = scaling.scale_to_zero if scaling is not None else None
        is_followed = may_hibernate(engine, plan.foreign_autoscaler) and not engine.is_paused
        if scaling is None or declared is None or plan.replicas is None or not is_followed:
            self.idle_watch.forget(key)
            return
        followed = Followed(
            declared,
            plan.replicas,
            scaling.min_replicas,
            may_rest=not engine.is_scale_in_paused,
            may_wake=not engine.is_scale_out_paused,
            pods=surroundings.pods,
        )
        self.idle_watch.follow(key, followed)

    def _observed(self, key: EngineKey, surroundings: Surroundings, outcome: Outcome) -> Observed:
        children = surroundings.children | outcome.applied
        for reference in outcome.deleted:
            children.pop(reference, None)
        return Observed(
            children=children,
            autoscalers=surroundings.autoscalers,
            replica_sets=surroundings.replica_sets,
            pods=surroundings.pods,
            reports=self._reports.known(surroundings.pods),
            metrics_apis=self.metrics_apis,
            scaled_objects=surroundings.scaled_objects,
            features=self.features,
            claims=surroundings.claims,
            secrets=surroundings.secrets,
            refusal=surroundings.refusal,
            spellings=self._spellings,
            keda_scaler=self.keda_scaler,
            idleness=self.idle_watch.known(key),
        )

    async def _report(
        self, engine: Engine, plan: Plan, observed: Observed, errors: tuple[str, ...], now: datetime
    ) -> None:
        status = make_status(engine, plan, observed, errors, now)
        if status == engine.status:
            return
        await write_status(self._api, engine, status)
        for verdict in news(engine.status, status):
            is_bad = (verdict.status == "True") == (verdict.type in BAD_WHEN_TRUE)
            is_bad = is_bad and verdict.type not in NEVER_BAD
            kind: Literal["Normal", "Warning"] = "Warning" if is_bad else "Normal"
            note = f"{verdict.type.value} is {verdict.status}: {verdict.message or verdict.reason}"
            await self._events.post(engine, kind, verdict.reason, note)
        sentence = scaling_news(engine.status, status.get("replicas"))
        if sentence:
            await self._events.post(engine, "Normal", "Scaled", sentence)

    def _remember_secrets(self, key: EngineKey, spec: EventEngineSpec | None) -> frozenset[str]:
        if self._when_mounting is None:
            return frozenset()
        names = frozenset(item.name for item in referenced_secrets(spec)) if spec is not None else frozenset()
        self._when_mounting(key, names)
        return names

    def _remember_pods(self, key: EngineKey, uids: frozenset[str]) -> None:
        for uid in self._pods_by_key.get(key, frozenset()) - uids:
            self._reports.forget(uid)
        if uids:
            self._pods_by_key[key] = uids
        else:
            self._pods_by_key.pop(key, None)
