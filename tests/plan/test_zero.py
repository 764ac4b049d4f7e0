"""Zero replicas: scaled to zero when idle, or kept at zero by a limit or a pin."""

from dataclasses import replace

import pytest

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tier
from tidegate.domain.decision import Constraint, Decision, Reason, Status
from tidegate.domain.observation import GatewayReading
from tidegate.domain.spec import Accelerator, Cost, ScaleToZero, Schedule
from tidegate.plan import PlanMemory

ONE = {"bf16": estimate(5)}
QUIET = GatewayReading(arrival_rps=0.0, queued=0.0)


def pool(capacity: int) -> dict[str, Accelerator]:
    return {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=capacity)}


def met(decision: Decision) -> Status:
    return next(c.status for c in decision.conditions if c.type == "SLOMet")


@pytest.mark.parametrize("gateway", [None, QUIET], ids=["no gateway", "a gateway that is quiet"])
@pytest.mark.parametrize("sleeps", [True, False], ids=["may scale to zero", "may not"])
def test_capacity_that_is_gone_is_told_and_when_it_comes_back_so_do_the_replicas(
    gateway: GatewayReading | None, *, sleeps: bool
) -> None:
    wanted = spec(scale_to_zero=ScaleToZero(idle_s=900) if sleeps else None)
    loop = Loop(spec=wanted, estimates=ONE, pools=pool(8))
    loop.run(forecast(18), 4)
    loop.pools = pool(0)
    for _ in range(4):
        decision = loop.tick(forecast(18), gateway=gateway)
        assert fleet(decision) == {}
        assert (decision.reason, decision.binding) == (Reason.CAPACITY_LIMITED, Constraint.CAPACITY)
        assert met(decision) is Status.FALSE
    loop.pools = pool(8)
    assert fleet(loop.tick(forecast(18), gateway=gateway)) == {"bf16": 4}


def test_a_budget_below_one_replica_is_told_for_as_long_as_it_lasts() -> None:
    loop = Loop(spec=spec(cost=Cost(budget_usd_per_hour=2.0)), estimates=ONE)
    decision = loop.run(forecast(4), 5)
    assert fleet(decision) == {}
    assert (decision.reason, decision.binding, met(decision)) == (
        Reason.BUDGET_LIMITED,
        Constraint.BUDGET,
        Status.FALSE,
    )
    loop.spec = spec(cost=Cost(budget_usd_per_hour=3.0))
    assert fleet(loop.tick(forecast(4))) == {"bf16": 1}


def test_a_pin_of_zero_is_not_sleep_and_removing_it_restores_replicas() -> None:
    loop = Loop(spec=spec(), estimates=ONE)
    loop.run(forecast(18), 4)
    loop.spec = spec(replicas_pinned=0)
    reasons = [loop.tick(forecast(18)).reason for _ in range(3)]
    assert reasons == [Reason.PINNED, Reason.REPLICAS_LIMITED, Reason.REPLICAS_LIMITED]
    loop.spec = spec()
    assert fleet(loop.tick(forecast(18))) == {"bf16": 4}


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart"])
def test_sleep_lasts_through_a_pause_until_somebody_calls(*, restarted: bool) -> None:
    loop = Loop(spec=spec(scale_to_zero=ScaleToZero(idle_s=300)), estimates=ONE)
    loop.run(forecast(4), 5)
    assert loop.run(forecast(0, idle_s=301), 2).reason is Reason.SCALED_TO_ZERO
    loop.spec = replace(loop.spec, paused=True)
    loop.tick(forecast(0, idle_s=400))
    loop.spec = replace(loop.spec, paused=False)
    if restarted:
        assert loop.memory is not None
        loop.memory = PlanMemory.from_json(loop.memory.to_json())
    asleep = loop.run(forecast(0, idle_s=500), 3)
    assert (fleet(asleep), asleep.reason, asleep.binding) == ({}, Reason.SCALED_TO_ZERO, Constraint.NONE)
    awake = loop.tick(forecast(0, idle_s=500), gateway=replace(QUIET, queued=1.0))
    assert (fleet(awake), awake.reason) == ({"bf16": 1}, Reason.ACTIVATED)


def test_sleep_of_which_nothing_else_is_remembered_lasts_until_somebody_calls() -> None:
    """The memory was lost, the status says that it sleeps, and the gateway cannot be asked."""
    loop = Loop(spec=spec(scale_to_zero=ScaleToZero(idle_s=300)), estimates=ONE, memory=PlanMemory(asleep=True))
    assert fleet(loop.run(forecast(0), 3)) == {}
    awake = loop.tick(forecast(0), gateway=replace(QUIET, queued=1.0))
    assert (fleet(awake), awake.reason) == ({"bf16": 1}, Reason.ACTIVATED)


OFFICE = Schedule(name="office", cron="0 7 * * 1-5", time_zone="Europe/Berlin", duration_s=43_200, replicas_min=2)
SEVEN_S = 1_767_679_200.0  # Tue 6 Jan 2026, 07:00 there


def test_a_schedule_that_asks_for_replicas_is_no_time_to_sleep_and_wakes() -> None:
    wanted = spec(scale_to_zero=ScaleToZero(idle_s=300), schedules=(OFFICE,))
    loop = Loop(spec=wanted, estimates=ONE, time_s=SEVEN_S - 600)
    loop.run(forecast(4), 5)
    assert fleet(loop.tick(forecast(0, idle_s=301))) == {}
    loop.time_s = SEVEN_S
    assert fleet(loop.tick(forecast(0, idle_s=900))) == {"bf16": 2}
    assert fleet(loop.run(forecast(0, idle_s=1800), 3)) == {"bf16": 2}


def test_the_last_replica_stays_until_nobody_asked_for_long_enough() -> None:
    loop = Loop(spec=spec(replicas_min=0, scale_to_zero=ScaleToZero(idle_s=3600)), estimates=ONE)
    loop.run(forecast(4), 5)
    assert fleet(loop.run(forecast(0, idle_s=1800), 60)) == {"bf16": 1}
    assert fleet(loop.tick(forecast(0, idle_s=3601))) == {}


@pytest.mark.parametrize(
    ("queued", "gateway"),
    [
        pytest.param(2.0, None, id="requests that wait at a replica"),
        pytest.param(0.0, GatewayReading(arrival_rps=0.5, queued=0.0), id="requests that come to a gateway"),
        pytest.param(0.0, GatewayReading(arrival_rps=0.0, queued=1.0), id="requests that wait at a gateway"),
    ],
)
def test_one_sign_of_a_request_keeps_it_awake(queued: float, gateway: GatewayReading | None) -> None:
    loop = Loop(spec=spec(scale_to_zero=ScaleToZero(idle_s=300)), estimates=ONE)
    loop.run(forecast(4), 5)
    assert fleet(loop.tick(forecast(0, idle_s=400, queued=queued), gateway=gateway)) == {"bf16": 1}
    assert fleet(loop.tick(forecast(0, idle_s=400))) == {}
    assert fleet(loop.tick(forecast(0, idle_s=400, queued=queued), gateway=gateway)) == {"bf16": 1}


def test_missing_metrics_of_one_tier_are_no_proof_of_idleness() -> None:
    wanted = spec(tier("bf16", low=1), tier("fp8", low=1), scale_to_zero=ScaleToZero(idle_s=300))
    loop = Loop(spec=wanted, estimates={"bf16": estimate(5), "fp8": estimate(5)})
    loop.run(forecast(4), 5)
    asleep = loop.tick(forecast(0, idle_s=400), silent=("fp8",))
    assert asleep.reason is not Reason.SCALED_TO_ZERO
