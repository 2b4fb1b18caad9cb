"""The names that one run of the demo uses in Kafka, and their removal.

Every topic and consumer group of a run begins with the run's own prefix, so that a second run against the
same Kafka never counts the first one's outputs, and so that what a run made can be found and removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from eventengine_harness.exceptions import DeadlineError
from eventengine_harness.waiting import wait_for

REQUEST_SECONDS_MAX: Final = 10.0
REMOVAL_SECONDS_MAX: Final = 30.0
SESSION_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True)
class Run:
    """One run of the demo, told from others by a few random digits."""

    identifier: str = field(default_factory=lambda: secrets.token_hex(3))

    @property
    def prefix(self) -> str:
        """What all names of this run begin with."""
        return f"demo-{self.identifier}-"

    def name(self, name: str) -> str:
        """A topic or consumer group of this run."""
        return self.prefix + name


def topics_and_groups(
    bootstrap_servers: str, prefix: str = "", request_seconds: float = REQUEST_SECONDS_MAX
) -> tuple[list[str], list[str]]:
    """Topics and consumer groups whose names begin so, Kafka's own left out.

    Raises:
        KafkaException: no broker answers.
    """
    admin = _admin(bootstrap_servers)
    topics = admin.list_topics(timeout=request_seconds).topics
    groups = admin.list_consumer_groups(request_timeout=request_seconds).result().valid
    return (
        sorted(name for name in topics if name.startswith(prefix) and not name.startswith("__")),
        sorted(group.group_id for group in groups if group.group_id.startswith(prefix)),
    )


def remove_from_kafka(
    bootstrap_servers: str,
    run: Run,
    say: Callable[[str], None],
    request_seconds: float = REQUEST_SECONDS_MAX,
) -> bool:
    """Delete the run's topics and groups; where no broker answers, say what stays and return False."""
    try:
        topics, groups = topics_and_groups(bootstrap_servers, run.prefix, request_seconds)
        admin = _admin(bootstrap_servers)
        # A member that was killed counts as one until its session ends; the group can't go before.
        left = set(groups)

        def are_gone() -> bool:
            if left:
                left.difference_update(_deleted_groups(admin, left))
            return not left

        wait_for(
            are_gone,
            f"the end of the consumer groups that begin with {run.prefix}",
            SESSION_SECONDS_MAX,
            poll_seconds_max=1.0,
        )
        if topics:
            for deletion in admin.delete_topics(topics, operation_timeout=REMOVAL_SECONDS_MAX).values():
                _is_deleted(deletion)
    except (KafkaException, DeadlineError) as error:
        say(
            f"not everything was removed from Kafka at {bootstrap_servers} ({error}): topics and consumer groups "
            f"that begin with {run.prefix} may stay there. Delete them; or, where this machine reaches Kafka by "
            f"another address than pods do, set KAFKA_BOOTSTRAP_OUTSIDE to it the next time"
        )
        return False
    return True


def _deleted_groups(admin: AdminClient, groups: Iterable[str]) -> set[str]:
    """Delete groups; returns those that are gone now."""
    deletions = admin.delete_consumer_groups(sorted(groups), request_timeout=REMOVAL_SECONDS_MAX)
    return {group for group, deletion in deletions.items() if _is_deleted(deletion)}


def _is_deleted(deletion: Future[Any]) -> bool:
    """Wait for a deletion; False if the group still has members. What is gone already counts as deleted."""
    try:
        deletion.result(REMOVAL_SECONDS_MAX)
    except KafkaException as error:
        code = error.args[0].code()
        if code == KafkaError.NON_EMPTY_GROUP:
            return False
        if code not in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND}:
            raise
    return True


def _admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient(
        {
            "bootstrap.servers": bootstrap_servers,
            "socket.timeout.ms": int(REQUEST_SECONDS_MAX * 1000),
            "log_level": 0,
        }
    )
