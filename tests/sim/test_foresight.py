"""What the clairvoyant is told of the future, by hand, and how its search and its steps use that."""

from collections.abc import Mapping
from dataclasses import replace
from math import inf, log

import numpy as np
import pytest

from tests.sim.builders import KEY, scenario, tier, traffic
from tidegate.domain.key import Key
from tidegate.domain.observation import DeploymentObservation, FleetObservation, TierState
from tidegate.domain.spec import Accelerator, Cost, FleetPolicy, Schedule
from tidegate.sim import hindsight
from tidegate.sim.hindsight import Search, problem, problems, scarce
from tidegate.sim.limits import in_force
from tidegate.sim.policies.base import Policy, View
from tidegate.sim.policies.bounds import Known
from tidegate.sim.policies.clairvoyant import Clairvoyant, Solution
from tidegate.sim.scenario import Fault, Scenario, Startup, Trouble
from tidegate.sim.schedule import Axis, Problem
from tidegate.sim.score import Part, Result, Score
from tidegate.sim.traces import Trace

TWO = (tier("bf16", width=2), tier("int4", quality=0.9))
# With the second until the pod exists, a minute.
MINUTE = Startup(median_s=59.0, spread=0.0)


def steady(rps: float, duration_s: float = 180.0, *, output: int = 100) -> Trace:
    return traffic(np.arange(0, duration_s, 1 / rps).tolist(), output=output)


def told(of: Scenario, *, knee_rps: float = 5.0) -> dict[Key, Known]:
    """Every tier's replica carries as much, and cannot exceed a fifth more."""
    service, names = of.services[0], [t.name for t in of.services[0].spec.tiers]
    return {
        KEY: Known(
            service=service,
            knees_rps=dict.fromkeys(names, knee_rps),
            fluids_rps=dict.fromkeys(names, 1.2 * knee_rps),
            prices_usd={t.name: 2.0 * t.accelerators_per_replica for t in service.spec.tiers},
            limits=[in_force(service.spec, of.start_s + s) for s in np.arange(0.0, of.duration_s, of.tick_s)],
        )
    }


def posed(of: Scenario, *, tiers_max: int = 99, window_s: float = 30.0, knee_rps: float = 5.0) -> Problem:
    return problem(of, told(of, knee_rps=knee_rps), tiers_max=tiers_max, window_s=window_s)


def fault(trouble: Trouble, start_s: float, end_s: float, amount: float = 0.0, target: str = "chat/bf16") -> Fault:
    return Fault(trouble=trouble, start_s=start_s, end_s=end_s, target=target, amount=amount)


@pytest.mark.parametrize(
    ("startup", "faults", "expected"),
    [
        pytest.param(MINUTE, (), [30, 60, 90, 120], id="a minute ahead"),
        pytest.param(Startup(median_s=59.0, spread=log(1.5)), (), [-inf, 30, 60, 90], id="89.5 s with their spread"),
        pytest.param(MINUTE, (fault(Trouble.SLOW_START, 0, 400, 1.5),), [-inf, 30, 60, 90], id="half as long again"),
        # Created at 15 s it is ready at 75 s, at 30 s at 90 s, at 45 to 90 s at 160 s, at 120 s at 180 s.
        pytest.param(MINUTE, (fault(Trouble.STUCK_TIER, 45, 100),), [30, 30, 30, 120], id="before a fault"),
    ],
)
def test_a_replica_is_created_as_late_as_its_start_up_allows(
    startup: Startup, faults: tuple[Fault, ...], expected: list[float]
) -> None:
    """Windows begin at 0, 30 and 60 s, for which it is too late, and at 90, 120, 150 and 180 s."""
    of = posed(scenario(steady(1.0), duration_s=210.0, startup=startup, faults=faults))
    assert of.axes[0].created_s.tolist() == [-inf, -inf, -inf, *expected]


def test_a_node_that_must_be_got_first_takes_its_time_too() -> None:
    """Three minutes for the node and one to start."""
    of = posed(scenario(steady(1.0), duration_s=300.0, startup=MINUTE, warm=1))
    assert of.axes[0].created_s.tolist() == [-inf] * 9 + [30.0]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(100, [1.0, 2.0, 0.0, 3.0, 3.0], id="five seconds: each window as it is"),
        pytest.param(
            1200, [4 / 3, 1.0, 0.0, 2.0, 3.0], id="a minute: with its neighbours, and nothing where nobody comes"
        ),
    ],
)
def test_demand_is_taken_over_the_time_that_requests_stay(output: int, expected: list[float]) -> None:
    """30, 60, 0 and 90 requests in half a minute each, then 45 in the 15 s that are left of the run."""
    arrival = [a + s for s, n in ((0, 30), (30, 60), (90, 90)) for a in np.arange(n) * 30 / n]
    last = (120 + np.arange(45) / 3).tolist()
    of = posed(scenario(traffic([*arrival, *last], output=output), duration_s=135.0))
    assert of.demand_rps[KEY] == pytest.approx(expected)


def test_prices_and_accelerators_are_those_of_each_window() -> None:
    """5 $/h from 30 to 60 s; six accelerators are missing from 70 to 100 s."""
    faults = (
        fault(Trouble.PRICE_CHANGE, 30, 60, 5.0, "gpu"),
        fault(Trouble.LOST_NODES, 70, 100, 6.0, "gpu"),
    )
    of = posed(scenario(steady(1.0), duration_s=150.0, faults=faults, tiers=(tier(width=2),)))
    assert of.axes[0].usd_per_hour.tolist() == [4.0, 10.0, 4.0, 4.0, 4.0]
    assert of.capacity["gpu"].tolist() == [16.0, 16.0, 10.0, 10.0, 16.0]


def test_bounds_hold_in_a_window_that_they_begin_or_end_in() -> None:
    """Three replicas from the second to the third minute, in windows of 90 s."""
    rush = Schedule(name="rush", cron="2 * * * *", time_zone="UTC", duration_s=60.0, replicas_min=3)
    base = scenario(steady(1.0), duration_s=360.0)
    service = base.services[0]
    of = replace(base, services=(replace(service, spec=replace(service.spec, schedules=(rush,))),))
    assert [limits.low for limits in posed(of, window_s=90.0).limits[KEY]] == [1, 3, 1, 1]
    assert [limits.low for limits in posed(of, window_s=30.0).limits[KEY]] == [1] * 4 + [3, 3] + [1] * 6


@pytest.mark.parametrize(
    ("capacity", "width", "low", "initial", "most"),
    [
        pytest.param(None, 1, 1, 1, 4, id="1.25 times 12 requests/s on 5 requests/s each, and one"),
        pytest.param(7, 2, 1, 1, 3, id="what the accelerators carry"),
        pytest.param(16, 1, 6, 1, 6, id="what is asked for at least"),
        pytest.param(16, 1, 1, 7, 7, id="what the run begins with"),
    ],
)
def test_the_largest_fleet_carries_the_peak_with_room(
    capacity: int | None, width: int, low: int, initial: int, most: int
) -> None:
    base = scenario(steady(12.0), capacity=capacity, tiers=(tier(width=width),), initial={"bf16": initial})
    service = base.services[0]
    of = posed(replace(base, services=(replace(service, spec=replace(service.spec, replicas_min=low)),)))
    assert of.axes[0].most == most


def test_the_cheapest_tiers_are_considered_and_those_that_run_or_must_run() -> None:
    """int4 costs half of bf16; fp8 must run, and old runs at the start."""
    tiers = (*TWO, replace(tier("fp8", width=4), replicas_min=1), tier("old", width=4), tier("more", width=4))
    of = scenario(steady(1.0), tiers=tiers, initial={"old": 1})
    assert [a.name for a in posed(of, tiers_max=1).axes] == ["int4", "fp8", "old"]


def test_a_tier_has_its_capacity_and_is_paid_until_its_requests_are_done() -> None:
    """Answers of 100 tokens take 5 s, those of 3,000 would take 150 s, but a pod is killed after 120 s."""
    short, long = (posed(scenario(steady(1.0, output=n))).axes[0] for n in (100, 3000))
    assert (short.knee_rps, short.fluid_rps) == (5.0, 6.0)
    assert (short.stay_s, long.stay_s) == (5.0, 120.0)


def test_where_no_tier_meets_a_target_the_first_one_serves_what_it_can() -> None:
    of = posed(scenario(steady(1.0), tiers=TWO, initial={"bf16": 1}), knee_rps=0.0)
    assert [(a.name, a.knee_rps, a.fluid_rps, a.most) for a in of.axes] == [("bf16", 0.0, 0.0, 1)]


@pytest.mark.parametrize(
    ("capacity", "short"), [(8, False), (7, True), (None, False)], ids=["enough", "one too few", "without a limit"]
)
def test_accelerators_are_scarce_if_all_largest_fleets_together_need_more(capacity: int | None, short: bool) -> None:
    """Twice up to two replicas of two accelerators."""
    of = posed(scenario(steady(1.0), tiers=(tier(width=2),), capacity=capacity))
    assert of.axes[0].most == 2
    assert scarce([of, of]) is short


def test_deployments_that_share_are_planned_in_windows_as_long_as_the_slowest_start_up() -> None:
    """The pods of one are ready after 60 s, those of the other after 100 s, of which 90 s are too short."""
    base = scenario(steady(9.0), capacity=5, startup=MINUTE)
    one, slow = base.services[0], Startup(median_s=99.0, spread=0.0)
    truths = {"bf16": replace(one.truths["bf16"], startup=slow)}
    two = replace(one, spec=replace(one.spec, key=Key("test", "batch")), truths=truths)
    known = told(base)[KEY]
    both = {KEY: known, two.spec.key: replace(known, service=two)}
    assert [c.window_s for c in problems(base, both)] == [120.0]
    assert [c.window_s for c in problems(base, {KEY: known})] == [30.0]


@pytest.mark.parametrize(
    ("most", "names"), [(540, ["a", "b", "c"]), (539, ["a", "b"]), (179, ["a"])], ids=["all", "two", "one"]
)
def test_only_the_cheapest_tiers_are_considered_where_all_would_be_too_many_fleets(
    monkeypatch: pytest.MonkeyPatch, most: int, names: list[str]
) -> None:
    """Up to two replicas of each tier in 20 windows: 540 for three tiers, 180 for two."""
    monkeypatch.setattr(hindsight, "STATES_MAX", most)
    of = scenario(steady(1.0), tiers=(tier("c", width=3), tier("b", width=2), tier("a")), initial={"a": 1})
    assert sorted(a.name for a in problems(of, told(of))[0].axes) == names


class Fleets:
    """A run that keeps its promises with enough replicas on average, and costs as much as it has."""

    def __init__(self, of: Scenario, enough: float) -> None:
        self.of, self.enough = of, enough

    def run(self, policy: Policy) -> Result:
        windows = range(1, int(self.of.duration_s / 30.0))
        mean = float(np.mean([sum(policy.decide(seen(self.of, 30.0 * w)).replicas.values()) for w in windows]))
        part = Part(
            requests=100, attainment=0.99 if mean >= self.enough else 0.5, target=0.99, quality=1.0, quality_target=0.0,
            dropped=0, ttft_s_p50=None, ttft_s_p95=None, ttft_s_p99=None, itl_s_p50=None, itl_s_p95=None,
            good_tokens=1.0, usd=mean,
        )  # fmt: skip
        score = Score(
            scenario="test", policy=policy.name, attainment=part.attainment, usd=mean, usd_per_million_good_tokens=mean,
            gpu_hours=mean, joules_per_good_token=None, quality=1.0, actions=0, replicas_mean=mean,
            parts={str(KEY): part},
        )  # fmt: skip
        return Result(score=score, run=None)


def seen(of: Scenario, time_s: float, *, capacity: int | None = 16) -> View:
    spec = of.services[0].spec
    states = {t.name: TierState(ready=of.services[0].initial.get(t.name, 0)) for t in spec.tiers}
    gpu = Accelerator(name="gpu", price_usd_per_hour=2.0, capacity=capacity)
    return View(
        time_s=time_s,
        observation=FleetObservation(
            time_s=of.start_s + time_s, deployments={KEY: DeploymentObservation(tiers=states, gateway=None)}
        ),
        policy=FleetPolicy(deployments={KEY: spec}, accelerators={"gpu": gpu}),
        wanted={(KEY, t.name): of.services[0].initial.get(t.name, 0) for t in spec.tiers},
        gauges=lambda _: [],
    )


@pytest.mark.parametrize(("demand_rps", "enough"), [(12.0, 2.0), (12.0, 3.0), (14.9, 4.0)])
def test_the_search_finds_what_is_just_enough_also_where_the_law_is_wrong(demand_rps: float, enough: float) -> None:
    """By the law it takes three replicas of 5 requests/s; in truth two may be enough, or four necessary."""
    of = scenario(
        steady(demand_rps, 600.0), duration_s=600.0, initial={"bf16": 2}, startup=Startup(median_s=5.0, spread=0.0)
    )
    assert Search(of, told(of), Fleets(of, enough).run).best().score.usd == pytest.approx(enough)


def test_a_peak_that_the_promise_can_do_without_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """For half a minute one replica of 5 requests/s gets 5.5: a second costs more than the least that lateness does."""
    monkeypatch.setattr(hindsight, "TRIES", hindsight.TRIES[:1])
    arrival = [*np.arange(0, 300, 0.5), *np.arange(300, 330, 1 / 5.5), *np.arange(330, 600, 0.5)]
    of = scenario(traffic(arrival), duration_s=600.0, startup=Startup(median_s=5.0, spread=0.0))
    assert Search(of, told(of), Fleets(of, 1.0).run).best().score.usd == 1.0
    assert Search(of, told(of), Fleets(of, 1.01).run).best().score.usd > 1.01


def planned(of: Scenario, replicas: list[list[int]], created_s: Mapping[str, list[float]]) -> Clairvoyant:
    """A clairvoyant with a schedule by hand, in windows of 60 s."""
    windows = len(replicas)
    axes = [
        Axis(
            key=KEY, name=name, fluid_rps=6.0, knee_rps=5.0, quality=1.0, most=9, initial=1, accelerator="gpu",
            accelerators=of.services[0].spec.tier(name).accelerators_per_replica,
            usd_per_hour=np.full(windows, 2.0), created_s=np.array(times), stay_s=5.0,
        )
        for name, times in created_s.items()
    ]  # fmt: skip
    of_it = Problem(
        specs={KEY: of.services[0].spec}, axes=axes, demand_rps={KEY: np.ones(windows)}, limits={KEY: []},
        window_s=60.0, capacity={},
    )  # fmt: skip
    return Clairvoyant([Solution(problem=of_it, replicas=np.array(replicas))])


@pytest.mark.parametrize(
    ("time_s", "replicas"),
    [
        pytest.param(15.0, 1, id="what serves now"),
        pytest.param(45.0, 2, id="and what serves later, from its tick on"),
        pytest.param(75.0, 2, id="which is kept"),
        pytest.param(90.0, 4, id="the most that any later window needs"),
        pytest.param(135.0, 4, id="then it serves"),
        pytest.param(180.0, 2, id="and leaves when its window is over"),
        pytest.param(600.0, 2, id="the last window goes on"),
    ],
)
def test_pods_of_later_windows_are_created_when_their_time_has_come(time_s: float, replicas: int) -> None:
    of = scenario(steady(1.0))
    policy = planned(of, [[1], [2], [4], [2]], {"bf16": [-inf, 45.0, 90.0, 150.0]})
    assert policy.decide(seen(of, time_s)).replicas == {(KEY, "bf16"): replicas}


@pytest.mark.parametrize(
    ("changes", "capacity", "int4"),
    [
        pytest.param({}, 5, 1, id="on as many accelerators as there are"),
        pytest.param({}, 4, 0, id="not on one more"),
        pytest.param({"cost": Cost(budget_usd_per_hour=10.0)}, None, 1, id="for all of the budget"),
        pytest.param({"cost": Cost(budget_usd_per_hour=9.9)}, None, 0, id="not for more"),
        pytest.param({"replicas_max": 3}, None, 1, id="up to the bound"),
        pytest.param({"replicas_max": 2}, None, 0, id="not beyond it"),
    ],
)
def test_a_pod_of_a_later_window_waits_for_room(changes: dict[str, object], capacity: int | None, int4: int) -> None:
    """Two replicas of two accelerators serve until int4 takes over, which needs one more, at 2 $/h, before."""
    base = scenario(steady(1.0), tiers=TWO, initial={"bf16": 2})
    service = base.services[0]
    of = replace(base, services=(replace(service, spec=replace(service.spec, **changes)),))  # type: ignore[arg-type]
    policy = planned(of, [[2, 0], [0, 1]], {"bf16": [-inf, 0.0], "int4": [-inf, 0.0]})
    assert policy.decide(seen(of, 30.0, capacity=capacity)).replicas == {(KEY, "bf16"): 2, (KEY, "int4"): int4}
