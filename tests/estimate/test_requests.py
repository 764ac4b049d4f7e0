"""The request lengths for which estimates are made: close to the expected ones, and stable while those fluctuate."""

from dataclasses import replace
from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.estimate.build import CHAT
from tidegate.domain.law import Workload
from tidegate.estimate.requests import (
    BURST_STEP,
    COMPUTED_STEP,
    EVENNESS_STEP,
    HELD,
    HIT_MAX,
    TOKENS_STEP,
    VARIATION_STEP,
    Requests,
    computed_step,
    expected,
    held,
    workload_of,
)

workloads = st.builds(
    Workload,
    prompt_tokens=st.floats(1, 1e6),
    output_tokens=st.floats(1, 1e5),
    prompt_variation=st.floats(0, 4),
    output_variation=st.floats(0, 4),
)
bursts, shares = st.floats(1, 1e4), st.floats(0, 1)


def steps_of(workload: Workload, burstiness: float = 1.0, evenness: float = 0.0) -> Requests:
    return expected(None, workload=workload, burstiness=burstiness, evenness=evenness)


@given(first=workloads, then=workloads, burst=bursts, even=shares)
def test_whatever_came_before_the_steps_are_near_what_is_expected(
    first: Workload, then: Workload, burst: float, even: float
) -> None:
    now = expected(steps_of(first, 3.0, 0.5), workload=then, burstiness=burst, evenness=even)
    at = workload_of(now, 0)
    near = HELD + 1e-6
    assert abs(log(at.prompt_tokens / then.prompt_tokens)) <= near * TOKENS_STEP
    assert abs(log(at.output_tokens / then.output_tokens)) <= near * TOKENS_STEP
    assert abs(at.prompt_variation - then.prompt_variation) <= near * VARIATION_STEP
    assert abs(at.output_variation - then.output_variation) <= near * VARIATION_STEP
    assert abs(log(now.burstiness / burst)) <= near * BURST_STEP
    assert abs(now.evenness - even) <= near * EVENNESS_STEP


@given(workload=workloads, wobble=st.lists(st.floats(-0.24, 0.24), min_size=1, max_size=8))
def test_what_hovers_around_any_value_by_less_than_a_quarter_of_a_step_moves_at_most_once(
    workload: Workload, wobble: list[float]
) -> None:
    before, seen = steps_of(workload), []
    for share in wobble:
        near = replace(workload, prompt_tokens=workload.prompt_tokens * exp(share * TOKENS_STEP))
        before = expected(before, workload=near, burstiness=1.0, evenness=0.0)
        seen.append(before)
    assert all(one is seen[0] for one in seen)


def test_a_spread_of_lengths_at_the_edge_of_two_steps_does_not_go_to_and_fro() -> None:
    """Means of a minute told 0.84, 0.90, 0.86, 0.90, 0.88 of one deployment, whose fleet went up and down with it."""
    before, seen = None, []
    for variation in (0.84, 0.90, 0.86, 0.90, 0.88, 0.84):
        shape = replace(CHAT, output_variation=variation)
        before = expected(before, workload=shape, burstiness=1.0, evenness=0.0)
        seen.append(before.output_variation)
    assert seen == [8, 9, 9, 9, 9, 9]


@pytest.mark.parametrize(
    ("step", "exact", "then"),
    [(None, 2.4, 2), (2, 2.7, 2), (2, 2.75, 2), (2, 2.76, 3), (2, 1.3, 2), (2, 1.2, 1), (2, 9.6, 10)],
)
def test_a_step_is_held_until_the_value_is_three_quarters_of_it_away(step: int | None, exact: float, then: int) -> None:
    assert held(step, exact) == then


@given(hit=st.floats(0, 1))
def test_what_is_left_to_compute_is_near_what_the_cache_leaves(hit: float) -> None:
    left = workload_of(steps_of(CHAT), computed_step(None, hit)).prefill_tokens / CHAT.prompt_tokens
    shape = workload_of(steps_of(CHAT), 0)
    left *= CHAT.prompt_tokens / shape.prompt_tokens
    assert abs(log(left / (1.0 - min(HIT_MAX, hit)))) <= COMPUTED_STEP / 2 + 1e-9


@given(workload=workloads, burst=bursts, even=shares)
def test_steps_survive_json(workload: Workload, burst: float, even: float) -> None:
    steps = steps_of(workload, burst, even)
    assert Requests.from_json(steps.to_json()) == steps
    assert tuple(steps) == tuple(steps.to_json())
