"""The clairvoyant: what it foresees, which promises it keeps, and that more search never makes it worse."""

from dataclasses import replace

import numpy as np

from tests.sim.builders import KEY, poisson, scenario, tier, traffic
from tidegate.domain.key import Key
from tidegate.domain.spec import Cost, Quality
from tidegate.sim.capacity import knee_rps
from tidegate.sim.compare import compare
from tidegate.sim.hindsight import problems
from tidegate.sim.policies.bounds import know
from tidegate.sim.scenario import Fault, Scenario, Service, Startup, TierTruth, Trouble
from tidegate.sim.score import Result
from tidegate.sim.traces import Trace

TWO = (tier("bf16", width=2), tier("int4", width=1, quality=0.9))


def step(low_rps: float, high_rps: float, *, at_s: float = 600.0, duration_s: float = 1200.0) -> Trace:
    """Evenly spaced requests, few and then many."""
    early = np.arange(0, at_s, 1 / low_rps)
    late = np.arange(at_s, duration_s, 1 / high_rps)
    return traffic(np.concatenate([early, late]).tolist(), prompt=500, output=100)


def changed(of: Scenario, **changes: object) -> Scenario:
    service = of.services[0]
    return replace(of, services=(replace(service, spec=replace(service.spec, **changes)),))  # type: ignore[arg-type]


def clairvoyant(of: Scenario) -> Result:
    return compare(of, ["clairvoyant"])["clairvoyant"]


def narrow(of: Scenario) -> Scenario:
    """The same with replicas that run six requests at a time, about 5 requests/s: a few requests need a fleet."""

    def truth(one: TierTruth) -> TierTruth:
        return replace(one, server=replace(one.server, law=replace(one.server.law, running_max=6)))

    services = tuple(replace(s, truths={n: truth(t) for n, t in s.truths.items()}) for s in of.services)
    return replace(of, services=services)


def test_replicas_are_created_just_in_time_for_a_step() -> None:
    of = narrow(scenario(step(1.0, 13.0), duration_s=1200.0, startup=Startup(median_s=120.0, spread=0.0)))
    found = clairvoyant(of)
    assert found.score.met
    assert found.run is not None
    grown = next(row.time_s for row in found.run.rows if row.wanted[KEY, "bf16"] > 2)
    assert 420.0 <= grown <= 480.0


def test_the_promise_is_kept_on_accelerators_without_a_price() -> None:
    of = narrow(scenario(step(1.0, 13.0), duration_s=1200.0))
    pool = of.pools["gpu"]
    free = replace(pool, accelerator=replace(pool.accelerator, price_usd_per_hour=0.0))
    assert clairvoyant(replace(of, pools={"gpu": free})).score.met


def test_pods_that_would_get_stuck_are_created_before_the_fault() -> None:
    fault = Fault(trouble=Trouble.STUCK_TIER, start_s=400.0, end_s=1100.0, target="chat/bf16")
    slow = Startup(median_s=120.0, spread=0.0)
    of = narrow(scenario(step(1.0, 13.0), duration_s=1200.0, faults=(fault,), startup=slow))
    found = clairvoyant(of)
    assert found.score.met
    assert found.run is not None
    grown = [row.time_s for row in found.run.rows if row.wanted[KEY, "bf16"] > 2]
    assert 300.0 <= grown[0] < 400.0


def test_it_foresees_lost_nodes_and_loses_no_pod() -> None:
    fault = Fault(trouble=Trouble.LOST_NODES, start_s=300.0, end_s=900.0, target="gpu", amount=6)
    of = narrow(
        scenario(step(20.0, 1.0, at_s=270.0), duration_s=1200.0, faults=(fault,), capacity=8, initial={"bf16": 6})
    )
    found = clairvoyant(of)
    assert found.run is not None
    assert found.run.world.failed_pods == 0


def test_a_mean_quality_is_kept_with_a_mix() -> None:
    base = narrow(scenario(poisson(15.0, 900.0), tiers=TWO, duration_s=900.0, initial={"bf16": 4}, capacity=32))
    of = changed(base, quality=Quality(average_minimum=0.95))
    found, whole = clairvoyant(of).score, clairvoyant(changed(of, quality=Quality(minimum=0.95))).score
    assert found.met
    assert found.quality is not None
    assert 0.949 <= found.quality < 0.99
    assert found.usd < whole.usd


def test_a_budget_is_never_exceeded_not_even_during_a_tier_switch() -> None:
    of = changed(
        narrow(scenario(step(3.0, 8.0), tiers=TWO, duration_s=1200.0, initial={"bf16": 2})),
        cost=Cost(budget_usd_per_hour=10.0),
    )
    found = clairvoyant(of)
    assert found.run is not None
    for row in found.run.rows:
        assert 4 * row.wanted[KEY, "bf16"] + 2 * row.wanted[KEY, "int4"] <= 10.0 + 1e-9


def test_nothing_runs_without_traffic_if_zero_is_allowed() -> None:
    busy = poisson(2.0, 600.0).arrival_s
    of = changed(
        scenario(traffic([*busy, *(busy + 1800.0)], prompt=500, output=100), duration_s=2400.0), replicas_min=0
    )
    found = clairvoyant(of)
    assert found.score.met
    assert found.run is not None
    assert any(row.wanted[KEY, "bf16"] == 0 for row in found.run.rows)


def test_the_higher_priority_is_served_when_accelerators_are_short() -> None:
    first = narrow(scenario(poisson(6.0, 1200.0), duration_s=1200.0, capacity=4, initial={"bf16": 2}))
    high = replace(first.services[0], spec=replace(first.services[0].spec, priority=9))
    other = replace(first.services[0].spec, key=Key("test", "batch"), priority=1)
    low = Service(spec=other, traffic=poisson(15.0, 1200.0, seed=2), truths=high.truths, initial={"bf16": 2})
    found = clairvoyant(replace(first, services=(high, low))).score
    assert found.parts[str(KEY)].kept
    assert not found.parts["test/batch"].kept


def test_deployments_that_fit_side_by_side_are_separate_problems() -> None:
    base = scenario(poisson(5.0, 600.0), capacity=64)
    second = replace(base.services[0], spec=replace(base.services[0].spec, key=Key("test", "other")))
    both = replace(base, services=(base.services[0], second))
    known = {s.spec.key: know(both, s) for s in both.services}
    assert len(problems(both, known)) == 2
    pools = {"gpu": replace(both.pools["gpu"], accelerator=replace(both.pools["gpu"].accelerator, capacity=3))}
    assert len(problems(replace(both, pools=pools), known)) == 1


def test_a_tier_that_meets_no_target_is_left_for_the_others() -> None:
    of = scenario(poisson(10.0, 900.0), tiers=TWO, duration_s=900.0, initial={"bf16": 1})
    hopeless = replace(
        of.services[0].truths["bf16"].server, law=replace(of.services[0].truths["bf16"].server.law, a_s=0.2)
    )
    truths = of.services[0].truths | {"bf16": replace(of.services[0].truths["bf16"], server=hopeless)}
    found = clairvoyant(replace(of, services=(replace(of.services[0], truths=truths),)))
    assert found.run is not None
    assert found.run.rows[-1].wanted[KEY, "bf16"] == 0
    assert found.run.rows[-1].wanted[KEY, "int4"] >= 1


def test_knees_hardly_depend_on_the_seed() -> None:
    trace, of = poisson(5.0, 3000.0), scenario(poisson(1.0, 60.0))
    service = of.services[0]
    found = [knee_rps(service.truths["bf16"].server, trace, service.spec.slo, seed=s) for s in range(3)]
    assert max(found) / min(found) < 1.1
    assert found[0] == knee_rps(service.truths["bf16"].server, trace, service.spec.slo, seed=0)
