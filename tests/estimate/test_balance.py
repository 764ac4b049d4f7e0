"""How evenly the load is balanced over replicas, and its effect on capacity."""

from bisect import bisect_left
from dataclasses import replace

import pytest

from tests.estimate.test_service import LAW, SERVICE
from tidegate.domain.estimate import POOLS
from tidegate.domain.law import Workload
from tidegate.domain.observation import dispersion_of
from tidegate.estimate.balance import evenness_of
from tidegate.estimate.capacity import carried
from tidegate.estimate.memory import TierMemory


@pytest.mark.parametrize(
    ("held", "dispersion"),
    [([], None), ([7.0], None), ([0.0, 0.0], None), ([4.0, 4.0, 4.0], 0.0), ([2.0, 6.0], 2.0), ([5.0, 6.0], 1 / 11)],
    ids=[
        "nobody tells nothing",
        "one replica has no neighbour",
        "idle replicas tell nothing",
        "a picker of the least loaded leaves no difference",
        "lots leave a large one",
        "one request more is little",
    ],
)
def test_the_dispersion_of_requests_over_replicas(held: list[float], dispersion: float | None) -> None:
    assert dispersion_of(held) == (None if dispersion is None else pytest.approx(dispersion))


@pytest.mark.parametrize(
    ("tiers", "evenness"),
    [
        ([], 0.0),
        ([TierMemory(mark=1, base=1)], 0.0),
        ([TierMemory(mark=1, base=1, dispersion=0.05, balanced=2)], 0.475),
        ([TierMemory(mark=1, base=1, dispersion=0.05, balanced=20)], 0.864),
        ([TierMemory(mark=1, base=1, dispersion=0.0, balanced=20)], 0.909),
        ([TierMemory(mark=1, base=1, dispersion=3.0, balanced=20)], 0.0),
        (
            [
                TierMemory(mark=1, base=1, dispersion=0.0, balanced=20),
                TierMemory(mark=1, base=1, dispersion=1.0, balanced=20),
            ],
            0.476,
        ),
    ],
    ids=[
        "never seen: lots are drawn",
        "a tier of one replica says nothing",
        "two windows convince by half",
        "many windows convince",
        "perfectly even, and seen so often: nearly all of it",
        "worse than lots is lots",
        "every tier has its say",
    ],
)
def test_evenness_is_trusted_as_far_as_it_was_observed(tiers: list[TierMemory], evenness: float) -> None:
    assert evenness_of(tiers) == pytest.approx(evenness, abs=1e-3)


@pytest.mark.parametrize("evenness", [0.2, 0.6, 1.0])
def test_more_company_never_carries_less_and_no_evenness_gives_none(evenness: float) -> None:
    alone = carried(SERVICE, target=0.99, misses=1.0)
    even = carried(replace(SERVICE, evenness=evenness), target=0.99, misses=1.0)
    assert alone.pooling == (1.0,) * len(POOLS)
    assert even.pooling[0] == 1.0
    assert list(even.pooling) == sorted(even.pooling)
    assert even.pooling[-1] > 1.0
    assert (even.rate_rps, even.curve) == (alone.rate_rps, alone.curve)


def test_the_more_even_the_load_the_more_a_replica_carries_in_company() -> None:
    gains = [
        carried(replace(SERVICE, evenness=e), target=0.99, misses=1.0).pooling[-1] for e in (0.2, 0.4, 0.6, 0.8, 1.0)
    ]
    assert gains == sorted(gains)


@pytest.mark.parametrize("misses", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("output_tokens", [90.0, 95.0, 100.0, 105.0, 110.0])
def test_a_curve_has_points_close_together_where_a_replica_of_a_large_fleet_works(
    misses: float, output_tokens: float
) -> None:
    requests = Workload(prompt_tokens=1600.0, output_tokens=output_tokens, prompt_variation=1.0, output_variation=1.0)
    slow = replace(SERVICE, law=replace(LAW, p1_s=1e-4), workload=requests, ttft_s=1.5, evenness=0.8)
    found = carried(slow, target=0.99, misses=misses)
    rates = [point.rate_rps for point in found.curve.points]
    right = bisect_left(rates, found.rate_rps * found.pooling[-1])
    assert found.pooling[-1] > 1.4
    assert rates[right] <= 1.2 * rates[right - 1]
