"""One replica and one router, step by step."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.builders import fleet, poisson, server, traffic
from tidegate.domain.law import PerformanceLaw, Workload
from tidegate.sim.engine import replica, route
from tidegate.sim.engine.fleet import Fleet, Server, StepTable
from tidegate.sim.engine.state import DROPPED, FINISHED, PREEMPTIONS, Requests, State


def finished(made: Fleet) -> State:
    made.advance(1e6)
    made.check()
    return made.state


def test_a_lone_request_takes_its_prefill_and_then_one_decode_step_per_token() -> None:
    requests = finished(fleet(traffic([5.0], prompt=1000, output=3))).requests
    first = 0.005 + 2e-5 * 1000
    assert requests.first_s[0] == pytest.approx(5.0 + first)
    steps = sum(0.010 + 0.0001 + 1e-7 * context for context in (1001, 1002))
    assert requests.finish_s[0] == pytest.approx(5.0 + first + steps)


def test_a_prompt_longer_than_the_budget_is_cut_into_chunks() -> None:
    requests = finished(fleet(traffic([0.0], prompt=5000, output=1))).requests
    chunks = (2048, 2048, 904)
    assert requests.first_s[0] == pytest.approx(sum(max(0.010, 0.005 + 2e-5 * c) for c in chunks))


def test_an_api_overhead_delays_first_token_and_end_but_not_the_engine() -> None:
    slow = Server(law=server().law, token_budget=2048, overhead_s=0.5)
    with_overhead = finished(fleet(traffic([0.0]), of=slow)).requests
    without = finished(fleet(traffic([0.0]))).requests
    assert with_overhead.first_s[0] == pytest.approx(without.first_s[0] + 0.5)
    assert with_overhead.finish_s[0] == pytest.approx(without.finish_s[0] + 0.5)


def test_no_more_requests_run_than_the_batch_allows_and_the_queue_is_first_come_first_served() -> None:
    made = fleet(traffic([0.0] * 10, prompt=50, output=200), of=server(running_max=4))
    made.advance(0.5)
    assert made.state.slots.running_count[0] == 4
    assert made.state.slots.waiting_count[0] == 6
    assert np.all(np.diff(finished(made).requests.first_s) >= 0)


def test_too_little_kv_memory_preempts_the_last_one_and_everybody_still_finishes() -> None:
    state = finished(fleet(traffic([0.0] * 8, prompt=100, output=300), of=server(kv_cache_tokens=1600)))
    assert state.slots.counters[0, PREEMPTIONS] > 0
    assert np.all(state.requests.life == FINISHED)
    assert state.slots.blocks_free[0] == 100


def test_a_prompt_waits_until_all_of_it_finds_room_not_its_first_chunk() -> None:
    """Four prompts of 8 chunks each fit; a fifth one would be preempted and restarted until one of them ends."""
    load = traffic([0.0] * 8, prompt=800, output=100)
    small = replace(server(kv_cache_tokens=4 * 912), token_budget=100)
    state = finished(fleet(load, of=small))
    assert state.slots.counters[0, PREEMPTIONS] == 0
    assert np.all(state.requests.life == FINISHED)


@pytest.mark.parametrize("random_router", [False, True])
def test_a_fleet_that_outgrows_its_slots_runs_as_if_it_had_had_them_from_the_start(random_router: bool) -> None:
    """Five replicas, two seconds apart; from the third on, requests are in flight when the slots are doubled."""

    def grown(slots: int) -> Requests:
        made = Fleet(
            [poisson(30.0, 20.0)], [server()], ttft_edges=[0.5], gap_edges=[0.05], slots=slots,
            random_router=random_router, seed=3,
        )  # fmt: skip
        for second in range(5):
            made.advance(2.0 * second)
            assert made.open(deployment=0, tier=0) == second
        return finished(made).requests

    few, many = grown(2), grown(8)
    np.testing.assert_array_equal(few.finish_s, many.finish_s)
    np.testing.assert_array_equal(few.first_s, many.first_s)


def test_a_request_that_never_fits_is_refused() -> None:
    state = finished(fleet(traffic([0.0, 1.0], prompt=[100, 3000], output=10), of=server(kv_cache_tokens=1600)))
    assert list(state.requests.life) == [FINISHED, DROPPED]


def test_a_request_beyond_the_longest_context_is_refused() -> None:
    short = replace(server(), context_max=110.0)
    state = finished(fleet(traffic([0.0, 1.0], prompt=[100, 101], output=10), of=short))
    assert list(state.requests.life) == [FINISHED, DROPPED]


def test_a_cached_prefix_is_not_computed_again() -> None:
    trace = traffic([0.0], prompt=1000, output=1)
    trace.hit_tokens[:] = 800
    assert finished(fleet(trace)).requests.first_s[0] == pytest.approx(max(0.010, 0.005 + 2e-5 * 200))


@pytest.mark.parametrize(("batch", "prompt", "output"), [(1, 200, 400), (16, 500, 300), (48, 1000, 250)])
def test_served_inter_token_latency_is_the_four_term_law(batch: int, prompt: int, output: int) -> None:
    """Requests arrive at even times, so that prompts mix with decodes as in service; N is what that leads to."""
    law, count = server().law, batch * 30
    workload = Workload(prompt_tokens=prompt, output_tokens=output)
    gap = law.itl_s(batch, workload) * output / batch
    made = fleet(traffic((np.arange(count) * gap).tolist(), prompt, output), of=server(kv_cache_tokens=1e6))
    requests = finished(made).requests
    settled = slice(count // 3, 2 * count // 3)
    itl = (requests.finish_s - requests.first_s)[settled].mean() / (output - 1)
    running = itl * output / gap
    assert running > 0.9 * batch
    assert itl == pytest.approx(law.itl_s(running, workload), rel=0.04)


def test_jumping_over_decode_steps_gives_the_same_times_as_stepping() -> None:
    trace = poisson(3.0, 20.0)
    stepped = by_single_steps(fleet(trace)).requests
    jumped = finished(fleet(trace)).requests
    np.testing.assert_allclose(jumped.finish_s, stepped.finish_s, rtol=1e-9)
    np.testing.assert_allclose(jumped.first_s, stepped.first_s, rtol=1e-9)


def by_single_steps(made: Fleet) -> State:
    """The same replica advanced without its closed-form jumps."""
    state, slots = made.state, made.state.slots
    for row, at in enumerate(state.requests.arrival_s):
        while slots.clock_s[0] < at and slots.running_count[0] + slots.waiting_count[0] > 0:
            replica.step(state, 0)
        route.enqueue(made.state, row, 0, float(at))
    while slots.running_count[0] + slots.waiting_count[0] > 0:
        replica.step(state, 0)
    return state


def test_without_a_ready_replica_requests_wait_at_the_gateway() -> None:
    made = fleet(traffic([1.0, 2.0, 3.0]), replicas=0)
    made.advance(10.0)
    assert made.tally()["at_gateway"] == 3
    made.open(deployment=0, tier=0)
    state = finished(made)
    assert np.all(state.requests.life == FINISHED)
    assert np.all(state.requests.first_s > 10.0)


def test_a_draining_replica_gets_nothing_new_and_finishes_what_it_has() -> None:
    made = fleet(traffic([0.0, 0.1, 5.0, 5.1], output=50), replicas=2)
    made.advance(1.0)
    made.drain(0)
    state = finished(made)
    assert np.all(state.requests.life == FINISHED)
    assert state.slots.counters[0, 0] + state.slots.counters[1, 0] == 4
    assert state.slots.counters[0, 0] <= 1


def test_requests_of_a_replica_that_dies_are_lost() -> None:
    made = fleet(traffic([0.0, 0.0], output=500), replicas=1, of=server(running_max=1))
    made.advance(1.0)
    made.close(0)
    made.open(deployment=0, tier=0)
    assert list(finished(made).requests.life) == [DROPPED, DROPPED]


def test_least_outstanding_keeps_replicas_level_where_random_does_not() -> None:
    trace = poisson(20.0, 60.0)
    spread = []
    for random_router in (False, True):
        made = fleet(trace, replicas=4, random_router=random_router)
        made.advance(50.0)
        spread.append(np.ptp([made.load(s) for s in range(4)]))
    assert spread[0] <= spread[1]


@pytest.mark.parametrize("random_router", [False, True])
def test_the_same_seed_gives_the_same_run_to_the_last_bit(random_router: bool) -> None:
    runs = [finished(fleet(poisson(10.0, 60.0), replicas=3, random_router=random_router)) for _ in range(2)]
    assert runs[0].requests.finish_s.tobytes() == runs[1].requests.finish_s.tobytes()


def test_advancing_in_small_steps_gives_the_same_result() -> None:
    trace = poisson(8.0, 40.0)
    whole, pieces = fleet(trace, replicas=2), fleet(trace, replicas=2)
    for now in np.arange(0.0, 60.0, 0.7):
        pieces.advance(float(now))
    np.testing.assert_allclose(finished(whole).requests.finish_s, finished(pieces).requests.finish_s, rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), rps=st.floats(0.5, 40.0), replicas=st.integers(1, 4),
    kv=st.integers(4_000, 60_000), batch=st.integers(1, 64), at=st.floats(0.1, 30.0),
)  # fmt: skip
def test_nothing_is_ever_lost_and_littles_law_holds(
    seed: int, rps: float, replicas: int, kv: int, batch: int, at: float
) -> None:
    law = PerformanceLaw(a_s=0.01, b_s=1e-4, c_s=1e-7, p0_s=0.005, p1_s=2e-5, kv_cache_tokens=kv, running_max=batch)
    made = fleet(poisson(rps, 20.0, seed=seed), replicas=replicas, of=Server(law=law))
    made.advance(at)
    made.check()
    state = finished(made)
    slots = state.slots
    assert np.all(np.isin(state.requests.life, (FINISHED, DROPPED)))
    assert np.all(slots.blocks_free[:replicas] == kv // 16)
    done = state.requests.life == FINISHED
    assert np.all(state.requests.first_s[done] > state.requests.arrival_s[done])
    assert np.all(state.requests.finish_s[done] >= state.requests.first_s[done])


def test_a_step_table_is_read_between_its_nodes() -> None:
    table = StepTable(
        linear_tokens=(1.0, 1001.0), linear_s=(0.010, 0.030), decode_batch=(1.0, 3.0), decode_context=(0.0, 1000.0),
        decode_s=((0.0, 0.002), (0.0, 0.006)), attention_s=1e-9,
    )  # fmt: skip
    law = PerformanceLaw(a_s=0, b_s=0, c_s=0, p0_s=0, p1_s=0, kv_cache_tokens=1e5, running_max=8)
    requests = finished(
        fleet(traffic([0.0], prompt=501, output=2), of=Server(law=law, table=table, overhead_s=0))
    ).requests
    prefill = 0.020 + 1e-9 * 501 * 250.5
    assert requests.first_s[0] == pytest.approx(prefill)
    assert requests.finish_s[0] == pytest.approx(prefill + 0.010 + 0.002 * 502 / 1000)
