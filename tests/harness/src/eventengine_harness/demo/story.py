"""The phases of the demo, in the order in which they are told.

Owns the plot: install; an engine with a core of its own; an engine that scales on its lag; the proof.
Every wait has a bound; the whole ends within `STORY_SECONDS_MAX` after set-up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from eventengine_contract.quantities import parse_quantity_millis

from . import installing, jobs
from .installing import KUBECTL_SECONDS_MAX, NAMESPACE
from .observing import EngineObserver, KubernetesReader, wait_for
from .reporting import HEADER, PinnedOutcome, PinningProof, ScalingOutcome, Summary, table_line
from .runs import Run
from .stages import Stage
from .timelines import Observation, scaling_figures

ROOT: Final = Path(__file__).resolve().parents[5]
EXAMPLES: Final = ROOT / "examples" / "treasure-hunt"

STORY_SECONDS_MAX: Final = 350
ARTICLE_TARGET_EVENTS: Final = 500
ARTICLE_REPLICAS_MIN: Final = 3
PARTITIONS: Final = 64
PINNED_EVENTS: Final = 20_000
CALIBRATION_EVENTS: Final = 1_800
LOAD_OVER_CAPACITY: Final = 2.2
TRICKLE_OVER_CAPACITY: Final = 0.3
FIRST_PRODUCER_OF_THE_BURST: Final = 1000
BURST_AFTER_SECONDS: Final = 5
BURST_SECONDS: Final = 60
TRICKLE_AFTER_BURST_SECONDS: Final = 50
LOOK_EVERY_SECONDS: Final = 2.0
LAG_BAR_EVENTS_MIN: Final = 10_000
AUDIT_RESERVE_SECONDS: Final = 40


@dataclass(frozen=True)
class ArticleOutcome:
    """What the article's HorizontalPodAutoscaler did."""

    scaling_active: bool
    replicas_at_start: int
    replicas_desired: int
    lag_per_pod_seen: int


class Story:
    """One telling of the demo on a stage."""

    def __init__(self, stage: Stage, say: Callable[[str], None], run: Run) -> None:
        self._stage = stage
        self._say = say
        self._run = run
        self._reader = KubernetesReader(stage.access.requests)
        self._started = time.monotonic()

    def tell(self) -> Summary:
        """All phases; returns what they showed.

        Raises:
            TimeoutError, StageError: a phase did not come to its end.
        """
        self.install()
        pinned = self.show_pinning()
        return Summary(pinned, self.show_scaling(), self._elapsed())

    def install(self) -> None:
        """Install the chart, and wait until the metrics APIs are served."""
        self._say("Installing the chart: operator, adapter, CRD, permissions")
        installing.install(self._stage)
        self._say(f"  ready after {self._elapsed():.0f} s")

    # --- an engine with a core of its own -------------------------------------------------

    def show_pinning(self) -> PinnedOutcome:
        """Apply hunt-pinned.yaml, send it events, and compare its cores with a neighbour's."""
        self._say(
            "\nkubectl apply -f examples/treasure-hunt/hunt-pinned.yaml: an engine with a core of its own"
        )
        load = self._start_load(
            "load-pinned",
            self._run.name("hunt-pinned-events"),
            ["--rate", "4000", "--events", str(PINNED_EVENTS)],
        )
        self._apply_example("hunt-pinned.yaml")
        self._apply(jobs.neighbour("neighbour", self._stage.images.engine))
        observer = EngineObserver(self._reader, NAMESPACE, "hunt-pinned", time.monotonic)
        self._wait_ready("hunt-pinned", 1)
        self._kubectl(["wait", "--for=condition=Ready", "pod/neighbour", "--timeout=60s"])
        proof = self._pinning_proof(observer)
        self._say(
            f"  the pinned pod runs on core {proof.pinned_pod_cores}, "
            f"a best-effort pod on the same node on {proof.best_effort_pod_cores}"
        )
        for line in HEADER:
            self._say(line)
        result = self._finish_load(load)

        def drained() -> bool:
            seen = observer.look()
            self._say(table_line(seen))
            return seen.lag_events == 0

        wait_for(drained, "hunt-pinned to drain", 60)
        observer.close()
        audit = self._audit("audit-pinned", self._run.name("hunt-pinned-standings"), result)
        self._kubectl(["delete", "eventengine/hunt-pinned", "pod/neighbour", "--wait=true", "--timeout=60s"])
        return PinnedOutcome(proof, audit)

    def _pinning_proof(self, observer: EngineObserver) -> PinningProof:
        (pod, snapshot), *_ = wait_for(
            lambda: list(observer.snapshots().items()), "the pinned pod's snapshot", 30
        )

        def status_cores() -> str | None:
            pods = observer.engine().get("status", {}).get("pinning", {}).get("pods", [])
            return next((entry["cpuSet"] for entry in pods if entry["name"] == pod), None)

        return PinningProof(
            node=self._kubectl(["get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"]).strip(),
            pinned_pod_cores=self._cores_inside(pod),
            best_effort_pod_cores=self._cores_inside("neighbour"),
            snapshot_cores=snapshot["process"]["cpu_set"],
            snapshot_exclusive=snapshot["process"]["exclusive"],
            status_cores=wait_for(status_cores, "the pinned cores in the EventEngine's status", 30),
        )

    def _cores_inside(self, pod: str) -> str:
        """`Cpus_allowed_list` of the pod's first process, read inside the pod."""
        lines = self._kubectl(["exec", pod, "--", "cat", "/proc/1/status"]).splitlines()
        return next(line.split()[1] for line in lines if line.startswith("Cpus_allowed_list"))

    # --- an engine that scales on its lag --------------------------------------------------

    def show_scaling(self) -> ScalingOutcome:
        """Apply hunt.yaml, bring a burst, and watch it grow, drain and shrink."""
        self._say(
            "\nkubectl apply -f examples/treasure-hunt/hunt.yaml: an engine that scales on its lag, 1 to 5 pods"
        )
        self._apply_example("hunt.yaml")
        observer = EngineObserver(self._reader, NAMESPACE, "hunt", time.monotonic)
        calibration = self._start_load(
            "load-calibration",
            self._run.name("hunt-events"),
            ["--rate", "3000", "--events", str(CALIBRATION_EVENTS), "--first-producer", "0"],
        )
        self._wait_ready("hunt", 1)
        calibration_result = self._finish_load(calibration)
        capacity = observer.capacity_events_per_second(CALIBRATION_EVENTS, self._say)
        rate = LOAD_OVER_CAPACITY * capacity
        trickle = TRICKLE_OVER_CAPACITY * capacity
        self._say(
            f"  one pod applies {capacity:,.0f} events/s; the burst brings {rate:,.0f} events/s for {BURST_SECONDS} s"
        )
        total_seconds = BURST_AFTER_SECONDS + BURST_SECONDS + TRICKLE_AFTER_BURST_SECONDS
        load = self._start_load(
            "load",
            self._run.name("hunt-events"),
            [
                *("--rate", f"{trickle:.0f}", "--duration", f"{total_seconds}s"),
                *(
                    "--burst",
                    f"at={BURST_AFTER_SECONDS}s,duration={BURST_SECONDS}s,rate={rate - trickle:.0f}",
                ),
                *("--first-producer", str(FIRST_PRODUCER_OF_THE_BURST)),
            ],
        )
        observations, burst_at = self._watch(observer, load)
        result = self._finish_load(load)
        observer.close()
        audit = self._audit("audit", self._run.name("hunt-standings"), result, calibration_result)
        return ScalingOutcome(
            capacity_events_per_second=capacity,
            capacity_bound="its declared service time per event (program.serviceTime: 2ms)",
            load_events_per_second=rate,
            figures=scaling_figures(observations, burst_at),
            audit=audit,
        )

    def _watch(self, observer: EngineObserver, load: str) -> tuple[list[Observation], float]:
        """Print the table until the load is over, the lag gone and the pods scaled in."""
        wait_for(lambda: self._job_started(load), "the load to start", 60)
        burst_at = observer.elapsed_seconds() + BURST_AFTER_SECONDS
        observations: list[Observation] = []
        for line in HEADER:
            self._say(line)
        while self._elapsed() < STORY_SECONDS_MAX - AUDIT_RESERVE_SECONDS:
            look_started = time.monotonic()
            seen = observer.look()
            observations.append(seen)
            peak = max(LAG_BAR_EVENTS_MIN, *(o.lag_events or 0 for o in observations))
            self._say(table_line(seen, lag_scale_events=peak))
            height = max(o.replicas_ready for o in observations)
            if (
                height > 1
                and seen.replicas_ready < height
                and seen.replicas_ready <= 1
                and self._job_over(load)
            ):
                break
            time.sleep(max(0.0, LOOK_EVERY_SECONDS - (time.monotonic() - look_started)))
        return observations, burst_at

    # --- an autoscaler of the user's own ---------------------------------------------------

    def show_article_autoscaler(self, scale_down_seconds: float = 0.0) -> ArticleOutcome:
        """Apply event-engine.yaml and hpa.yaml, bring more lag than the HPA tolerates, and watch it act.

        With `scale_down_seconds` the wait goes on, at most so long, until its slow scale-down brings the
        Deployment back to minReplicas.
        """
        self._say("\nkubectl apply -f examples/treasure-hunt/hpa.yaml: the article's autoscaler, unchanged")
        load = self._start_load(
            "load-article",
            self._run.name("event-engine-events"),
            ["--rate", "1000", "--duration", "90s", "--first-producer", "0"],
        )
        self._apply_example("event-engine.yaml")
        self._wait_ready("event-engine", 1)
        at_start = self._replicas("event-engine")
        self._stage.access.apply(EXAMPLES / "hpa.yaml", namespace=NAMESPACE)
        seen = 0

        def condition() -> bool:
            nonlocal seen
            hpa = self._reader.get(
                f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/event-engine-hpa"
            )
            status = (hpa or {}).get("status", {})
            for metric in status.get("currentMetrics") or []:
                average = metric.get("pods", {}).get("current", {}).get("averageValue", "0")
                seen = max(seen, parse_quantity_millis(average) // 1000)
            conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
            return conditions.get("ScalingActive") == "True" and seen > ARTICLE_TARGET_EVENTS

        wait_for(condition, "the article's HPA to see the lag", 60, self._say)
        wait_for(
            lambda: self._replicas("event-engine") >= ARTICLE_REPLICAS_MIN + 1,
            "it to scale up",
            150,
            self._say,
        )
        reached = self._replicas("event-engine")
        self._finish_load(load)
        if scale_down_seconds:
            wait_for(
                lambda: self._replicas("event-engine") <= ARTICLE_REPLICAS_MIN,
                "it to scale down again",
                scale_down_seconds,
                self._say,
            )
        self._kubectl(
            ["delete", "hpa/event-engine-hpa", "eventengine/event-engine", "--wait=true", "--timeout=60s"]
        )
        return ArticleOutcome(
            scaling_active=True, replicas_at_start=at_start, replicas_desired=reached, lag_per_pod_seen=seen
        )

    def _replicas(self, deployment: str) -> int:
        found = self._reader.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{deployment}") or {}
        return int(found.get("spec", {}).get("replicas", 0))

    # --- load, audit, kubectl ---------------------------------------------------------------

    def _start_load(self, name: str, topic: str, arguments: list[str]) -> str:
        """Start the load generator as a Job; returns the Job's name."""
        common = ["load", "--bootstrap", self._stage.kafka_address, "--topic", topic]
        common += ["--partitions", str(PARTITIONS), "--key", "district-team", "--result", "-"]
        self._apply(jobs.job(name, self._stage.images.engine, [*common, *arguments]))
        return name

    def _job_started(self, name: str) -> bool:
        return self._kubectl(["get", f"job/{name}", "-o", "jsonpath={.status.ready}"]).strip() == "1"

    def _job_over(self, name: str) -> bool:
        return bool(self._kubectl(["get", f"job/{name}", "-o", "jsonpath={.status.completionTime}"]).strip())

    def _finish_load(self, name: str) -> dict[str, Any]:
        return self._finish_job(name)

    def _finish_job(self, name: str) -> dict[str, Any]:
        """Wait for a Job's end and return the JSON object on its last line, whether it succeeded or not."""

        def over() -> str:
            return self._kubectl(
                ["get", f"job/{name}", "-o", "jsonpath={.status.succeeded}{.status.failed}"]
            ).strip()

        wait_for(over, f"job {name}", STORY_SECONDS_MAX)
        output = self._kubectl(["logs", f"job/{name}"])
        for line in reversed(output.splitlines()):
            if line.startswith("{"):
                decoded: dict[str, Any] = json.loads(line)
                return decoded
        raise TimeoutError(f"job {name} printed no result: {output[-400:]}")

    def _audit(self, name: str, topic: str, *results: dict[str, Any]) -> dict[str, Any]:
        """Read the output topic with read_committed and compare it with what was sent."""
        files = {f"load-{index}.json": json.dumps(result) for index, result in enumerate(results)}
        self._apply(jobs.results_map(name, files))
        arguments = ["audit", "--bootstrap", self._stage.kafka_address, "--topic", topic, "--wait", "30s"]
        for file in files:
            arguments += ["--expect", f"{jobs.RESULTS_FOLDER}/{file}"]
        arguments += ["--report", "-"]
        self._apply(jobs.job(name, self._stage.images.engine, arguments, results=name))
        return self._finish_job(name)

    def _wait_ready(self, engine: str, replicas: int) -> None:
        def ready() -> bool:
            path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{engine}"
            deployment = self._reader.get(path) or {}
            return bool(deployment.get("status", {}).get("readyReplicas", 0) >= replicas)

        wait_for(ready, f"{engine} to be ready", 90, self._say)

    def _apply_example(self, name: str) -> None:
        document = yaml.safe_load((EXAMPLES / name).read_text())
        document["spec"]["image"] = self._stage.images.engine
        engine = document["spec"]["engine"]
        for part in (*engine["sources"], *engine["sinks"]):
            part["kafka"]["bootstrapServers"] = [self._stage.kafka_address]
            part["kafka"]["topic"] = self._run.name(part["kafka"]["topic"])
        for source in engine["sources"]:
            # Changelog and dead letters are named after the group.
            source["kafka"]["groupId"] = self._run.name(document["metadata"]["name"])
        self._apply(document)

    def _apply(self, document: dict[str, Any]) -> None:
        self._stage.access.apply(document, namespace=NAMESPACE)

    def _kubectl(self, arguments: list[str]) -> str:
        scope = ("--namespace", NAMESPACE)
        return self._stage.access.kubectl(*scope, *arguments, timeout_seconds=KUBECTL_SECONDS_MAX)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started
