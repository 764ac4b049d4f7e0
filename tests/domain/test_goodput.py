"""
What users got, from histograms: bounds hold, misses count, unknown stays unknown.
"""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.actuate.orders import managed, spec_of
from tidegate.domain.goodput import goodput, goodput_of
from tidegate.domain.observation import (
    DeploymentObservation,
    Histogram,
    Missing,
    TierReading,
    TierState,
    merge_histograms,
)
from tidegate.domain.spec import Slo

SLO = Slo(ttft_s=0.5, itl_s=0.04)


def reading(**values: object) -> TierReading:
    return TierReading(window_s=60.0, age_s=5.0, arrival_rps=None, **values)  # type: ignore[arg-type]


def histogram(share: float, edge_s: float, *, total: float = 100.0) -> Histogram:
    """`share` of the observations at or below an edge, the rest above."""
    return Histogram((edge_s, edge_s * 10, math.inf), (share * total, total, total))


def test_without_readings_everything_is_unknown() -> None:
    got = goodput([], SLO)
    assert (got.attainment, got.good_rps, got.ttft, got.power_w) == (None, None, None, None)


def test_the_joint_share_has_bounds_and_a_likely_value_between_them() -> None:
    got = goodput([reading(ttft=histogram(0.9, 0.5), request_itl=histogram(0.8, 0.04), completion_rps=10.0)], SLO)
    assert got.attainment is not None
    assert got.attainment.lower == pytest.approx(0.7)
    assert got.attainment.likely == pytest.approx(0.72)
    assert got.attainment.upper == pytest.approx(0.8)
    assert got.good_rps == pytest.approx(7.2)


def test_a_target_between_two_edges_widens_the_bounds() -> None:
    got = goodput([reading(ttft=histogram(0.9, 0.4), request_itl=histogram(1.0, 0.04))], SLO)
    assert got.attainment is not None
    assert got.attainment.lower == pytest.approx(0.9)
    assert got.attainment.upper == pytest.approx(1.0)


def test_answers_of_one_token_always_meet_the_itl_target() -> None:
    """A classifier: the server counts no gaps at all. If answers are longer and no gap is counted, nothing is known."""
    empty = Histogram((0.04, math.inf), (0.0, 0.0))
    one = reading(ttft=histogram(0.9, 0.5), itl=empty, output_tokens_mean=1.0)
    got = goodput([one], SLO).attainment
    assert got is not None
    assert (got.lower, got.likely, got.upper) == pytest.approx((0.9, 0.9, 0.9))
    longer = reading(ttft=histogram(0.9, 0.5), itl=empty, output_tokens_mean=2.0)
    assert goodput([one, longer], SLO).attainment is None


def test_aborted_and_rejected_requests_are_misses() -> None:
    got = goodput(
        [
            reading(
                ttft=histogram(1.0, 0.5),
                request_itl=histogram(1.0, 0.04),
                completion_rps=6.0,
                abort_rps=3.0,
                abort_rps_counted=3.0,
                rejection_rps=1.0,
            )
        ],
        SLO,
    )
    assert got.attainment is not None
    assert got.attainment.upper == pytest.approx(0.6)
    assert got.good_rps == pytest.approx(6.0)


@pytest.mark.parametrize("total", [0.0, 100.0], ids=["before the first token", "after a timely first token"])
@pytest.mark.parametrize("lost", [{"rejection_rps": 4.0}, {"abort_rps": 4.0, "abort_rps_counted": 4.0}])
def test_if_no_request_is_served_all_of_them_miss(lost: dict[str, float], total: float) -> None:
    timed = {"ttft": histogram(1.0, 0.5, total=total), "request_itl": histogram(1.0, 0.04, total=total)}
    got = goodput([reading(**timed, **lost, completion_rps=0.0)], SLO)
    assert got.attainment is not None
    assert (got.attainment.lower, got.attainment.likely, got.attainment.upper) == (0.0, 0.0, 0.0)
    assert got.good_rps == 0.0


def test_a_few_that_leave_before_the_first_long_answers_are_complete_are_not_all() -> None:
    timed = {"ttft": histogram(1.0, 0.5), "request_itl": histogram(1.0, 0.04)}
    got = goodput([reading(**timed, abort_rps=0.05, rejection_rps=0.05, completion_rps=0.0, running=54.0)], SLO)
    assert got.attainment is not None
    assert (got.attainment.likely, got.attainment.upper) == pytest.approx((0.9, 0.9 / 0.95))


def test_without_a_count_of_completions_nothing_is_known_of_the_share_served() -> None:
    good = {"ttft": histogram(1.0, 0.5), "request_itl": histogram(1.0, 0.04)}
    got = goodput([reading(**good, rejection_rps=4.0)], SLO).attainment
    assert got is not None
    assert got.upper == pytest.approx(1.0)


def test_inferred_aborts_never_lower_the_upper_bound() -> None:
    good = {"ttft": histogram(1.0, 0.5), "request_itl": histogram(1.0, 0.04)}
    got = goodput([reading(**good, completion_rps=8.0, abort_rps=2.0)], SLO).attainment
    assert got is not None
    assert (got.lower, got.likely, got.upper) == pytest.approx((0.8, 0.8, 1.0))


def test_rejected_requests_have_no_output_tokens() -> None:
    """5 of 10 requests/s are rejected, 1 is aborted halfway; the other 4 are good and have 4/5 of the tokens."""
    good = {"ttft": histogram(1.0, 0.5), "request_itl": histogram(1.0, 0.04), "output_tokens_per_s": 1000.0}
    got = goodput([reading(**good, completion_rps=4.0, abort_rps=1.0, rejection_rps=5.0)], SLO)
    assert (got.good_rps, got.good_tokens_per_s) == pytest.approx((4.0, 800.0))


def test_sums_are_unknown_while_a_ready_tier_is_silent() -> None:
    told = {"completion_rps": 4.0, "output_tokens_per_s": 1000.0, "power_w": 600.0}
    one = TierState(ready=2, reading=reading(ttft=histogram(0.9, 0.5), request_itl=histogram(1.0, 0.04), **told))
    silent, unused = TierState(ready=2, reading=Missing(reason="Stale")), TierState(starting=1)
    spec = spec_of(managed("bf16"), managed("fp8"))
    got = goodput_of(DeploymentObservation(tiers={"bf16": one, "fp8": silent}), spec)
    assert (got.good_rps, got.good_tokens_per_s, got.output_tokens_per_s, got.power_w) == (None, None, None, None)
    assert got.attainment is not None
    alone = goodput_of(DeploymentObservation(tiers={"bf16": one, "fp8": unused}), spec)
    assert (alone.output_tokens_per_s, alone.power_w) == (1000.0, 600.0)


def test_power_is_unknown_if_it_is_unknown_for_one_tier() -> None:
    assert goodput([reading(power_w=600.0), reading()], SLO).power_w is None
    assert goodput([reading(power_w=600.0), reading(power_w=300.0)], SLO).power_w == pytest.approx(900.0)


def test_arrivals_include_rejected_requests() -> None:
    seen = TierReading(window_s=60.0, age_s=1.0, arrival_rps=4.0, rejection_rps=1.5)
    assert goodput([seen], SLO).arrival_rps == pytest.approx(5.5)


def test_tiers_are_weighted_by_their_requests() -> None:
    big = reading(ttft=histogram(1.0, 0.5, total=900), request_itl=histogram(1.0, 0.04, total=900))
    small = reading(ttft=histogram(0.0, 0.5, total=100), request_itl=histogram(1.0, 0.04, total=100))
    got = goodput([big, small], SLO)
    assert got.attainment is not None
    assert got.attainment.likely == pytest.approx(0.9)


def test_a_tier_that_counts_gaps_weighs_as_much_as_its_requests() -> None:
    """vLLM serves nine of ten requests, late; for each of the others SGLang counts a hundred gaps."""
    late = reading(ttft=histogram(1.0, 0.5, total=900), request_itl=histogram(0.0, 0.04, total=900))
    gaps = reading(ttft=histogram(1.0, 0.5), itl=histogram(1.0, 0.04, total=10_000), completion_rps=100 / 60)
    got = goodput([late, gaps], SLO)
    assert got.attainment is not None
    assert got.attainment.lower == pytest.approx(0.1)


def test_utilization_is_that_of_a_replica_and_not_of_a_tier() -> None:
    many, one = reading(gpu_utilization=0.9, replicas_reporting=3), reading(gpu_utilization=0.1, replicas_reporting=1)
    assert goodput([many, one], SLO).gpu_utilization == pytest.approx(0.7)


def test_utilization_is_that_of_an_accelerator_and_not_of_a_replica() -> None:
    """One replica with 8 busy GPUs, and eight replicas with 8 idle ones in total."""
    busy = TierState(ready=1, reading=reading(gpu_utilization=0.9, replicas_reporting=1))
    idle = TierState(ready=8, reading=reading(gpu_utilization=0.1, replicas_reporting=8))
    spec = spec_of(managed("bf16", gpus=8), managed("int4", gpus=1))
    got = goodput_of(DeploymentObservation(tiers={"bf16": busy, "int4": idle}), spec)
    assert got.gpu_utilization == pytest.approx(0.5)


def test_itl_per_gap_is_used_if_requests_are_not_timed() -> None:
    got = goodput([reading(ttft=histogram(1.0, 0.5), itl=histogram(0.5, 0.04))], SLO)
    assert got.attainment is not None
    assert got.attainment.likely == pytest.approx(0.5)


def test_late_gaps_do_not_prove_a_late_request() -> None:
    """SGLang and older vLLM count gaps: 15 of 100 contain another prompt's prefill, and no request has a slow mean."""
    gaps = reading(ttft=histogram(0.9, 0.5), itl=histogram(0.85, 0.04))
    got = goodput([gaps], SLO).attainment
    assert got is not None
    assert (got.lower, got.likely, got.upper) == pytest.approx((0.75, 0.765, 0.9))
    counted = reading(ttft=histogram(0.9, 0.5), request_itl=histogram(0.85, 0.04))
    both = goodput([gaps, counted], SLO).attainment
    assert both is not None
    assert both.upper == pytest.approx(0.9)


def test_attainment_is_unknown_with_one_histogram_alone() -> None:
    assert goodput([reading(ttft=histogram(1.0, 0.5))], SLO).attainment is None


def test_attainment_without_requests_is_unknown_and_not_zero() -> None:
    empty = Histogram((0.5, math.inf), (0.0, 0.0))
    assert goodput([reading(ttft=empty, request_itl=empty)], SLO).attainment is None


def test_the_percentile_is_that_of_prometheus_and_lies_in_its_bucket() -> None:
    got = goodput([reading(ttft=Histogram((0.1, 0.2, math.inf), (50.0, 100.0, 100.0)))], SLO)
    assert got.ttft is not None
    assert (got.ttft.p95_s, got.ttft.p95_between_s) == (pytest.approx(0.19), (0.1, 0.2))


def test_merging_keeps_only_common_edges() -> None:
    merged = merge_histograms([Histogram((0.1, 0.5, math.inf), (1, 2, 3)), Histogram((0.5, 1.0, math.inf), (4, 5, 6))])
    assert merged == Histogram((0.5, math.inf), (6, 9))
    assert merge_histograms([]) is None


counts = st.lists(st.floats(0, 1e6), min_size=1, max_size=8)


@given(counts, counts, st.floats(0.001, 10), st.floats(0.001, 10))
def test_bounds_are_in_order_whatever_the_buckets_say(
    first: list[float], second: list[float], a: float, b: float
) -> None:
    def cumulative(steps: list[float]) -> Histogram:
        edges = tuple(0.01 * 2**i for i in range(len(steps) - 1))
        total, sums = 0.0, []
        for step in steps:
            total += step
            sums.append(total)
        return Histogram((*edges, math.inf), tuple(sums))

    got = goodput([reading(ttft=cumulative(first), request_itl=cumulative(second))], Slo(ttft_s=a, itl_s=b)).attainment
    if got is not None:
        assert 0.0 <= got.lower <= got.likely <= got.upper <= 1.0 + 1e-12
