"""What an EventEngine would meet in its cluster, in sentences for whoever declares it. Pure.

Only what is known leads to a sentence: what could not be looked at is left out. Nothing here is a reason to refuse, for
a Secret, a node or a PriorityClass may come later, and another's autoscaler may go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eventengine_contract.event_engine import EventEngineSpec
from eventengine_contract.quantities import parse_quantity_millis

from eventengine_operator.reconciling.conditions import notes_on
from eventengine_operator.reconciling.replicas import count_partitions, find_foreign_autoscaler
from eventengine_operator.resources.engines import Engine
from eventengine_operator.resources.mounted_secrets import missing_secrets, referenced_secrets
from eventengine_operator.resources.neighbourhoods import Neighbourhood, Node


def advise(engine: Engine, found: Neighbourhood) -> list[str]:
    """Every warning about a valid EventEngine."""
    spec = engine.spec
    if spec is None:
        return []
    return [
        *notes_on(spec, count_partitions(engine, spec, {})),
        *_on_secrets(spec, found),
        *_on_autoscalers(engine, spec, found),
        *_on_nodes(spec, found.nodes),
        *(
            f"{path}: there is no {name}; no pod can be made until there is"
            for path, name in found.missing_classes
        ),
    ]


def _on_secrets(spec: EventEngineSpec, found: Neighbourhood) -> list[str]:
    names = missing_secrets(referenced_secrets(spec), found.secrets)
    return [
        f"the pods mount the Secret {name}, which doesn't exist yet: none starts before it does"
        for name in names
    ]


def _on_autoscalers(engine: Engine, spec: EventEngineSpec, found: Neighbourhood) -> list[str]:
    foreign = find_foreign_autoscaler(engine, found.autoscalers, found.scaled_objects)
    if foreign is None or spec.autoscaling.driver == "none":
        return []
    return [
        f"spec.autoscaling.driver: {foreign.kind} {foreign.name} scales the same pods already; while it exists the "
        "operator makes no autoscaler"
    ]


def _on_nodes(spec: EventEngineSpec, nodes: Sequence[Node]) -> list[str]:
    """Whether any node could ever take a pod, were it empty. Where there are none, an autoscaler brings them."""
    wanted = spec.pod.template.node_selector
    fitting = [node for node in nodes if wanted.items() <= node.labels.items()]
    if not nodes:
        return []
    if not fitting:
        return ["spec.pod.template.nodeSelector: no node has these labels; the pods wait for one that does"]
    return [
        f"spec.pod.{name}: no node has {asked} to give, the most is {unit(most)}; the pods wait for one that has"
        for name, asked, millis, most, unit in (
            (
                "cpus",
                spec.pod.cpus,
                spec.pod.cpus_millis,
                _most(node.cpus_millis for node in fitting),
                _cores,
            ),
            (
                "memory",
                spec.pod.memory,
                parse_quantity_millis(spec.pod.memory),
                _most(node.memory_millibytes for node in fitting),
                _mebibytes,
            ),
        )
        if millis > most
    ]


def _most(values: Iterable[int]) -> int:
    return max(values, default=0)


def _cores(millis: int) -> str:
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def _mebibytes(millibytes: int) -> str:
    return f"{millibytes // 1000 // 1024**2}Mi"
