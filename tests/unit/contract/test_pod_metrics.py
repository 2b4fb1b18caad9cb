"""Annotations that name metrics of the user's own: what they may say, and what is refused with a remedy."""

from __future__ import annotations

import pytest
from eventengine_contract.metric_names import METRICS
from eventengine_contract.pod_metrics import NAMES_MAX, pod_metrics

PORT, PATH, NAMES = (f"metrics.eventengine.dev/{key}" for key in ("port", "path", "names"))


def test_annotations_name_port_path_and_metrics() -> None:
    found = pod_metrics({PORT: "8000", PATH: "/stats/prometheus", NAMES: "queue_depth, orders_total"})

    assert found is not None
    assert (found.port, found.path) == (8000, "/stats/prometheus")
    assert [metric.name for metric in found.metrics] == ["queue_depth", "orders_total"]
    assert found.find("queue_depth") == found.metrics[0]
    assert found.find("other") is None


def test_the_path_is_metrics_where_it_is_left_out_and_other_annotations_mean_nothing() -> None:
    found = pod_metrics({PORT: "1", NAMES: "a", "prometheus.io/port": "9"})

    assert found is not None
    assert (found.port, found.path) == (1, "/metrics")
    assert pod_metrics({"prometheus.io/port": "9"}) is None


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_name_of_the_engine_s_own_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a metric of the engine itself"):
        pod_metrics({PORT: "8000", NAMES: f"queue_depth,{name}"})


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({PORT: "8000", NAMES: "a,b,a"}, "'a' twice"),
        ({PORT: "8000", NAMES: "status"}, "can't be a metric's name"),
        ({PORT: "8000", NAMES: "Queue_Depth"}, "can't be a metric's name"),
        ({PORT: "8000", NAMES: "a,,b"}, "can't be a metric's name"),
        ({PORT: "8000", NAMES: ",".join(f"m{n}" for n in range(NAMES_MAX + 1))}, "at most 16"),
        ({PORT: "8000"}, "names is missing"),
        ({NAMES: "a"}, "port is missing"),
        ({PORT: "0", NAMES: "a"}, "from 1 to 65535"),
        ({PORT: "65536", NAMES: "a"}, "from 1 to 65535"),
        ({PORT: "http", NAMES: "a"}, "from 1 to 65535"),
        ({PORT: "8000", NAMES: "a", PATH: "metrics"}, "begins with /"),
        ({PORT: "8000", NAMES: "a", PATH: "/a?b=c"}, "begins with /"),
        ({PORT: "8000", NAMES: "a", PATH: "/a\r\nHost: b"}, "begins with /"),
        ({PORT: "8000", NAMES: "a", f"{PATH[:-4]}name": "b"}, "did you mean metrics.eventengine.dev/names"),
    ],
)
def test_what_can_t_be_is_refused_with_place_and_remedy(annotations: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pod_metrics(annotations)
