"""Heap profiles are read as jemalloc writes them, and only what grows steadily is said to grow."""

from __future__ import annotations

import pytest
from frame.heap_profiles import growing_stacks, live_bytes

MEBIBYTE = 1 << 20
PROFILE = """heap_v2/524288
  t*: 138: 11730519 [0: 0]
  t1: 52: 56048529 [0: 0]
@ 0x55cc 0x55dd
  t*: 52: 56048529 [0: 0]
  t1: 52: 56048529 [0: 0]
@ 0x66aa
  t*: 1: 131605 [0: 0]
  t4: 1: 131605 [0: 0]

MAPPED_LIBRARIES:
7f00-7f01 r-xp 00000000 00:00 0
"""


def test_each_stack_has_what_all_threads_hold_through_it():
    assert live_bytes(PROFILE) == {"0x55cc 0x55dd": 56_048_529, "0x66aa": 131_605}


@pytest.mark.parametrize("text", ["", "heap_v1/1\n", PROFILE.partition("\nMAPPED")[0]])
def test_what_is_no_whole_profile_is_refused(text):
    with pytest.raises(ValueError, match="not a whole"):
        live_bytes(text)


def test_a_stack_grows_if_it_never_falls_and_gains_more_than_the_noise():
    leak = [{"leak": number * MEBIBYTE, "flat": 8 * MEBIBYTE} for number in range(5)]
    assert growing_stacks(leak) == {"leak": 4 * MEBIBYTE}
    wavering = [{"held": size * MEBIBYTE} for size in (1, 9, 3, 9)]
    assert growing_stacks(wavering) == {}
    within_the_noise = [{"held": size * MEBIBYTE} for size in (1, 2, 3)]
    assert growing_stacks(within_the_noise) == {}


def test_a_stack_that_came_up_later_grows_from_nothing():
    assert growing_stacks([{}, {"late": MEBIBYTE}, {"late": 5 * MEBIBYTE}]) == {"late": 5 * MEBIBYTE}


def test_two_profiles_show_no_growth():
    with pytest.raises(ValueError, match="three profiles"):
        growing_stacks([{}, {}])
