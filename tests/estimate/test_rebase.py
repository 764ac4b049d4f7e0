"""What was learned stays valid when the prior changes."""

from dataclasses import replace

import pytest

from tests.estimate.build import ACCELERATORS, H100, LLAMA_8B, TICK_S, assess, deployment, reading_of, seen, tier
from tidegate import estimate
from tidegate.domain.law import PerformanceLaw
from tidegate.domain.observation import Missing
from tidegate.domain.spec import DeploymentSpec, PerformanceHint
from tidegate.estimate.law import law_in_force
from tidegate.estimate.memory import UNCHANGED, EstimateMemory
from tidegate.estimate.priors import Prior, prior_of
from tidegate.estimate.rebase import under
from tidegate.estimate.roofline import Coefficients

TABLE = prior_of(LLAMA_8B, tier(), H100)
TRUTH = replace(
    TABLE.law,
    a_s=2 * TABLE.law.a_s,
    b_s=2 * TABLE.law.b_s,
    c_s=2 * TABLE.law.c_s,
    p0_s=2 * TABLE.law.p0_s,
    p1_s=2 * TABLE.law.p1_s,
)
MEASURED = PerformanceHint(a_s=TRUTH.a_s, b_s=TRUTH.b_s, c_s=TRUTH.c_s, p0_s=TRUTH.p0_s, p1_s=TRUTH.p1_s)
STATED = prior_of(LLAMA_8B, tier(hint=MEASURED), H100)


def watched(spec: DeploymentSpec, memory: EstimateMemory | None = None, *, windows: int = 20) -> EstimateMemory:
    """The memory after windows of 4 to 32 running requests of a tier that takes twice what the table says."""
    for i in range(windows * 8):
        memory = estimate.learn(
            memory,
            spec=spec,
            accelerators=ACCELERATORS,
            observation=seen(reading_of(TRUTH, running=(4.0, 8.0, 16.0, 32.0)[i // 8 % 4])),
            time_s=i * TICK_S,
        )
    assert memory is not None
    return memory


LEARNED = watched(deployment())
BF16 = LEARNED.tiers["bf16"]


def coefficients(law: PerformanceLaw | Coefficients) -> tuple[float, ...]:
    return law.a_s, law.b_s, law.c_s, law.p0_s, law.p1_s


@pytest.mark.parametrize("prior", [TABLE, STATED], ids=["the table's row", "what the user measured"])
def test_what_was_learned_is_counted_once(prior: Prior) -> None:
    law = law_in_force(prior, under(prior, BF16))
    assert coefficients(law) == pytest.approx(coefficients(TRUTH), rel=0.03)


def test_stating_what_was_learned_changes_no_estimate() -> None:
    plain, stated = (deployment(tier(hint=hint)) for hint in (None, MEASURED))
    before, after = (assess(LEARNED, spec)["bf16"] for spec in (plain, stated))
    assert after.capacity_rps == pytest.approx(before.capacity_rps, rel=0.05)


def test_learning_goes_on_from_there() -> None:
    memory = watched(deployment(tier(hint=MEASURED)), LEARNED, windows=3).tiers["bf16"]
    assert memory.base == STATED.base != TABLE.base
    assert coefficients(memory.factors) == pytest.approx((1.0,) * 5, rel=0.03)


def test_what_was_learned_on_this_prior_is_left_as_it_is() -> None:
    assert BF16.base == TABLE.base
    assert under(TABLE, BF16) is BF16


def test_a_tier_that_serves_otherwise_was_never_seen() -> None:
    assert under(replace(TABLE, mark=TABLE.mark + 1), BF16) is None
    assert under(TABLE, None) is None


def test_factors_without_samples_are_dropped_and_the_rest_is_kept() -> None:
    found = under(STATED, replace(BF16, samples=()))
    assert found == replace(BF16, samples=(), base=STATED.base, factors=UNCHANGED, vector=False)


def test_kin_that_learned_on_another_prior_say_the_same() -> None:
    beside = deployment(tier(), tier("fp8"))
    stated = deployment(tier(hint=MEASURED), tier("fp8"))
    before, after, unseen = (
        assess(memory, spec)["fp8"].law.a_s
        for memory, spec in ((LEARNED, beside), (LEARNED, stated), (EstimateMemory(), beside))
    )
    assert before > 1.2 * unseen
    assert after == pytest.approx(unseen, rel=0.03), "what the user states was right"


def test_a_tier_that_is_silent_is_left_for_the_next_window() -> None:
    spec = deployment(tier(hint=MEASURED))
    silent = seen(Missing(reason="NoSeries"))
    assert estimate.learn(LEARNED, spec=spec, accelerators=ACCELERATORS, observation=silent, time_s=1e5) is LEARNED
