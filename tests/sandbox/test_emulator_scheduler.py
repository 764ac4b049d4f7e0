"""The emulated engine's scheduler: budget, order, blocks, preemption, and the law that results from its steps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.domain.law import PerformanceLaw, Workload
from tidegate.sandbox.emulator.blocks import BlockPool
from tidegate.sandbox.emulator.prompts import block_contents
from tidegate.sandbox.emulator.scheduler import Limits, Request, Scheduler, Step
from tidegate.sandbox.emulator.steps import StepLoad, step_s

LAW = PerformanceLaw(
    a_s=0.015, b_s=0.00004, c_s=8e-8, p0_s=0.009, p1_s=6.5e-5, kv_cache_tokens=150_000, running_max=256
)


def scheduler(*, blocks: int = 1000, caching: bool = False, **limits: int) -> Scheduler:
    return Scheduler(limits=Limits(**limits), pool=BlockPool(blocks=blocks, caching=caching))


def request(prompt: int, output: int = 4, contents: list[int] | None = None) -> Request:
    return Request(prompt_tokens=prompt, output_tokens=output, contents=contents or [], arrived_s=0.0)


def run(schedule: Scheduler, limit: int = 10_000) -> list[Step]:
    steps = []
    while schedule.running or schedule.waiting:
        step = schedule.schedule(0.0)
        steps.append(step)
        schedule.complete(step)
        assert len(steps) < limit, "the scheduler does not come to an end"
    return steps


def test_a_prompt_longer_than_the_budget_is_computed_in_chunks() -> None:
    schedule = scheduler(batched_tokens=1000)
    schedule.add(request(2500, output=1))
    assert [step.load.prefill_tokens for step in run(schedule)] == [1000, 1000, 500]


def test_running_requests_decode_before_a_prompt_gets_the_rest_of_the_budget() -> None:
    schedule = scheduler(batched_tokens=100)
    schedule.add(request(10, output=5))
    schedule.complete(schedule.schedule(0.0))
    schedule.add(request(500))
    step = schedule.schedule(0.0)
    assert (step.load.decodes, step.load.prefill_tokens) == (1, 99)


def test_requests_are_admitted_in_the_order_they_came() -> None:
    schedule = scheduler(seqs=2)
    first, second, third = request(10), request(10), request(10)
    for one in (first, second, third):
        schedule.add(one)
    schedule.schedule(0.0)
    assert (schedule.running, list(schedule.waiting)) == ([first, second], [third])


def test_without_room_the_last_one_in_starts_over_with_its_answer_as_prompt() -> None:
    schedule = scheduler(blocks=1 + 4)  # 64 tokens
    early, late = request(30, output=20), request(30, output=20)
    schedule.add(early)
    schedule.add(late)
    preempted = 0
    while not preempted:
        step = schedule.schedule(0.0)
        preempted = step.preempted
        schedule.complete(step)
    assert (schedule.running, list(schedule.waiting)) == ([early], [late])
    assert late.emitted > 0
    assert (late.computed, late.target) == (0, 30 + late.emitted)
    run(schedule)
    assert early.done
    assert late.done
    assert late.preemptions >= 1


def test_a_prompt_waits_until_all_of_it_finds_room_not_its_first_chunk() -> None:
    schedule = scheduler(blocks=101, batched_tokens=160)
    for _ in range(3):
        schedule.add(request(prompt=700, output=80))
    steps = run(schedule)
    assert not any(step.preempted for step in steps)
    assert not schedule.waiting
    assert not schedule.running


def test_a_step_that_preempted_admits_nobody() -> None:
    schedule = scheduler(blocks=1 + 4)
    for one in (request(30, output=20), request(30, output=20), request(1, output=1)):
        schedule.add(one)
    step = schedule.schedule(0.0)
    while not step.preempted:
        schedule.complete(step)
        step = schedule.schedule(0.0)
    assert len(step.chunks) == 1


def test_a_cached_prompt_is_computed_from_its_last_full_block_on() -> None:
    tokens = list(range(100))
    contents = block_contents(tokens, 16)
    schedule = scheduler(caching=True)
    schedule.add(request(100, contents=contents))
    run(schedule)
    again = request(100, contents=contents)
    schedule.add(again)
    assert schedule.schedule(0.0).load.prefill_tokens == 100 - 96
    assert again.cached == 96


def test_a_fully_cached_prompt_still_computes_its_last_block() -> None:
    contents = block_contents(list(range(96)), 16)
    schedule = scheduler(caching=True)
    schedule.add(request(96, contents=contents))
    run(schedule)
    schedule.add(request(96, contents=contents))
    assert schedule.schedule(0.0).load.prefill_tokens == 16


def test_a_request_whose_client_left_frees_its_blocks_and_gets_no_token() -> None:
    schedule = scheduler()
    gone = request(100)
    schedule.add(gone)
    step = schedule.schedule(0.0)
    schedule.remove(gone)
    assert schedule.complete(step) == []
    assert schedule.pool.usage == 0.0


@settings(max_examples=60, deadline=None)
@given(
    blocks=st.integers(8, 60),
    budget=st.integers(16, 300),
    seqs=st.integers(1, 12),
    caching=st.booleans(),
    lengths=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 40)), min_size=1, max_size=25),
)
def test_everything_ends_and_every_block_comes_back(
    blocks: int, budget: int, seqs: int, caching: bool, lengths: list[tuple[int, int]]
) -> None:
    schedule = scheduler(blocks=blocks, caching=caching, batched_tokens=budget, seqs=seqs)
    requests = [
        request(prompt, min(output, 111 - prompt), block_contents(list(range(prompt)), 16))
        for prompt, output in lengths
    ]
    for one in requests:
        schedule.add(one)
    for step in run(schedule):
        assert step.tokens <= budget
        assert len(step.chunks) <= seqs
    assert all(one.emitted == one.output_tokens for one in requests)
    assert schedule.pool.usage == 0.0


@pytest.mark.parametrize("running", [4, 16, 48], ids=lambda n: f"{n} requests run all the time")
def test_the_law_emerges_from_the_steps(running: int) -> None:
    isl, osl = 1000, 100
    schedule = scheduler(blocks=100_000, seqs=running)
    # Answers started out of phase: a closed loop that is already mixed.
    for index in range(running):
        schedule.add(request(isl, output=max(2, osl * (index + 1) // running)))
    clock, gaps, last = 0.0, [], {}
    for _ in range(1500):
        step = schedule.schedule(clock)
        clock += step_s(LAW, step.load)
        for one in schedule.complete(step):
            if one in last:
                gaps.append(clock - last[one])
            last[one] = clock
            if one.done:
                schedule.add(request(isl, output=osl))
    # A request does not wait for its own prompt: in a closed loop each token meets the prompts of N - 1 others.
    expected = LAW.itl_s(running, Workload(prompt_tokens=isl, output_tokens=osl)) - LAW.p1_s * isl / osl
    assert sum(gaps) / len(gaps) == pytest.approx(expected, rel=0.02)


def test_a_prompt_alone_costs_what_the_law_says() -> None:
    alone = step_s(LAW, StepLoad(decodes=0, context_tokens=0, prefill_tokens=1000))
    assert alone == pytest.approx(LAW.prefill_s(Workload(prompt_tokens=1000, output_tokens=1)))


def test_no_pass_is_faster_than_reading_the_weights() -> None:
    assert step_s(LAW, StepLoad(decodes=0, context_tokens=0, prefill_tokens=1)) == LAW.a_s
