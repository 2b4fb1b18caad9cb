"""Histograms as the measured programs hand them over: pairs of value and count.

Owns their merging and their percentiles. Every program records into an HDR histogram of its own language, with three
significant digits, and prints the pairs that are not zero; merged, they give the percentiles of all runs together,
which no average of percentiles does. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass
class Histogram:
    """Counts by value, in nanoseconds, and the greatest value that was ever seen."""

    counts: Counter[int] = field(default_factory=Counter)
    greatest: int = 0

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """A histogram from `{"counts": [[value, count], ...], "max": value}`; ValueError if it isn't one."""
        counts: Counter[int] = Counter()
        for value, count in document["counts"]:
            if value < 0 or count < 0:
                raise ValueError(f"a histogram has no negative entries, but there is {value}: {count}")
            counts[int(value)] += int(count)
        return cls(counts, int(document["max"]))

    @classmethod
    def merged(cls, histograms: Iterable[Histogram]) -> Self:
        """All values of several runs."""
        whole = cls()
        for histogram in histograms:
            whole.counts.update(histogram.counts)
            whole.greatest = max(whole.greatest, histogram.greatest)
        return whole

    @property
    def total(self) -> int:
        """How many values there are."""
        return self.counts.total()

    def quantile(self, share: float) -> int:
        """The value that a share of all values does not exceed, in nanoseconds; 0 if there are none."""
        wanted = max(1, -(-self.total * share // 1))
        seen = 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= wanted:
                return min(value, self.greatest)
        return self.greatest

    def figures(self) -> dict[str, int]:
        """The percentiles that tables show, in nanoseconds."""
        return {
            "count": self.total,
            "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "p999": self.quantile(0.999),
            "max": self.greatest,
        }
