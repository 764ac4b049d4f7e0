"""The service model, compared with limits known in closed form and with published runs."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data import data_path
from tests.estimate.build import CHAT
from tidegate.domain.law import PerformanceLaw
from tidegate.estimate.latency import attainment, itl_quantile, itl_share, ttft_quantile, ttft_share
from tidegate.estimate.service import Service, state_at

LAW = PerformanceLaw(a_s=0.006, b_s=1e-5, c_s=4e-8, p0_s=0.004, p1_s=2e-5, kv_cache_tokens=450_000.0, running_max=256.0)
SERVICE = Service(
    law=LAW,
    workload=CHAT,
    batched_tokens_max=2048.0,
    context_max=float("inf"),
    burstiness=1.0,
    ttft_s=0.5,
    itl_s=0.04,
)
RATES = np.linspace(0.05, 0.95, 10) * SERVICE.rate_unstable


def test_running_requests_obey_littles_law() -> None:
    state = state_at(SERVICE, RATES)
    assert state.running == pytest.approx(RATES * CHAT.output_tokens * state.itl_s)


def test_the_mean_itl_is_that_of_the_law_at_the_batch_a_token_meets() -> None:
    """A token meets one request more than there are on average; prompts come at the rate of requests, and those that
    gathered behind the own prompt are spread over the answer."""
    state = state_at(SERVICE, RATES)
    for rate, running, itl, backlog in zip(RATES, state.running, state.itl_s, state.backlog_s, strict=True):
        decode = LAW.a_s + (running + 1) * (LAW.b_s + LAW.c_s * CHAT.context_tokens)
        usual = decode / (1 - rate * LAW.p1_s * CHAT.prompt_tokens)
        assert itl == pytest.approx(usual + backlog / CHAT.output_tokens)


def test_few_prompts_gather_behind_one_on_an_idle_replica_and_many_on_a_busy_one() -> None:
    backlog = state_at(SERVICE, RATES).backlog_s
    assert np.all(np.diff(backlog) > 0)
    assert backlog[0] < 0.1 * LAW.prefill_s(CHAT) < LAW.prefill_s(CHAT) < backlog[-1]


def test_requests_without_prompts_spread_as_a_birth_and_death_process_does() -> None:
    """Arrivals at a rate, departures N / (osl * (a + d*N)): the variance of N is N / free, of a step d^2 times that."""
    bare = replace(
        SERVICE,
        law=replace(LAW, p0_s=0.0, p1_s=0.0, c_s=0.0, b_s=1e-4),
        workload=replace(CHAT, prompt_tokens=1.0, output_variation=0.0),
    )
    state = state_at(bare, RATES)
    free = 1 - RATES * bare.workload.output_tokens * bare.decode_slope_s
    assert state.slow == pytest.approx(bare.decode_slope_s**2 * state.running / free)


def test_an_idle_replica_takes_the_prompts_own_time() -> None:
    fixed = replace(SERVICE, workload=replace(CHAT, prompt_variation=0.0))
    found = ttft_quantile(fixed, state_at(fixed, np.array([1e-6])), 0.95)
    assert found[0] == pytest.approx(LAW.prefill_s(CHAT), rel=0.01)


def test_no_attainment_where_the_queue_grows_without_end() -> None:
    at_the_end = attainment(SERVICE, state_at(SERVICE, SERVICE.rate_unstable * np.array([0.9999])))
    assert at_the_end[0] < 0.05


@pytest.mark.parametrize("context", [float("inf"), 2 * CHAT.prompt_tokens, CHAT.prompt_tokens], ids=lambda n: f"{n:g}")
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_quantiles_and_shares_are_inverse(level: float, context: float) -> None:
    service = replace(SERVICE, context_max=context)
    state = state_at(service, RATES)
    ttft, itl = ttft_quantile(service, state, level), itl_quantile(service, state, level)
    assert ttft_share(service, state, ttft[:, None])[:, 0] == pytest.approx(np.full(10, level), abs=0.02)
    assert itl_share(service, state, itl[:, None])[:, 0] == pytest.approx(np.full(10, level), abs=0.02)


def test_memory_and_batch_limits_bring_the_end_nearer() -> None:
    few = replace(SERVICE, law=replace(LAW, running_max=8.0))
    small = replace(SERVICE, law=replace(LAW, kv_cache_tokens=10_000.0))
    assert few.rate_unstable < SERVICE.rate_unstable
    assert small.rate_unstable < SERVICE.rate_unstable
    held = 8 / (CHAT.output_tokens * LAW.itl_s(8, CHAT))
    assert few.rate_unstable == pytest.approx(held, rel=0.05)


def test_waiting_for_a_place_in_the_batch_shows_in_the_first_token() -> None:
    few = replace(SERVICE, law=replace(LAW, running_max=8.0))
    rate = np.array([0.93 * few.rate_unstable])
    crowded, free = (ttft_quantile(s, state_at(s, rate), 0.95)[0] for s in (few, SERVICE))
    assert crowded > 2 * free


@pytest.mark.slow
def test_percentiles_are_those_of_an_independent_simulator() -> None:
    """Mean ITL within an eighth, 95th percentiles close, in all runs below 70 % of the stable load."""
    from benchmarks.service_model import compare

    rows = [row for row in compare(data_path("performance/vidur_reference.csv").parent) if row.used < 0.7]
    assert len(rows) >= 20
    for row in rows:
        assert row.itl_mean.ratio == pytest.approx(1.0, abs=0.12), row.name
        assert row.itl_p95.ratio == pytest.approx(1.0, abs=0.35), row.name
        assert row.ttft_p95.ratio == pytest.approx(1.0, abs=0.45), row.name


def test_an_answer_of_one_token_cannot_miss_the_itl_target() -> None:
    one = replace(SERVICE, workload=replace(CHAT, prompt_tokens=8000.0, output_tokens=1.0, output_variation=0.1))
    state = state_at(one, np.linspace(0.05, 0.95, 10) * one.rate_unstable)
    assert itl_share(one, state, np.full((10, 1), one.itl_s)) == pytest.approx(1.0)
    varied = replace(one, itl_s=one.floor_s / 2, workload=replace(one.workload, output_variation=1.0))
    assert itl_share(varied, state, np.full((10, 1), varied.itl_s)) == pytest.approx(1.0)
    two = replace(one, workload=replace(one.workload, output_tokens=2.0))
    assert itl_share(two, state, np.full((10, 1), two.itl_s))[-1, 0] < 0.5


@pytest.mark.slow
def test_capacity_holds_where_memory_is_short_and_where_answers_are() -> None:
    """At most 20 % more than the simulator carries, and at least 70 % of it."""
    from benchmarks.service_model import EDGES, knee

    for name, pair in (knee(*edge) for edge in EDGES):
        assert 0.7 < pair.ratio < 1.2, (name, pair)
