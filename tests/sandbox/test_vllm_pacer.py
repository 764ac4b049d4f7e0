"""The pacer without vLLM: it reads scheduler outputs in vLLM's form, and its steps take as long as the emulator's."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.law import PerformanceLaw
from tidegate.sandbox.emulator.blocks import BlockPool
from tidegate.sandbox.emulator.lag import CATCH_UP_S
from tidegate.sandbox.emulator.scheduler import Limits, Request, Scheduler, Step
from tidegate.sandbox.emulator.steps import StepLoad, step_s
from tidegate.sandbox.vllm.pacer import Pace

LAW = PerformanceLaw(a_s=0.02, b_s=1e-3, c_s=1e-6, p0_s=0.01, p1_s=1e-4, kv_cache_tokens=64000, running_max=64)


@dataclass
class New:
    req_id: str
    prompt_token_ids: Sequence[int]
    num_computed_tokens: int = 0


@dataclass
class Known:
    req_ids: list[str] = field(default_factory=list)
    num_computed_tokens: list[int] = field(default_factory=list)
    num_output_tokens: list[int] = field(default_factory=list)


@dataclass
class Planned:
    scheduled_new_reqs: list[New] = field(default_factory=list)
    scheduled_cached_reqs: Known = field(default_factory=Known)
    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)
    finished_req_ids: frozenset[str] = frozenset()


class Clock:
    """A clock that only sleeping and `pass_s` move."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


def prompt(name: str, tokens: int, *, finished: Sequence[str] = ()) -> Planned:
    return Planned([New(name, range(tokens))], Known(), {name: tokens}, frozenset(finished))


def decode(name: str, *, computed: int, out: int, finished: Sequence[str] = ()) -> Planned:
    return Planned([], Known([name], [computed], [out]), {name: 1}, frozenset(finished))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    return Pace(LAW, clock=clock, sleep=clock.pass_s)


def took_s(pace: Pace, clock: Clock, plan: Planned, *, work_s: float = 0.0) -> float:
    """Seconds from the begin of a step to its end, when the engine's own work takes `work_s` of them."""
    begun_s = clock()
    pace.begin(plan)
    clock.pass_s(work_s)
    pace.end()
    return clock() - begun_s


def test_a_prompt_takes_the_laws_time(pace: Pace, clock: Clock) -> None:
    assert took_s(pace, clock, prompt("a", 300)) == pytest.approx(0.01 + 300e-4)


def test_a_decode_takes_the_laws_time_for_its_context(pace: Pace, clock: Clock) -> None:
    took_s(pace, clock, prompt("a", 300))
    assert took_s(pace, clock, decode("a", computed=300, out=1)) == pytest.approx(0.02 + 1e-3 + 300e-6)


def test_a_request_that_starts_over_is_a_prompt_again(pace: Pace, clock: Clock) -> None:
    took_s(pace, clock, prompt("a", 300))
    again = Planned([], Known(["a"], [0], [5]), {"a": 305})
    assert took_s(pace, clock, again) == pytest.approx(0.01 + 305e-4)


def test_the_work_of_the_engine_is_part_of_the_step(pace: Pace, clock: Clock) -> None:
    assert took_s(pace, clock, prompt("a", 300), work_s=0.015) == pytest.approx(0.01 + 300e-4)
    assert pace.kept["steps_late"] == 0


def test_time_lost_between_two_steps_of_a_busy_engine_is_made_up(pace: Pace, clock: Clock) -> None:
    took_s(pace, clock, prompt("a", 300))
    clock.pass_s(0.004)
    assert took_s(pace, clock, decode("a", computed=300, out=1)) == pytest.approx(0.0213 - 0.004)


def test_idle_time_gives_no_head_start(pace: Pace, clock: Clock) -> None:
    took_s(pace, clock, prompt("a", 300))
    clock.pass_s(3.0)
    assert took_s(pace, clock, prompt("b", 300, finished=["a"])) == pytest.approx(0.04)


def test_only_a_short_lag_is_made_up(pace: Pace, clock: Clock) -> None:
    took_s(pace, clock, prompt("a", 300))
    clock.pass_s(3.0)
    assert took_s(pace, clock, prompt("b", 3000)) == pytest.approx(0.31 - CATCH_UP_S)


def test_a_step_that_the_machine_was_too_slow_for_is_counted(pace: Pace, clock: Clock) -> None:
    assert took_s(pace, clock, prompt("a", 300), work_s=0.1) == pytest.approx(0.1)
    assert pace.kept["steps"] == pace.kept["steps_late"] == 1
    assert pace.kept["lag_worst_s"] == pytest.approx(0.06)


def test_a_plan_without_tokens_takes_no_time(pace: Pace, clock: Clock) -> None:
    assert took_s(pace, clock, Planned()) == 0.0
    assert pace.kept["steps"] == 0


def test_the_lag_is_written_to_the_file(clock: Clock, tmp_path: Path) -> None:
    told = tmp_path / "lag"
    took_s(Pace(LAW, clock=clock, sleep=clock.pass_s, told=told), clock, prompt("a", 300))
    kept = json.loads(told.read_text())
    assert kept == {
        "steps": 1,
        "steps_late": 0,
        "lag_total_s": 0,
        "lag_worst_s": 0,
        "busy_s": pytest.approx(0.04),
        "running": 1,
    }


class Told:
    """Plans of vLLM's shape from our scheduler's steps."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._gone: set[str] = set()

    def plan(self, step: Step) -> Planned:
        plan = Planned(finished_req_ids=frozenset(self._gone))
        self._gone.clear()
        for request, count in step.chunks:
            if id(request) not in self._names:
                name = self._names[id(request)] = f"r{len(self._names)}"
                plan.scheduled_new_reqs.append(New(name, range(request.prompt_tokens), request.computed))
            else:
                name = self._names[id(request)]
                plan.scheduled_cached_reqs.req_ids.append(name)
                plan.scheduled_cached_reqs.num_computed_tokens.append(request.computed)
                plan.scheduled_cached_reqs.num_output_tokens.append(request.emitted)
            plan.num_scheduled_tokens[name] = count
        return plan

    def completed(self, emitted: Sequence[Request]) -> None:
        self._gone |= {self._names[id(request)] for request in emitted if request.done}


@given(
    lengths=st.lists(st.tuples(st.integers(1, 200), st.integers(1, 40)), min_size=1, max_size=12),
    blocks=st.integers(17, 40),
    budget=st.integers(16, 256),
)
def test_every_step_takes_what_the_emulator_takes_for_it(
    lengths: list[tuple[int, int]], blocks: int, budget: int
) -> None:
    pool = BlockPool(blocks=blocks, caching=True)
    scheduler = Scheduler(limits=Limits(batched_tokens=budget, seqs=6, block_tokens=16), pool=pool)
    requests = [Request(prompt_tokens=p, output_tokens=o, arrived_s=0.0) for p, o in lengths]
    for request in requests:
        scheduler.add(request)
    clock, told = Clock(), Told()
    pace = Pace(LAW, clock=clock, sleep=clock.pass_s)
    busy = 0
    while not all(request.done for request in requests) and busy < 5000:
        step = scheduler.schedule(clock())
        assert took_s(pace, clock, told.plan(step)) == pytest.approx(expected_s(step.load, step), abs=1e-9)
        told.completed(scheduler.complete(step))
        busy += 1
    assert all(request.done for request in requests)


def expected_s(load: StepLoad, step: Step) -> float:
    return step_s(LAW, load) if step.chunks else 0.0
