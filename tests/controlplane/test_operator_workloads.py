"""What an engine's pods get around them: budgets, policies, monitoring; on a real control plane."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eventengine_harness.exceptions import CommandError

from .spaces import Space

Object = dict[str, Any]
SERVICE_MONITORS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}
"""The Prometheus operator's own, as far as its name and place go."""


def evict(space: Space, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{space.namespace}/pods/{pod}/eviction"
    space.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def test_drain_takes_the_only_pod(space: Space) -> None:
    space.engine(replicas=1)
    (pod,) = space.pods(1)
    space.make_ready(pod)
    space.until("pdb/hunt", lambda item: item.get("status", {}).get("disruptionsAllowed") == 1, "allows one")
    evict(space, pod)
    space.until_gone(f"pod/{pod}")


def test_drain_takes_pods_of_a_pair_one_after_the_other_and_broken_ones_at_once(space: Space) -> None:
    space.engine(replicas=2)
    first, second = space.pods(2)
    space.make_ready(first)
    space.make_ready(second)
    space.until("pdb/hunt", lambda item: item.get("status", {}).get("disruptionsAllowed") == 1, "allows one")
    evict(space, first)
    with pytest.raises(CommandError, match="violate the pod's disruption budget"):
        evict(space, second)
    (successor,) = set(space.pods(2)) - {second}
    space.make_ready(successor, ready=False)
    evict(space, successor)


def test_service_monitor_follows_the_prometheus_operator(space: Space) -> None:
    space.engine()
    space.until_exists("deployment/hunt")
    assert space.get("pdb/hunt") is not None
    space.access.apply(SERVICE_MONITORS)
    try:
        (monitor,) = space.until_exists("servicemonitors.monitoring.coreos.com/hunt")
        assert monitor["spec"]["endpoints"] == [{"port": "telemetry", "path": "/metrics"}]
        patch = json.dumps({"spec": {"endpoints": []}})
        space.kubectl(
            "patch", "servicemonitors.monitoring.coreos.com/hunt", "--type=merge", f"--patch={patch}"
        )
        space.until(
            "servicemonitors.monitoring.coreos.com/hunt",
            lambda item: bool(item["spec"]["endpoints"]),
            "drift repaired",
        )
        lists = 'eventengine_operator_api_calls_total{code="200",resource="servicemonitors",verb="list"'
        before = space.operator.metric(lists)
        reconciles = space.operator.metric("eventengine_operator_reconciles_total")
        space.kubectl("delete", "servicemonitors.monitoring.coreos.com/hunt")
        space.until_exists("servicemonitors.monitoring.coreos.com/hunt")
        space.until_quiet()
        asked = space.operator.metric(lists) - before
        done = space.operator.metric("eventengine_operator_reconciles_total") - reconciles
        assert asked <= done + 1, "listed by reconciles, and not every few seconds"
    finally:
        space.access.delete("crd", "servicemonitors.monitoring.coreos.com")
    space.engine(replicas=1)
    space.until("deployment/hunt", lambda item: item["spec"]["replicas"] == 1, "work goes on without it")
