"""What observed tiers tell about tiers without observations."""

import pytest

from tests.estimate.build import H100, LLAMA_8B, assess, deployment, tier
from tidegate.estimate.kin import ALONE, KIN_SHARE, STEP, kin_of
from tidegate.estimate.memory import UNCHANGED, EstimateMemory, Sample, TierMemory
from tidegate.estimate.priors import prior_of
from tidegate.estimate.roofline import Coefficients

PRIOR = prior_of(LLAMA_8B, tier(), H100)
SAMPLE = Sample(running=10.0, context=1000.0, interference=4.0, itl_s=0.01)


def slower(factor: float, *, windows: int = 1000, held: float | None = None) -> TierMemory:
    """A tier whose steps take so many times what its prior says."""
    factors = Coefficients(a_s=factor, b_s=factor, c_s=factor, p0_s=factor, p1_s=factor)
    return TierMemory(mark=PRIOR.mark, base=PRIOR.base, factors=factors, samples=(SAMPLE,), windows=windows, held=held)


@pytest.mark.parametrize(
    ("memories", "expected"),
    [
        pytest.param([], 1.0, id="nobody was seen"),
        pytest.param(
            [TierMemory(mark=PRIOR.mark, base=PRIOR.base, factors=UNCHANGED)], 1.0, id="one that has no window yet"
        ),
        pytest.param([slower(1.0)], 1.0, id="one that is as its prior says"),
        pytest.param([slower(1.5)], 1.5**KIN_SHARE, id="two thirds of an error are believed"),
        pytest.param([slower(0.7)], 0.7**KIN_SHARE, id="also of one that is faster"),
        pytest.param([slower(1.5), slower(1 / 1.5)], 1.0, id="two that differ cancel"),
        pytest.param([slower(1.5, windows=1)], 1.5 ** (KIN_SHARE / 3), id="one window is hardly believed"),
    ],
)
def test_a_prior_is_moved_by_what_its_kin_turned_out_to_be(memories: list[TierMemory], expected: float) -> None:
    found = kin_of([(PRIOR, memory) for memory in memories])
    assert found.factor == pytest.approx(expected, rel=STEP / 2 + 0.002)


def test_a_prior_is_believed_more_once_its_kin_were_seen() -> None:
    assert kin_of([]) == ALONE
    assert kin_of([(PRIOR, slower(1.0))]).trust == pytest.approx(KIN_SHARE, abs=0.03)
    assert 0.0 < kin_of([(PRIOR, slower(1.0, windows=1))]).trust < KIN_SHARE / 2


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        pytest.param(None, 1.0, id="as expected"),
        pytest.param(5.0, 5.0**KIN_SHARE, id="states of a fixed size"),
        pytest.param(0.5, 0.5**KIN_SHARE, id="shared prefixes"),
    ],
)
def test_requests_hold_about_as_much_of_the_cache_of_a_tier_that_was_never_tried(
    held: float | None, expected: float
) -> None:
    """Else a tier where they hold five times their contexts would be exchanged for one where that was never seen."""
    spec = deployment(tier(model=LLAMA_8B), tier("other", model=LLAMA_8B))
    memory = EstimateMemory(tiers={"bf16": slower(1.0, held=held)})
    tokens = assess(memory, spec)["other"].law.kv_cache_tokens
    assert PRIOR.law.kv_cache_tokens / tokens == pytest.approx(expected, rel=STEP / 2 + 0.002)
