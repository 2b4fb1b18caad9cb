"""The metadata of a trigger with which KEDA asks the adapter's external scaler.

Owns the keys, which the operator writes into ScaledObjects and the adapter
reads. Values are texts, as in every trigger of KEDA. Which of them mean what is
described once, here.
"""

from __future__ import annotations

from typing import Final

METRIC: Final = "metric"
"""Name of a metric of `metric_names`. Required."""

ENGINE: Final = "engine"
"""Name of an EventEngine in the ScaledObject's namespace. Required."""

TARGET: Final = "target"
"""What the autoscaler aims for: a quantity above zero. Required."""

ACTIVATION: Final = "activation"
"""A quantity: the trigger is active while the sum is greater than this. Default 0."""

SELECTOR: Final = "selector"
"""A label selector of the external metrics API, with its parameters; the engine is added to it. Default: everything."""

LIMIT_TO_PARTITIONS: Final = "limitToPartitionsWithLag"
"""`true` (the default) counts each partition of a lag for at most the target, so that an AverageValue never asks for
more pods than there are partitions with lag. `false` is for targets of type Value."""

TRIGGER_KEYS: Final = (METRIC, ENGINE, TARGET, ACTIVATION, SELECTOR, LIMIT_TO_PARTITIONS)

CONNECTION_KEYS: Final = frozenset(
    {"scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey"}
)
"""Keys by which KEDA finds and trusts the scaler. They are passed on to it and mean nothing there."""
