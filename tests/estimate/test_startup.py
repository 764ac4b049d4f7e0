"""How long a start-up takes, and when a replica is late."""

import pytest

from tests.estimate.build import H100, LLAMA_8B, tier
from tidegate.estimate.memory import StartupMemory
from tidegate.estimate.priors import prior_of
from tidegate.estimate.startup import BELIEVED_S, LATE_MORE_S, expected_s, late_s, prior_s, remember

SERVING = prior_of(LLAMA_8B, tier(), H100).serving


def after(*seen_s: float) -> StartupMemory | None:
    memory = None
    for second in seen_s:
        memory = remember(memory, SERVING, second)
    return memory


@pytest.mark.parametrize(
    ("seen_s", "least", "most"),
    [
        pytest.param((), 3.0, 3.0, id="where none was seen three times the guess"),
        pytest.param((120.0,), 2.0, 2.0, id="after one start twice as long"),
        pytest.param((120.0,) * 12, 1.5, 1.5, id="after many alike half as long again"),
        pytest.param((60.0, 240.0) * 6, 2.0, 4.0, id="after many that differ later"),
    ],
)
def test_a_replica_is_late_the_sooner_the_better_start_ups_are_known(
    seen_s: tuple[float, ...], least: float, most: float
) -> None:
    memory = after(*seen_s)
    expected, late = expected_s(memory, SERVING), late_s(memory, SERVING)
    assert least * expected <= late - LATE_MORE_S + 0.2
    assert late - LATE_MORE_S <= most * expected + 0.2


def test_what_was_seen_wins_over_the_guess() -> None:
    assert expected_s(after(400.0), SERVING) == 400.0
    assert expected_s(None, SERVING) != 400.0


WAITED_S = 36_000.0  # ten hours for a free accelerator


@pytest.mark.parametrize(
    ("seen_s", "most_s"),
    [
        pytest.param((WAITED_S,), BELIEVED_S, id="the very first start"),
        pytest.param((90.0,) * 5 + (WAITED_S,), 450.0, id="one after five of 90 s"),
        pytest.param((90.0,) * 5 + (WAITED_S,) + (90.0,) * 5, 150.0, id="five more starts of 90 s later"),
        pytest.param((600.0,) * 5 + (WAITED_S,), 1200.0, id="one of a large model"),
    ],
)
def test_a_wait_for_a_free_accelerator_is_no_start_up(seen_s: tuple[float, ...], most_s: float) -> None:
    memory = after(*seen_s)
    assert expected_s(memory, SERVING) <= most_s
    assert late_s(memory, SERVING) < 3600.0


@pytest.mark.parametrize("slow_s", [800.0, 1200.0])
def test_a_start_that_takes_ten_times_as_long_as_thought_is_believed_at_once(slow_s: float) -> None:
    assert slow_s > 10 * prior_s(SERVING)
    assert expected_s(after(slow_s), SERVING) == slow_s


@pytest.mark.parametrize("usual_s", [90.0, 600.0])
def test_starts_that_became_ten_times_slower_are_more_than_half_learned_after_four(usual_s: float) -> None:
    assert expected_s(after(*[usual_s] * 20, *[10 * usual_s] * 4), SERVING) > 0.6 * 10 * usual_s
