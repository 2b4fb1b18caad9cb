"""The main job on the real cluster: a core of its own, scaling on lag, exactly once, the article's HPA.

The phases are the demo's own (`eventengine_harness.demo.story`); here each is asserted.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eventengine_harness.clusters import Cluster
from eventengine_harness.demo.stages import Stage
from eventengine_harness.demo.story import Story


@pytest.fixture(scope="module")
def story(cluster: Cluster, product_images: None) -> Iterator[Story]:
    """The chart installed, and a namespace to play in; both are removed after the last phase."""
    told = Story(Stage.of(cluster), print)
    told.install()
    yield told
    told.remove()


@pytest.mark.timeout(180, func_only=True)
def test_a_pinned_pod_owns_a_core_and_pod_snapshot_and_status_agree(story: Story) -> None:
    outcome = story.show_pinning()
    assert outcome.faults() == []


@pytest.mark.timeout(360, func_only=True)
def test_a_burst_scales_out_and_in_and_every_event_is_applied_exactly_once(story: Story) -> None:
    outcome = story.show_scaling()
    assert outcome.faults() == []
    assert outcome.figures.replicas_ready_max >= 3


@pytest.mark.timeout(300, func_only=True)
def test_the_articles_autoscaler_works_unchanged_and_scales_up(story: Story) -> None:
    outcome = story.show_article_autoscaler()
    assert outcome.scaling_active
    assert outcome.replicas_at_start == 1
    assert outcome.replicas_desired >= 3
    assert outcome.lag_per_pod_seen > 500


@pytest.mark.soak
@pytest.mark.timeout(1500, func_only=True)
def test_the_articles_autoscaler_scales_down_in_its_own_time(story: Story) -> None:
    outcome = story.show_article_autoscaler(scale_down_seconds=1200.0)
    assert outcome.replicas_desired >= 4
