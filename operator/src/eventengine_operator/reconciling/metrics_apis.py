"""Which metrics APIs to serve, and whose they are.

Rules: an APIService that isn't ours is never touched, only named; the external one is made
only in mode `auto`, and only while there is none (a cluster can have a single one). Ours
carry this installation's labels; another installation's count as another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from eventengine_operator.manifests.certificates import ServicePlace, installation_labels
from eventengine_operator.manifests.metrics_apis import (
    AGGREGATED_APIS,
    CUSTOM_APIS,
    EXTERNAL_API,
    AggregatedApi,
    api_service,
)
from eventengine_operator.resources.objects import (
    Object,
    Reference,
    condition_of,
    labels_of,
    resource_version_of,
    text_at,
    uid_of,
)

from .actions import Apply, Delete
from .comparing import differs
from .observations import MetricsApi, MetricsApis

_KNOWN_OWNERS: Final = {
    "keda": "KEDA",
    "datadog": "Datadog",
    "prometheus-adapter": "prometheus-adapter",
    "kube-metrics-adapter": "kube-metrics-adapter",
}
"""What the names of other adapters' services contain, as their charts and manifests make them."""


def is_ours(live: Object, namespace: str) -> bool:
    """Whether the installation in `namespace` made the APIService."""
    return installation_labels(namespace).items() <= labels_of(live).items()


def wanted_apis(mode: Literal["auto", "custom-only", "keda"]) -> tuple[AggregatedApi, ...]:
    """The APIs that this installation would serve; with `keda` the external one is KEDA's."""
    return AGGREGATED_APIS if mode == "auto" else CUSTOM_APIS


def plan_api_services(
    wanted: tuple[AggregatedApi, ...], live: Mapping[str, Object], place: ServicePlace, bundle: bytes
) -> list[Apply | Delete]:
    """Writes that give the adapter its APIs. `live` holds the APIServices there are, by name."""
    actions: list[Apply | Delete] = []
    for api in AGGREGATED_APIS:
        present = live.get(api.name)
        if present is not None and not is_ours(present, place.namespace):
            continue
        manifest = api_service(api, place, bundle)
        if api in wanted and present is None:
            actions.append(Apply(manifest, "it doesn't exist"))
        elif api in wanted and present is not None and differs(manifest, present):
            actions.append(Apply(manifest, "it differs from what is declared"))
        elif api not in wanted and present is not None:
            actions.append(
                Delete(
                    Reference("APIService", api.name),
                    uid_of(present),
                    resource_version_of(present),
                    "it is no longer wanted",
                )
            )
    return actions


def judge_apis(
    wanted: tuple[AggregatedApi, ...], live: Mapping[str, Object], place: ServicePlace, fault: str = ""
) -> MetricsApis:
    """What to say of both APIs. The custom one is as good as the worst of its versions.

    A `fault` of the certificates is named where an API isn't there or doesn't answer.
    """
    order = ("Foreign", "Absent", "Unavailable", "Available")
    custom = [_judge(api, wanted, live, place, fault) for api in CUSTOM_APIS]
    return MetricsApis(
        custom=min(custom, key=lambda item: order.index(item.state)),
        external=_judge(EXTERNAL_API, wanted, live, place, fault),
    )


def _owner(present: Object) -> str:
    """Who serves an API that isn't ours: the service, and by what name people know it."""
    name = text_at(present, "spec", "service", "name")
    service = f"{text_at(present, 'spec', 'service', 'namespace')}/{name}"
    known = next((title for part, title in _KNOWN_OWNERS.items() if part in name), None)
    return f"{known} ({service})" if known else service


def _judge(
    api: AggregatedApi,
    wanted: tuple[AggregatedApi, ...],
    live: Mapping[str, Object],
    place: ServicePlace,
    fault: str,
) -> MetricsApi:
    present = live.get(api.name)
    if present is None:
        pending = fault or "it was not made yet"
        reason = pending if api in wanted else "not served in this mode of the operator"
        return MetricsApi(api.name, "Absent", reason)
    if not is_ours(present, place.namespace):
        return MetricsApi(
            api.name, "Foreign", f"it is served by {_owner(present)}, which the operator doesn't replace"
        )
    available = condition_of(present, "Available")
    if available.get("status") != "True":
        reason = text_at(available, "reason") or "the API server has yet to try it"
        return MetricsApi(api.name, "Unavailable", f"{reason}; {fault}" if fault else reason)
    return MetricsApi(api.name, "Available", "")
