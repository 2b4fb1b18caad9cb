"""jemalloc's heap profiles: what each call stack held, and which stacks hold more and more.

Owns the reading of the format `heap_v2` and the rule for growth. A profile is a sample, one of about every 512 KiB
allocated, so a stack's figure wavers by as much; a stack counts as growing only if no profile shows less than the
one before and the last shows more than the first by more than that noise. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

HEADER: Final = "heap_v2/"
NOISE_BYTES: Final = 2 << 20


def live_bytes(text: str) -> dict[str, int]:
    """Bytes that each call stack held, by its addresses; ValueError if this is no whole profile.

    Within a stack's block the line `t*` sums up all threads. The block before the first stack sums up all of them
    and is left out: jemalloc computes it from figures of different moments.
    """
    if not text.startswith(HEADER) or "MAPPED_LIBRARIES:" not in text:
        raise ValueError(f"not a whole {HEADER} profile: {text[:40]!r}")
    held: dict[str, int] = {}
    stack: str | None = None
    for line in text.partition("\nMAPPED_LIBRARIES:")[0].splitlines():
        words = line.split()
        if words[:1] == ["@"]:
            stack = " ".join(words[1:])
        elif stack is not None and words[:1] == ["t*:"]:
            held[stack] = held.get(stack, 0) + int(words[2])
    return held


def growing_stacks(profiles: Sequence[Mapping[str, int]], noise_bytes: int = NOISE_BYTES) -> dict[str, int]:
    """Stacks that hold more and more over these profiles, with the bytes that they gained; needs three profiles."""
    if len(profiles) < 3:
        raise ValueError(f"growth shows in three profiles or more, and here are {len(profiles)}")
    growing: dict[str, int] = {}
    for stack in profiles[-1]:
        held = [profile.get(stack, 0) for profile in profiles]
        steady = all(later >= earlier for earlier, later in itertools.pairwise(held))
        if steady and held[-1] - held[0] > noise_bytes:
            growing[stack] = held[-1] - held[0]
    return growing
