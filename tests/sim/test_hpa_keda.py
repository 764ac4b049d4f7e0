"""HPA and the KEDA rules, one evaluation at a time, against their published formulas."""

import sys
from dataclasses import replace

import pytest

from tests.sim.builders import KEY, poisson, scenario, tier
from tidegate.domain.observation import (
    DeploymentObservation,
    FleetObservation,
    GatewayReading,
    Histogram,
    Missing,
    TierReading,
    TierState,
)
from tidegate.domain.spec import Accelerator, FleetPolicy, ScaleToZero
from tidegate.errors import SpecError
from tidegate.sim.metrics import NO_ANSWER, Gauges
from tidegate.sim.policies import registry
from tidegate.sim.policies.base import OneTier, View
from tidegate.sim.policies.hpa import Behavior, HpaOnUtilization, Rule, by_mean, per_pod
from tidegate.sim.policies.keda import KedaOnWaiting, SloAwareKeda
from tidegate.sim.policies.llmd import KedaOnEpp, TokenAwareKeda
from tidegate.sim.policies.static import Static

BF16 = (KEY, "bf16")
BASE = scenario(poisson(1.0, 10.0))


def view(
    reading: TierReading | Missing,
    *,
    time_s: float = 15.0,
    wanted: int = 2,
    ready: int | None = None,
    queued: float = 0.0,
    gauges: list[Gauges] | None = None,
    zero: bool = False,
) -> View:
    """One tier at one instant."""
    spec = BASE.services[0].spec
    if zero:
        spec = replace(spec, replicas_min=0, scale_to_zero=ScaleToZero(idle_s=300.0))
    state = TierState(ready=wanted if ready is None else ready, reading=reading)
    return View(
        time_s=time_s,
        observation=FleetObservation(
            time_s=time_s,
            deployments={
                KEY: DeploymentObservation(
                    tiers={"bf16": state}, gateway=GatewayReading(arrival_rps=1.0, queued=queued)
                )
            },
        ),
        policy=FleetPolicy(
            deployments={KEY: spec}, accelerators={"gpu": Accelerator(name="gpu", price_usd_per_hour=2.0)}
        ),
        wanted={BF16: wanted},
        gauges=lambda _: gauges or [],
    )


def reading(**more: object) -> TierReading:
    values: dict[str, object] = {"window_s": 60.0, "age_s": 5.0, "arrival_rps": 1.0, "running": 4.0, "waiting": 0.0}
    return TierReading(**(values | more))  # type: ignore[arg-type]


def latency(seconds: float) -> Histogram:
    """A histogram whose 90th percentile is `seconds`."""
    return Histogram((seconds / 0.9, float("inf")), (100.0, 100.0))


@pytest.mark.parametrize(
    ("value", "target", "current", "wanted"),
    [(10, 5, 2, 2), (10.9, 5, 2, 2), (11.1, 5, 2, 3), (3, 5, 2, 1), (50, 5, 2, 10), (0, 5, 2, 0)],
    ids=["on target", "inside 10 %", "outside 10 %", "less", "much more", "nothing"],
)
def test_average_value_is_the_sum_over_the_target(value: float, target: float, current: int, wanted: int) -> None:
    assert per_pod(value, target, current) == wanted


def limit(behavior: Behavior, time_s: float, current: int, raw: int) -> int:
    return behavior.limit(time_s=time_s, current=current, raw=raw, low=1, high=100)


def test_hpa_scales_up_at_once_by_at_most_the_larger_of_100_percent_and_four_pods() -> None:
    small, large = Behavior(), Behavior()
    assert limit(small, 0.0, 2, 50) == 6
    assert limit(small, 15.0, 6, 50) == 12, "and again in the next period"
    assert limit(large, 0.0, 10, 50) == 20


def test_hpa_scales_down_to_the_highest_recommendation_of_the_window() -> None:
    behavior = Behavior()
    assert limit(behavior, 0.0, 10, 8) == 10, "what it finds is its first recommendation"
    assert limit(behavior, 15.0, 10, 2) == 10
    assert limit(behavior, 301.0, 10, 2) == 2
    assert limit(behavior, 316.0, 2, 2) == 2


def test_hpa_counts_what_it_changed_in_the_period() -> None:
    once = Rule(window_s=0.0, percent=0.0, pods=1.0, period_s=60.0)
    behavior = Behavior(once, replace(once, period_s=120.0))
    assert limit(behavior, 0.0, 2, 10) == 3
    assert limit(behavior, 15.0, 3, 10) == 3
    assert limit(behavior, 60.0, 3, 10) == 4


def test_an_up_window_uses_the_lowest_recommendation() -> None:
    behavior = Behavior(Rule(window_s=30.0, percent=100.0, pods=4.0, period_s=60.0))
    assert limit(behavior, 0.0, 2, 2) == 2
    assert limit(behavior, 15.0, 2, 6) == 2
    assert limit(behavior, 46.0, 2, 6) == 6


def test_replicas_removed_in_the_period_may_be_added_again_at_once() -> None:
    """One pod per 180 s from the period's start: 5 became 4, so 6 are allowed; what was added counts the other way."""
    behavior = Behavior(
        Rule(window_s=0.0, percent=0.0, pods=1.0, period_s=180.0),
        Rule(window_s=0.0, percent=0.0, pods=1.0, period_s=300.0),
    )
    assert limit(behavior, 0.0, 5, 2) == 4
    assert limit(behavior, 15.0, 4, 9) == 6
    assert limit(behavior, 30.0, 6, 9) == 6
    assert limit(behavior, 45.0, 6, 2) == 4


def test_a_limit_never_reverses_the_direction() -> None:
    """The bounds raised it by more than a period allows, which is no reason to remove any of them."""
    behavior = Behavior(Rule(window_s=0.0, percent=0.0, pods=1.0, period_s=60.0))
    assert behavior.limit(time_s=0.0, current=1, raw=1, low=5, high=9) == 5
    assert limit(behavior, 15.0, 5, 9) == 5


@pytest.mark.parametrize(
    ("utilization", "ready", "wanted"),
    [(0.70, 2, 2), (0.75, 2, 2), (0.99, 2, 3), (0.99, 1, 2), (None, 2, 2)],
    ids=["on target", "inside tolerance", "busy", "busy with one starting", "unknown"],
)
def test_hpa_on_utilization(utilization: float | None, ready: int, wanted: int) -> None:
    policy = HpaOnUtilization(BASE, "bf16")
    choice = policy.decide(view(reading(gpu_utilization=utilization), ready=ready))
    assert choice.replicas[BF16] == wanted


@pytest.mark.parametrize(
    ("ratio", "ready", "current", "wanted"),
    [
        (1.3, 4, 4, 6), (0.5, 4, 4, 2), (1.05, 10, 10, 10), (1.9, 3, 4, 6), (1.4, 3, 4, 4), (1.4, 1, 4, 4),
        (0.1, 2, 4, 3), (0.9, 2, 4, 4), (0.0, 1, 1, 0),
    ],
    ids=[
        "up", "down", "inside tolerance", "starting pods count as 0 on the way up", "which may be inside tolerance",
        "and never turns up into down", "as on target on the way down", "which may be inside tolerance too", "idle",
    ],
)  # fmt: skip
def test_a_mean_over_pods_fills_in_those_without_a_sample(ratio: float, ready: int, current: int, wanted: int) -> None:
    assert by_mean(ratio, ready=ready, current=current) == wanted


@pytest.mark.parametrize(("waiting", "wanted"), [(0, 2), (10, 2), (23, 5), (100, 6)])
def test_keda_on_waiting_asks_for_one_replica_per_five_waiting(waiting: float, wanted: int) -> None:
    policy = KedaOnWaiting(BASE, "bf16")
    policy.decide(view(reading(waiting=10.0)))
    assert policy.decide(view(reading(waiting=waiting), time_s=30.0)).replicas[BF16] == wanted


@pytest.mark.parametrize("make", [KedaOnWaiting, SloAwareKeda, KedaOnEpp, TokenAwareKeda, HpaOnUtilization])
def test_a_prometheus_that_does_not_answer_is_an_error_and_the_fleet_is_held(make: type[OneTier]) -> None:
    """An empty answer counts as 0 in KEDA's rules and shrinks the fleet; no answer at all does not."""
    held, shrunk = make(BASE, "bf16"), make(BASE, "bf16")  # type: ignore[call-arg]
    idle = reading(running=0.0, gpu_utilization=0.0, kv_cache_usage=0.0, prompt_tokens_mean=100.0)
    for tick in range(1, 60):
        seen = held.decide(view(Missing(reason=NO_ANSWER), time_s=tick * 15.0, wanted=4))
        assert seen.replicas[BF16] == 4
    wishes = [shrunk.decide(view(idle, time_s=tick * 15.0, wanted=4)).replicas[BF16] for tick in range(1, 60)]
    assert min(wishes) < 4


def test_keda_goes_to_zero_after_its_cooldown_and_back_for_the_first_waiting_request() -> None:
    policy = KedaOnWaiting(BASE, "bf16")
    idle = reading(running=0.0)
    assert policy.decide(view(idle, time_s=15.0, wanted=1, zero=True)).replicas[BF16] == 1
    assert policy.decide(view(idle, time_s=300.0, wanted=1, zero=True)).replicas[BF16] == 1
    assert policy.decide(view(idle, time_s=330.0, wanted=1, zero=True)).replicas[BF16] == 0
    gone = Missing(reason="NoReplicas")
    assert policy.decide(view(gone, time_s=345.0, wanted=0, zero=True)).replicas[BF16] == 0
    assert policy.decide(view(gone, time_s=360.0, wanted=0, zero=True, queued=3)).replicas[BF16] == 1


def test_keda_does_not_go_to_zero_while_requests_run() -> None:
    policy = KedaOnWaiting(BASE, "bf16")
    for time_s in (15.0, 330.0, 645.0):
        assert policy.decide(view(reading(), time_s=time_s, wanted=1, zero=True)).replicas[BF16] == 1


def slo_keda(ttft_s: float, itl_s: float, *, wanted: int, ready: int | None = None) -> int:
    """The first changed replica count under constant latencies within four minutes, or the initial one."""
    policy = SloAwareKeda(BASE, "bf16")
    seen = reading(ttft=latency(ttft_s), request_itl=latency(itl_s))
    for tick in range(1, 16):
        wish = policy.decide(view(seen, time_s=tick * 15.0, wanted=wanted, ready=ready)).replicas[BF16]
        if wish != wanted:
            return wish
    return wanted


@pytest.mark.parametrize(
    ("ttft_s", "itl_s", "wanted", "ready", "wish"),
    [
        (0.50, 0.010, 4, None, 4),
        (1.10, 0.010, 4, None, 8),
        (0.10, 0.055, 4, None, 8),
        (1.10, 0.010, 4, 2, 4),
        (0.20, 0.010, 4, None, 3),
        (0.36, 0.010, 4, 2, 4),
        (9.00, 0.010, 4, None, 8),
    ],
    ids=[
        "between the thresholds", "late first tokens", "slow tokens", "credit for what starts", "one less",
        "no credit on the way down", "capped",
    ],
)  # fmt: skip
def test_slo_aware_keda(ttft_s: float, itl_s: float, wanted: int, ready: int | None, wish: int) -> None:
    """Targets are 1 s and 50 ms: s = 1.1 asks for 4 + ceil(4 * (1.1/0.55 - 1)) = 8."""
    assert slo_keda(ttft_s, itl_s, wanted=wanted, ready=ready) == wish


def test_a_fixed_fleet_removes_other_tiers_once_its_own_are_ready() -> None:
    tiers = (tier("bf16"), tier("fp8"))
    two = scenario(poisson(1.0, 10.0), tiers=tiers)
    own, other = (KEY, "fp8"), (KEY, "bf16")

    def seen(ready: int) -> View:
        states = {"bf16": TierState(ready=1), "fp8": TierState(ready=ready, starting=2 - ready)}
        return replace(
            view(reading()),
            observation=FleetObservation(time_s=0.0, deployments={KEY: DeploymentObservation(tiers=states)}),
            policy=FleetPolicy(deployments={KEY: two.services[0].spec}, accelerators={}),
            wanted={own: 2, other: 1},
        )

    policy = Static({own: 2})
    assert policy.decide(seen(1)).replicas == {own: 2}
    assert policy.decide(seen(2)).replicas == {own: 2, other: 0}


@pytest.mark.parametrize("name", ["nobody", "slo-keda@int4", "tidegate@int4"])
def test_an_unknown_policy_is_rejected_with_the_list_of_policies(name: str) -> None:
    with pytest.raises(SpecError):
        registry.check([name], BASE)


@pytest.mark.parametrize("name", sorted(registry.RIVALS | registry.FLEETS))
def test_every_rival_documents_its_simplifications(name: str) -> None:
    make = (registry.RIVALS | registry.FLEETS)[name]
    said = [sys.modules[make.__module__].__doc__, *(parent.__doc__ for parent in make.__mro__)]
    assert any("implification" in (text or "") for text in said)
