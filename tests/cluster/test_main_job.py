"""The main job on the real cluster: a core of its own, scaling on lag, exactly once, the article's HPA.

The phases are the demo's own (`eventengine_harness.demo.story`); here each is asserted.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from eventengine_harness.clusters import Cluster
from eventengine_harness.demo.installing import remove
from eventengine_harness.demo.runs import Run
from eventengine_harness.demo.stages import Stage
from eventengine_harness.demo.story import ArticleOutcome, Story


@pytest.fixture(scope="module")
def story(cluster: Cluster, product_images: None) -> Iterator[Story]:
    """The chart installed, and a namespace to play in; both are removed after the last phase."""
    stage = Stage.of(cluster)
    told = Story(stage, print, Run())
    told.install()
    yield told
    assert remove(stage.access, print)


@pytest.fixture(scope="module")
def article(story: Story) -> Iterator[Future[ArticleOutcome]]:
    """The article's autoscaler at work. It waits minutes by its own rules, so another engine scales beside it."""
    with ThreadPoolExecutor(max_workers=1) as beside:
        yield beside.submit(story.show_article_autoscaler)


@pytest.mark.timeout(180, func_only=True)
def test_a_pinned_pod_owns_a_core_and_pod_snapshot_and_status_agree(story: Story) -> None:
    outcome = story.show_pinning()
    assert outcome.faults() == []


@pytest.mark.timeout(360, func_only=True)
@pytest.mark.usefixtures("article")
def test_a_burst_scales_out_and_in_and_every_event_is_applied_exactly_once(story: Story) -> None:
    outcome = story.show_scaling()
    assert outcome.faults() == []
    assert outcome.figures.replicas_ready_max >= 3


@pytest.mark.timeout(300, func_only=True)
def test_the_articles_autoscaler_works_unchanged_and_scales_up(article: Future[ArticleOutcome]) -> None:
    outcome = article.result()
    assert outcome.scaling_active
    assert outcome.replicas_at_start == 1
    assert outcome.replicas_desired >= 3
    assert outcome.lag_per_pod_seen > 500


@pytest.mark.soak
@pytest.mark.timeout(1500, func_only=True)
def test_the_articles_autoscaler_scales_down_in_its_own_time(story: Story) -> None:
    outcome = story.show_article_autoscaler(scale_down_seconds=1200.0)
    assert outcome.replicas_desired >= 4
