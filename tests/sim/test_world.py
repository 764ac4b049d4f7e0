"""Pods, accelerators, billing and faults."""

import pytest

from tests.sim.builders import KEY, poisson, scenario, tier, traffic
from tidegate.sim.pods import Life
from tidegate.sim.scenario import Fault, Startup, Trouble
from tidegate.sim.world import ACTUATION_S, World

BF16 = (KEY, "bf16")


def counts(world: World) -> tuple[int, int, int, int]:
    """Numbers of pending, starting, ready and draining pods."""
    return tuple(len(world.of(BF16, life)) for life in (Life.PENDING, Life.STARTING, Life.READY, Life.DRAINING))  # type: ignore[return-value]


def bill(world: World, until_s: float) -> float:
    return sum(world.market.bill_usd(p, start_s=0.0, end_s=until_s) for p in world.pods)


def test_a_new_replica_serves_after_its_start_up_and_is_billed_from_its_first_second() -> None:
    world = World(scenario(poisson(1.0, 100.0)))
    world.want({BF16: 2})
    assert counts(world) == (0, 1, 1, 0)
    world.advance(60.0 + ACTUATION_S - 0.1)
    assert counts(world) == (0, 1, 1, 0)
    world.advance(60.0 + ACTUATION_S + 0.1)
    assert counts(world) == (0, 0, 2, 0)
    assert world.last_startup_s[BF16] == pytest.approx(60.0 + ACTUATION_S)
    world.advance(3600.0)
    assert bill(world, 3600.0) == pytest.approx(2 * 2.0)


def test_pods_beyond_the_capacity_wait_without_a_bill_and_start_when_room_is_made() -> None:
    world = World(scenario(poisson(1.0, 100.0), capacity=3, initial={"bf16": 2}))
    world.want({BF16: 5})
    assert counts(world) == (2, 1, 2, 0)
    world.advance(1800.0)
    assert bill(world, 1800.0) == pytest.approx(3 * 2.0 / 2)
    world.want({BF16: 3})
    assert counts(world) == (0, 0, 3, 0)


def test_a_cold_node_takes_its_own_time() -> None:
    world = World(scenario(poisson(1.0, 10.0), warm=1))
    world.want({BF16: 2})
    world.advance(180.0 + 60.0 + ACTUATION_S - 0.1)
    assert counts(world) == (0, 1, 1, 0)
    world.advance(180.0 + 60.0 + ACTUATION_S + 0.1)
    assert counts(world) == (0, 0, 2, 0)


def test_a_replica_that_does_not_fit_on_the_warm_nodes_waits_for_another() -> None:
    world = World(scenario(poisson(1.0, 10.0), tiers=(tier(width=4),), warm=6))
    world.want({BF16: 2})
    world.advance(180.0 + 60.0 + ACTUATION_S - 0.1)
    assert counts(world) == (0, 1, 1, 0)


def test_scaling_down_takes_starting_pods_before_ready_ones() -> None:
    world = World(scenario(poisson(1.0, 10.0), initial={"bf16": 2}))
    world.want({BF16: 4})
    world.want({BF16: 2})
    assert counts(world) == (0, 0, 2, 0)
    assert world.actions == 2


def test_a_replica_on_its_way_out_finishes_its_requests_and_is_billed_until_then() -> None:
    world = World(scenario(traffic([0.0, 0.0], output=2000), initial={"bf16": 2}))
    world.advance(1.0)
    world.want({BF16: 1})
    assert counts(world) == (0, 0, 1, 1)
    world.advance(100.0)
    assert counts(world) == (0, 0, 1, 0)
    assert world.fleet.tally()["finished"] == 2
    assert world.fleet.tally()["dropped"] == 0
    assert bill(world, 600.0) == pytest.approx((100 + 600) * 2.0 / 3600)


def test_a_replica_on_its_way_out_still_holds_its_accelerators() -> None:
    world = World(scenario(traffic([0.0, 0.0], output=2000), initial={"bf16": 2}, capacity=2))
    world.advance(1.0)
    world.want({BF16: 1})
    world.want({BF16: 2})
    assert counts(world) == (1, 0, 1, 1)
    world.advance(30.0)
    assert counts(world) == (0, 1, 1, 0)


def test_a_replica_that_is_gone_has_used_its_energy() -> None:
    world = World(scenario(traffic([700.0]), initial={"bf16": 2}))
    world.advance(300.0)
    world.want({BF16: 1})
    world.advance(600.0)
    world.finish(0.0)
    assert world.joules == pytest.approx(300 * (300 + 600))


def test_the_youngest_of_the_ready_replicas_goes_first() -> None:
    world = World(scenario(traffic([700.0])))
    world.advance(10.0)
    world.want({BF16: 2})
    world.advance(90.0)
    world.want({BF16: 1})
    assert [pod.number for pod in world.of(BF16, Life.READY)] == [0]


def test_a_replica_that_drains_too_long_is_killed_with_its_requests() -> None:
    world = World(scenario(traffic([0.0, 0.0], output=20_000), initial={"bf16": 2}))
    world.advance(1.0)
    world.want({BF16: 1})
    world.advance(1.0 + 134.0)
    assert counts(world) == (0, 0, 1, 0)
    assert world.fleet.tally()["dropped"] == 1
    assert min(pod.gone_s for pod in world.pods) == 1.0 + 120.0


@pytest.mark.parametrize(
    ("trouble", "at", "left"),
    [(Trouble.LOST_NODES, 100.1, 2), (Trouble.SPOT_RECLAIM, 100.1, 2), (Trouble.SPOT_RECLAIM, 99.9, 4)],
    ids=["nodes vanish at once", "reclaimed pods stop taking requests at once", "nothing happens before"],
)
def test_lost_accelerators_take_pods_with_them(trouble: Trouble, at: float, left: int) -> None:
    fault = Fault(trouble=trouble, start_s=100.0, end_s=300.0, target="gpu", amount=2)
    world = World(scenario(poisson(5.0, 400.0), initial={"bf16": 4}, capacity=4, faults=(fault,)))
    world.advance(at)
    assert counts(world)[2] == left
    assert world.market.capacity("gpu", at) == (4 if at < 100 else 2)


def test_a_wide_replica_takes_all_its_accelerators_with_it() -> None:
    fault = Fault(trouble=Trouble.LOST_NODES, start_s=100.0, end_s=300.0, target="gpu", amount=2)
    wide = scenario(poisson(1.0, 10.0), tiers=(tier(width=2),), initial={"bf16": 2}, capacity=4, faults=(fault,))
    world = World(wide)
    world.advance(110.0)
    assert counts(world) == (1, 0, 1, 0)


def test_after_nodes_return_the_replicas_come_back_by_themselves() -> None:
    fault = Fault(trouble=Trouble.LOST_NODES, start_s=100.0, end_s=300.0, target="gpu", amount=2)
    world = World(scenario(poisson(5.0, 400.0), initial={"bf16": 4}, capacity=4, faults=(fault,)))
    world.advance(250.0)
    assert counts(world)[:3] == (2, 0, 2)
    world.advance(300.0 + 60.0 + ACTUATION_S + 0.1)
    assert counts(world)[:3] == (0, 0, 4)
    assert world.last_startup_s[BF16] == pytest.approx(60.0 + ACTUATION_S), "waiting for a node is no start-up"


def test_pods_of_a_stuck_tier_start_only_after_the_fault() -> None:
    fault = Fault(trouble=Trouble.STUCK_TIER, start_s=0.0, end_s=500.0, target="chat/bf16")
    world = World(scenario(poisson(1.0, 10.0), faults=(fault,)))
    world.want({BF16: 2})
    world.advance(500.0)
    assert counts(world) == (0, 1, 1, 0)
    world.advance(562.0)
    assert counts(world) == (0, 0, 2, 0)


def test_a_slow_start_takes_its_factor_longer() -> None:
    fault = Fault(trouble=Trouble.SLOW_START, start_s=0.0, end_s=10.0, amount=3.0)
    world = World(scenario(poisson(1.0, 10.0), faults=(fault,)))
    world.want({BF16: 2})
    world.advance(170.0)
    assert counts(world) == (0, 1, 1, 0)
    world.advance(182.0)
    assert counts(world) == (0, 0, 2, 0)


def test_a_price_change_is_billed_by_the_second() -> None:
    fault = Fault(trouble=Trouble.PRICE_CHANGE, start_s=900.0, end_s=2700.0, target="gpu", amount=6.0)
    world = World(scenario(poisson(1.0, 10.0), faults=(fault,)))
    world.advance(3600.0)
    assert bill(world, 3600.0) == pytest.approx(0.5 * 2.0 + 0.5 * 6.0)
    assert world.usd_per_hour() == pytest.approx(2.0)


def test_start_up_times_scatter_around_their_median() -> None:
    world = World(scenario(poisson(1.0, 10.0), startup=Startup(median_s=100.0, spread=0.3), capacity=None))
    world.want({BF16: 200})
    took = sorted(p.ready_s for p in world.pods[1:])
    assert took[len(took) // 2] == pytest.approx(100.0, rel=0.1)
    assert took[-1] / took[0] > 2.0


def test_a_large_fleet_behaves_like_a_small_one() -> None:
    world = World(scenario(poisson(50.0, 100.0), capacity=None))
    world.want({BF16: 600})
    world.advance(90.0)
    assert counts(world) == (0, 0, 600, 0)
    world.fleet.check()


def test_two_tiers_share_their_accelerators_by_width() -> None:
    tiers = (tier("bf16", width=2), tier("fp8", width=1))
    world = World(scenario(poisson(1.0, 10.0), capacity=5, tiers=tiers))
    world.want({(KEY, "bf16"): 2, (KEY, "fp8"): 3})
    assert len(world.of((KEY, "fp8"), Life.PENDING)) == 2
    assert world.usd_per_hour() == pytest.approx(5 * 2.0)
