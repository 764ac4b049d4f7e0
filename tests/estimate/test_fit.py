"""From samples to coefficients, and the law far outside the observed range."""

from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.law_extrapolation import table
from tests.data import data_path
from tidegate.estimate.fit import _pair, fit, identifiable, predicted_s
from tidegate.estimate.memory import Prompt, Sample
from tidegate.estimate.roofline import Coefficients

PRIOR = Coefficients(a_s=0.006, b_s=1e-5, c_s=4e-8, p0_s=0.004, p1_s=2e-5)
POINT = Sample(running=8.0, context=1200.0, interference=4.0, itl_s=0.01)


def seen(law: Coefficients, *running: float) -> list[Sample]:
    return [replace(POINT, running=n, itl_s=predicted_s(law, replace(POINT, running=n))) for n in running]


# The best that was published for this question: a free fit of four coefficients.
BEST_KNOWN = 0.082


def test_the_law_learned_at_16_running_requests_holds_at_64_in_real_runs() -> None:
    rows = table(data_path("performance/step_times.csv.gz").parent)
    assert sum(e.runs for e in rows.values()) >= 15
    ours = mean(e.ours for e in rows.values())
    assert ours < BEST_KNOWN / 2
    assert ours < mean(e.prior for e in rows.values())
    assert ours < mean(e.free for e in rows.values())
    assert max(e.ours for e in rows.values()) < BEST_KNOWN


def test_samples_that_the_prior_explains_change_nothing() -> None:
    found = fit(PRIOR, seen(PRIOR, 2, 8, 32, 64)).factors
    for factor in (found.a_s, found.b_s, found.c_s, found.p0_s, found.p1_s):
        assert factor == pytest.approx(1.0, abs=1e-3)


def test_few_or_close_samples_do_not_tell_coefficients_apart() -> None:
    assert not identifiable(seen(PRIOR, 1, 64))
    assert not identifiable(seen(PRIOR, 10, 20, 30, 39))
    assert identifiable(seen(PRIOR, 10, 20, 30, 40))


def test_one_wild_sample_does_not_move_the_common_factor() -> None:
    samples = seen(PRIOR, 8, 8, 8, 9, 9)
    wild = [*samples[:4], replace(samples[4], itl_s=10 * samples[4].itl_s)]
    assert fit(PRIOR, wild).factors.a_s == pytest.approx(fit(PRIOR, samples).factors.a_s, rel=0.01)


def test_first_tokens_of_long_prompts_move_the_cost_of_a_token_those_of_short_ones_the_fixed_cost() -> None:
    samples = seen(PRIOR, 8, 9)
    long = fit(PRIOR, samples, [Prompt(tokens=8000.0, prefill_s=0.004 + 2 * 2e-5 * 8000)]).factors
    short = fit(PRIOR, samples, [Prompt(tokens=100.0, prefill_s=0.004 + 2e-5 * 100 + 0.015)]).factors
    assert long.p1_s == pytest.approx(2.0, rel=0.1)
    assert short.p1_s == pytest.approx(1.0, rel=0.25)
    assert short.p0_s * PRIOR.p0_s > 0.012


def test_more_evidence_loosens_the_prior() -> None:
    truth = replace(PRIOR, c_s=3 * PRIOR.c_s)
    samples = seen(truth, 2, 4, 8, 16, 32, 64)
    little, much = (fit(PRIOR, samples, evidence=evidence).factors.c_s for evidence in (1.0, 5.0))
    assert 1.0 < little < much <= 3.01


numbers = st.floats(-3.0, 3.0)


@given(rows=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6), right=st.tuples(numbers, numbers))
def test_two_unknowns_are_where_no_step_that_is_allowed_improves_them(
    rows: list[tuple[float, float]], right: tuple[float, float]
) -> None:
    xx, yy = 0.1 + sum(x * x for x, _ in rows), 0.1 + sum(y * y for _, y in rows)
    xy = sum(x * y for x, y in rows)
    first, second = _pair([[xx, xy], [xy, yy]], list(right))
    slopes = (xx * first + xy * second - right[0], xy * first + yy * second - right[1])
    for value, slope in zip((first, second), slopes, strict=True):
        assert value >= 0.0
        assert slope == pytest.approx(0.0, abs=1e-6) if value > 0.0 else slope >= -1e-6
