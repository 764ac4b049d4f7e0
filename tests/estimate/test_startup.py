"""How long a start-up takes, and when a replica is late."""

import pytest

from tests.estimate.build import H100, LLAMA_8B, tier
from tidegate.estimate.memory import StartupMemory
from tidegate.estimate.priors import prior_of
from tidegate.estimate.startup import LATE_MORE_S, expected_s, late_s, remember

SERVING = prior_of(LLAMA_8B, tier(), H100).serving


def after(*seen_s: float) -> StartupMemory | None:
    memory = None
    for second in seen_s:
        memory = remember(memory, second)
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
