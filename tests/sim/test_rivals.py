"""The rivals' rules on hand-made views: each row is computed from their published formulas."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.domain.key import Key
from tidegate.domain.law import PerformanceLaw
from tidegate.domain.observation import (
    DeploymentObservation,
    FleetObservation,
    GatewayReading,
    Histogram,
    TierReading,
    TierState,
)
from tidegate.domain.spec import Accelerator, DeploymentSpec, FleetPolicy, ScaleToZero, Schedule, Slo, TierSpec
from tidegate.sim.engine.fleet import Server
from tidegate.sim.metrics import Gauges
from tidegate.sim.policies import registry
from tidegate.sim.policies.base import Policy, View
from tidegate.sim.policies.dynamo import Dynamo
from tidegate.sim.policies.static import Static

KEY = Key("prod", "chat")
INF = float("inf")
LAW = PerformanceLaw(a_s=0.006, b_s=1e-5, c_s=4e-8, p0_s=0.003, p1_s=2e-5, kv_cache_tokens=100_000, running_max=256)


def spec(*tiers: str, **changes: Any) -> DeploymentSpec:
    parts = tuple(
        TierSpec(name=name, quality=1, accelerator=name, accelerators_per_replica=1, replicas_min=0, replicas_max=20)
        for name in tiers
    )
    return DeploymentSpec(
        key=KEY, model="m", slo=Slo(ttft_s=1.0, itl_s=0.05), tiers=parts, replicas_min=1, replicas_max=20, **changes
    )


def scenario(spec_: DeploymentSpec) -> Any:
    """What a maker looks at: the deployments, and the truth of their tiers."""
    truth = SimpleNamespace(server=Server(law=LAW))
    service = SimpleNamespace(spec=spec_, truths={t.name: truth for t in spec_.tiers})
    return SimpleNamespace(services=(service,), service=lambda key: service)


def policy(name: str, spec_: DeploymentSpec) -> Policy:
    return next(registry.makers(name, scenario(spec_)))()


def histogram(value_s: float) -> Histogram:
    return Histogram(bounds_s=(value_s * 0.999, value_s, INF), counts=(0.0, 100.0, 100.0))


def reading(**changes: Any) -> TierReading:
    usual: dict[str, Any] = {"window_s": 60.0, "age_s": 5.0, "arrival_rps": 1.0, "running": 0.0, "waiting": 0.0}
    return TierReading(**(usual | {"prompt_tokens_mean": 1000.0, "output_tokens_mean": 200.0} | changes))


def view(
    spec_: DeploymentSpec,
    readings: Mapping[str, TierReading],
    wanted: Mapping[str, int],
    *,
    time_s: float = 600.0,
    ready: Mapping[str, int] | None = None,
    gauges: Gauges | None = None,
    queued: float = 0.0,
) -> View:
    ready = ready or wanted
    states = {
        t.name: TierState(ready=ready.get(t.name, 0), reading=readings[t.name])
        if t.name in readings
        else TierState(ready=ready.get(t.name, 0))
        for t in spec_.tiers
    }
    seen = DeploymentObservation(tiers=states, gateway=GatewayReading(arrival_rps=1.0, queued=queued))
    prices = {"bf16": 3.0, "fp8": 2.0, "int4": 1.0}
    classes = {n: Accelerator(name=n, price_usd_per_hour=p) for n, p in prices.items()}
    pod = gauges or Gauges(running=0, waiting=0, kv_usage=0.0, waiting_max=0, kv_usage_max=0.0)
    return View(
        time_s=time_s,
        observation=FleetObservation(time_s=time_s, deployments={KEY: seen}),
        policy=FleetPolicy(deployments={KEY: spec_}, accelerators=classes),
        wanted={(KEY, t.name): wanted.get(t.name, 0) for t in spec_.tiers},
        gauges=lambda tier: [pod] * ready.get(tier[1], 0),
    )


SINGLE = [
    ("hpa-gpu@fp8", {"gpu_utilization": 0.9}, 4, 6, "0.9 of 0.7 on four pods asks for six"),
    ("hpa-gpu@fp8", {"gpu_utilization": 0.72}, 4, 4, "inside ten percent nothing moves"),
    ("keda-waiting@fp8", {"waiting": 40.0}, 2, 6, "forty waiting at five a replica ask for eight, 100 % or 4 pods go"),
    ("keda-waiting@fp8", {"waiting": 9.5}, 2, 2, "inside ten percent nothing moves"),
    ("keda-epp@fp8", {"running": 100.0}, 4, 7, "a hundred running at sixteen a replica ask for seven"),
    ("keda-epp@fp8", {"running": 10.0, "waiting": 6.0}, 4, 6, "the larger trigger wins"),
    ("keda-epp@fp8", {"running": 160.0}, 2, 4, "ten are asked for, twice as many go"),
    ("knative-kpa@fp8", {"running": 250.0}, 3, 4, "250 requests at 70 a replica ask for four"),
    ("knative-kpa@fp8", {"running": 250.0, "waiting": 60.0}, 3, 5, "those that wait at a server count as well"),
    ("ray-serve@fp8", {"running": 30.0}, 3, 3, "a wish that has not lasted thirty seconds is not carried out"),
    ("token-keda@fp8", {"waiting": 400.0}, 2, 3, "eight seconds of prefill ask for six, one pod at a time"),
    ("token-keda@fp8", {"kv_cache_usage": 0.9}, 4, 5, "four caches at 0.9 hold what five hold at 0.8"),
]


# Seconds of prefill by time, one prompt of 1,000 tokens is 20 ms of it; replicas before, and after each decision.
TOKENS = [
    ([(0, 150.0)], 2, [2], "inside ten percent nothing moves"),
    ([(0, 150.0), (15, 75.0), (299, 75.0), (301, 75.0)], 2, [2, 2, 2, 1], "down after five minutes of agreement"),
    ([(0, 75.0), (301, 75.0), (331, 75.0), (600, 75.0), (615, 75.0)], 4, [4, 3, 3, 3, 2], "down a pod in five minutes"),
    ([(0, 75.0), (301, 75.0), (316, 750.0)], 4, [4, 3, 5], "down does not block up, and what went may come back"),
    ([(0, 750.0), (15, 750.0), (179, 750.0), (181, 750.0)], 2, [3, 3, 3, 4], "up one pod in three minutes"),
]


@pytest.mark.parametrize(("course", "before", "after", "why"), TOKENS, ids=[row[3] for row in TOKENS])
def test_the_token_aware_rule_goes_through_its_hpa(
    course: list[tuple[float, float]], before: int, after: list[int], why: str
) -> None:
    one = spec("fp8")
    rule, seen = policy("token-keda@fp8", one), [before]
    for time_s, waiting in course:
        now = view(one, {"fp8": reading(waiting=waiting)}, {"fp8": seen[-1]}, time_s=float(time_s))
        seen.append(rule.decide(now).replicas[KEY, "fp8"])
    assert seen[1:] == after


@pytest.mark.parametrize(("name", "metrics", "before", "after", "why"), SINGLE, ids=[row[4] for row in SINGLE])
def test_a_rule_for_one_tier(name: str, metrics: dict[str, float], before: int, after: int, why: str) -> None:
    one = spec("fp8")
    choice = policy(name, one).decide(view(one, {"fp8": reading(**metrics)}, {"fp8": before}))
    assert choice.replicas[KEY, "fp8"] == after


# Metrics by time, replicas before, and after each decision; all replicas are ready at once.
COURSES = [
    (
        "knative-kpa", "running", [(0, 300), (15, 70), (60, 70), (75, 70), (90, 280)], 2, [5, 5, 5, 2, 4],
        "a panic lasts until 60 s after the need, keeps its highest wish meanwhile, and at most halves afterwards",
    ),
    (
        "ray-serve", "running", [(0, 20), (15, 20), (30, 20), (45, 60), (60, 60), (75, 60)], 3, [3, 3, 10, 10, 10, 20],
        "after a step the next wish has to last as well",
    ),
    ("ray-serve", "running", [(0, 20), (15, 0), (30, 40)], 6, [6, 6, 6], "a wish that was interrupted starts anew"),
    (
        "aibrix-apa", "kv_cache_usage", [(0, 0.25), (200, 1.0), (290, 0.0)], 4, [2, 4, 4],
        "who is on target over three minutes stays, whatever was asked for before",
    ),
    ("aibrix-apa", "kv_cache_usage", [(0, 0.0)], 5, [2], "at most halved, rounded down"),
    ("aibrix-fixed", "kv_cache_usage", [(0, 0.5), (285, 0.1), (300, 0.1)], 8, [8, 8, 4], "the window is five minutes"),
    (
        "slo-keda", "ttft", [(0, 0.1), (165, 0.1), (180, 0.1), (285, 0.1), (300, 0.1)], 4, [4, 4, 3, 3, 2],
        "down after three minutes, one pod in two",
    ),
    (
        "slo-keda", "ttft", [(0, 0.5), (15, 0.5), (30, 0.5), (45, 1.1), (60, 1.1)], 4, [4, 4, 4, 4, 6],
        "three samples are averaged: 0.7 asks for 4 + ceil(4 * (0.7/0.55 - 1))",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "metric", "course", "before", "after", "why"), COURSES, ids=[r[5] for r in COURSES])
def test_a_rule_over_time(
    name: str, metric: str, course: list[tuple[float, float]], before: int, after: list[int], why: str
) -> None:
    one = spec("fp8")
    rule, seen = policy(f"{name}@fp8", one), [before]
    for time_s, value in course:
        pod = Gauges(running=0, waiting=0, kv_usage=value, waiting_max=0, kv_usage_max=value)
        metrics = reading(**{metric: histogram(value) if metric == "ttft" else value})
        now = view(one, {"fp8": metrics}, {"fp8": seen[-1]}, time_s=float(time_s), gauges=pod)
        seen.append(rule.decide(now).replicas[KEY, "fp8"])
    assert seen[1:] == after


def test_knative_holds_what_it_cannot_see() -> None:
    one = spec("fp8")
    assert policy("knative-kpa@fp8", one).decide(view(one, {}, {"fp8": 3})).replicas[KEY, "fp8"] == 3


def test_slo_keda_grows_with_the_worse_of_both_latencies() -> None:
    one = spec("fp8")
    late = reading(ttft=histogram(0.55), request_itl=histogram(0.055))
    # 1.1 of the ITL target over the threshold of 0.55: twice as many, which is what one minute allows for four.
    rule = policy("slo-keda@fp8", one)
    wishes = [
        rule.decide(view(one, {"fp8": late}, {"fp8": 4}, time_s=t)).replicas[KEY, "fp8"] for t in (0.0, 15.0, 30.0)
    ]
    assert wishes == [4, 4, 8], "once its window of 30 s is over"


def test_aibrix_halves_at_once_and_the_fixed_variant_waits() -> None:
    one = spec("fp8")
    busy = Gauges(running=9, waiting=0, kv_usage=0.5, waiting_max=0, kv_usage_max=0.5)
    idle = Gauges(running=1, waiting=0, kv_usage=0.1, waiting_max=0, kv_usage_max=0.1)
    for name, expected in (("aibrix-apa@fp8", 4), ("aibrix-fixed@fp8", 8)):
        rule = policy(name, one)
        rule.decide(view(one, {"fp8": reading()}, {"fp8": 8}, time_s=0.0, gauges=busy))
        later = rule.decide(view(one, {"fp8": reading()}, {"fp8": 8}, time_s=200.0, gauges=idle))
        assert later.replicas[KEY, "fp8"] == expected, name


def test_ray_grows_once_the_recommendation_has_lasted() -> None:
    one, rule = spec("fp8"), None
    rule = policy("ray-serve@fp8", one)
    seen = [
        rule.decide(view(one, {"fp8": reading(running=20.0)}, {"fp8": 3}, time_s=t)).replicas[KEY, "fp8"]
        for t in (0.0, 15.0, 30.0)
    ]
    assert seen == [3, 3, 10]


def test_wva_v1_adds_one_of_the_cheapest_when_spare_kv_runs_low() -> None:
    two = spec("bf16", "int4")
    tight = Gauges(running=9, waiting=0, kv_usage=0.75, waiting_max=0, kv_usage_max=0.75)
    rule = policy("wva-v1", two)
    first, settled = (
        rule.decide(view(two, {"bf16": reading()}, {"bf16": 2}, time_s=t, gauges=tight)).replicas for t in (0.0, 240.0)
    )
    assert first == {(KEY, "int4"): 0, (KEY, "bf16"): 2}
    assert settled == {(KEY, "int4"): 1, (KEY, "bf16"): 2}


def test_wva_counts_the_price_of_every_accelerator_of_a_replica() -> None:
    """Four accelerators at $1 cost more than one at $3."""
    two = spec("bf16", "int4")
    bf16, int4 = two.tiers
    two = replace(two, tiers=(bf16, replace(int4, accelerators_per_replica=4)))
    tight = Gauges(running=9, waiting=0, kv_usage=0.75, waiting_max=0, kv_usage_max=0.75)
    rule = policy("wva-v1", two)
    _, settled = (
        rule.decide(view(two, {"bf16": reading()}, {"bf16": 2}, time_s=t, gauges=tight)).replicas for t in (0.0, 240.0)
    )
    assert settled == {(KEY, "int4"): 0, (KEY, "bf16"): 3}


@pytest.mark.parametrize(
    ("kv_usage", "waiting", "before", "ready", "after"),
    [
        pytest.param(0.3, 0.0, 2, 2, 1, id="one has room for both"),
        pytest.param(0.4, 0.0, 2, 2, 2, id="one would have no KV to spare"),
        pytest.param(0.3, 1.5, 2, 2, 2, id="one would have too long a queue"),
        pytest.param(0.0, 0.0, 1, 1, 1, id="the last one stays"),
        pytest.param(0.75, 0.0, 3, 2, 3, id="nothing is added while one starts"),
        pytest.param(0.3, 6.0, 2, 2, 3, id="none has a short queue"),
    ],
)
def test_wva_v1_on_one_tier(kv_usage: float, waiting: float, before: int, ready: int, after: int) -> None:
    one = spec("fp8")
    pod = Gauges(running=9, waiting=waiting, kv_usage=kv_usage, waiting_max=waiting, kv_usage_max=kv_usage)
    rule = policy("wva-v1@fp8", one)
    _, settled = (
        rule.decide(view(one, {"fp8": reading()}, {"fp8": before}, ready={"fp8": ready}, time_s=t, gauges=pod)).replicas
        for t in (0.0, 240.0)
    )
    assert settled[KEY, "fp8"] == after


def test_wva_v1_removes_the_last_by_name_of_equally_expensive_variants() -> None:
    two = spec("bf16", "fp8")
    now = view(two, {"bf16": reading(), "fp8": reading()}, {"bf16": 2, "fp8": 2}, time_s=0.0)
    equal = {n: Accelerator(name=n, price_usd_per_hour=3.0) for n in ("bf16", "fp8")}
    now = replace(now, policy=replace(now.policy, accelerators=equal))
    rule = policy("wva-v1", two)
    rule.decide(now)
    assert rule.decide(replace(now, time_s=240.0)).replicas == {(KEY, "bf16"): 2, (KEY, "fp8"): 1}


@pytest.mark.parametrize("kv_usage", [0.0, 0.75], ids=["idle", "full"])
def test_the_hpa_behind_wva_v1_keeps_what_it_finds_for_four_minutes(kv_usage: float) -> None:
    one = spec("fp8")
    pod = Gauges(running=9, waiting=0, kv_usage=kv_usage, waiting_max=0, kv_usage_max=kv_usage)
    rule = policy("wva-v1@fp8", one)
    wishes = [
        rule.decide(view(one, {"fp8": reading()}, {"fp8": 4}, time_s=15.0 * tick, gauges=pod)).replicas[KEY, "fp8"]
        for tick in range(1, 18)
    ]
    assert wishes == [4] * 16 + [5 if kv_usage else 3]


def test_wva_v2_buys_by_cost_per_capacity() -> None:
    two = spec("bf16", "int4")
    # 79,000 tokens in use of a supply of 80,000: 79,000/0.85 - 80,000 are lacking, one int4 replica covers them.
    full = Gauges(running=60, waiting=0, kv_usage=0.79, waiting_max=0, kv_usage_max=0.79)
    choice = policy("wva-v2", two).decide(
        view(two, {"bf16": reading(), "int4": reading()}, {"bf16": 1, "int4": 0}, gauges=full)
    )
    assert choice.replicas[KEY, "bf16"] == 1
    assert choice.replicas[KEY, "int4"] == 1


def test_wva_v2_removes_the_most_expensive_variant_and_of_equals_the_smallest() -> None:
    two = spec("bf16", "int4")
    idle = Gauges(running=1, waiting=0, kv_usage=0.02, waiting_max=0, kv_usage_max=0.02)
    choice = policy("wva-v2", two).decide(
        view(two, {"bf16": reading(), "int4": reading()}, {"bf16": 2, "int4": 2}, gauges=idle)
    )
    # 8,000 tokens in use of 4 x 80,000: three replicas are spare; bf16 costs more and goes whole.
    assert choice.replicas == {(KEY, "bf16"): 0, (KEY, "int4"): 1}


def test_wva_v1_grows_for_a_queue_alone() -> None:
    one = spec("fp8")
    rule = policy("wva-v1", one)
    # One more waiting request would saturate it: of five, one is spare, and three should be.
    queue = Gauges(running=9, waiting=4, kv_usage=0.1, waiting_max=4, kv_usage_max=0.1)
    wishes = [rule.decide(view(one, {"fp8": reading()}, {"fp8": 2}, time_s=t, gauges=queue)) for t in (0.0, 240.0)]
    assert [wish.replicas[KEY, "fp8"] for wish in wishes] == [2, 3]


WVA_V2 = [
    (0.79, {}, 3, 1, 3, "starting replicas count when it grows, and do not when it shrinks"),
    (0.0, {}, 3, 3, 1, "the last variant keeps a replica"),
    (0.3, {"prompt_tokens_mean": 20.0}, 1, 1, 2, "256 requests of 20 tokens and half an answer hold 30,720 tokens"),
]


@pytest.mark.parametrize(("kv", "lengths", "wanted", "ready", "wish", "why"), WVA_V2, ids=[r[5] for r in WVA_V2])
def test_wva_v2_on_one_tier(kv: float, lengths: dict[str, float], wanted: int, ready: int, wish: int, why: str) -> None:
    one = replace(spec("fp8"), replicas_min=0, scale_to_zero=ScaleToZero(idle_s=300.0))
    pod = Gauges(running=0, waiting=0, kv_usage=kv, waiting_max=0, kv_usage_max=kv)
    now = view(one, {"fp8": reading(**lengths)}, {"fp8": wanted}, ready={"fp8": ready}, gauges=pod)
    assert policy("wva-v2@fp8", one).decide(now).replicas[KEY, "fp8"] == wish


def test_wva_v2_takes_the_tokens_in_use_under_a_queue_as_capacity() -> None:
    one = spec("fp8")
    rule = policy("wva-v2", one)
    queued = Gauges(running=20, waiting=8, kv_usage=0.3, waiting_max=8, kv_usage_max=0.3)
    calm = Gauges(running=20, waiting=0, kv_usage=0.3, waiting_max=0, kv_usage_max=0.3)
    # 30,000 tokens in use and 8 x 1,200 waiting against 30,000 held: it grows. Later the same use without a queue does
    # too, where the cache alone (80,000) would have been thought enough.
    first = rule.decide(view(one, {"fp8": reading()}, {"fp8": 2}, time_s=0.0, gauges=queued))
    later = rule.decide(view(one, {"fp8": reading()}, {"fp8": 2}, time_s=300.0, gauges=calm))
    fresh = policy("wva-v2", one).decide(view(one, {"fp8": reading()}, {"fp8": 2}, gauges=calm))
    assert first.replicas[KEY, "fp8"] > 2
    assert later.replicas[KEY, "fp8"] == 3
    assert fresh.replicas[KEY, "fp8"] <= 2


def test_wva_v2_runs_with_both_of_its_samples_stabilisations() -> None:
    names = [make().name for make in registry.makers("wva-v2", scenario(spec("fp8")))]
    assert names == [
        "wva-v2 window_s=0", "wva-v2@fp8 window_s=0", "wva-v2 window_s=60", "wva-v2@fp8 window_s=60",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["wva-v1@fp8", "wva-v2@fp8", "wva-qm@fp8"])
def test_wva_with_one_tier_removes_the_others(name: str) -> None:
    two = spec("bf16", "fp8")
    now = view(two, {"bf16": reading(), "fp8": reading()}, {"bf16": 1, "fp8": 1})
    assert policy(name, two).decide(now).replicas[KEY, "bf16"] == 0


def test_a_tuned_rival_tries_its_shipped_setting_first_and_names_each_setting() -> None:
    names = [make().name for make in registry.makers("slo-keda*@fp8", scenario(spec("fp8")))]
    assert names[0] == "slo-keda*@fp8"
    assert "slo-keda*@fp8 high=0.7" in names
    assert "slo-keda*@fp8 high=0.55" not in names


def test_wva_qm_keeps_the_fleet_that_carries_the_load() -> None:
    one = spec("fp8")
    rule = policy("wva-qm", one)
    calm = rule.decide(view(one, {"fp8": reading(arrival_rps=0.1)}, {"fp8": 1}))
    loaded = rule.decide(view(one, {"fp8": reading(arrival_rps=40.0)}, {"fp8": 1}))
    assert calm.replicas[KEY, "fp8"] == 1
    assert loaded.replicas[KEY, "fp8"] > 1


def test_dynamo_decides_once_per_interval_and_at_most_eight_at_a_time() -> None:
    one = spec("fp8")
    rule = policy("dynamo@fp8", one)
    wishes = [
        rule.decide(view(one, {"fp8": reading(arrival_rps=500.0)}, {"fp8": 2}, time_s=t)).replicas[KEY, "fp8"]
        for t in range(0, 181, 15)
    ]
    assert wishes == [2] * 12 + [10]


def test_dynamo_follows_half_of_the_change_between_two_intervals() -> None:
    """A replica's best batch serves 22 requests/s: 20 need one, 60 after 20 are expected to become 80 and need four."""
    one = spec("fp8")
    rule, seen = policy("dynamo@fp8", one), [1]
    for t in range(0, 361, 15):
        now = view(one, {"fp8": reading(arrival_rps=20.0 if t <= 180 else 60.0)}, {"fp8": seen[-1]}, time_s=t)
        seen.append(rule.decide(now).replicas[KEY, "fp8"])
    assert seen[1:] == [1] * 24 + [4]


@pytest.mark.parametrize(("headroom", "after"), [(1.0, 1), (1.3, 2)])
def test_dynamos_knob_multiplies_the_demand(headroom: float, after: int) -> None:
    """A replica's best batch serves 22 requests/s: 20 need one, 26 need two."""
    one = spec("fp8")
    rule = Dynamo(scenario(one), "fp8", headroom=headroom)
    seen = [rule.decide(view(one, {"fp8": reading(arrival_rps=20.0)}, {"fp8": 2}, time_s=t)) for t in range(0, 181, 15)]
    assert seen[-1].replicas[KEY, "fp8"] == after


@pytest.mark.parametrize(
    ("itl_s", "ready", "after"),
    [(0.05, 2, 1), (0.012, 2, 2), (0.05, 1, 2)],
    ids=["the largest batch", "the largest batch inside the target", "it holds while a replica starts"],
)
def test_dynamo_divides_by_the_best_batch(itl_s: float, ready: int, after: int) -> None:
    """22 requests/s with 83 running, 16 with the 39 whose tokens take at most 12 ms."""
    one = replace(spec("fp8"), slo=Slo(ttft_s=1.0, itl_s=itl_s))
    rule = policy("dynamo@fp8", one)
    seen = [
        rule.decide(view(one, {"fp8": reading(arrival_rps=20.0)}, {"fp8": 2}, ready={"fp8": ready}, time_s=t))
        for t in range(0, 181, 15)
    ]
    assert seen[-1].replicas[KEY, "fp8"] == after


def test_dynamo_counts_on_one_request_at_a_time_where_prefill_alone_misses_the_target() -> None:
    """1.2 s of prefill: a token takes 14.4 ms with one running, so 0.35 requests/s; the full batch serves 0.41."""
    one = spec("fp8")
    rule, long = policy("dynamo@fp8", one), reading(arrival_rps=2.0, prompt_tokens_mean=60_000.0)
    seen = [rule.decide(view(one, {"fp8": long}, {"fp8": 4}, time_s=t)) for t in range(0, 181, 15)]
    assert seen[-1].replicas[KEY, "fp8"] == 6


@pytest.mark.parametrize(
    ("arrival_rps", "before", "after"),
    [(0.0, 4, 1), (0.0, 12, 4), (0.5, 4, 4)],
    ids=["nobody asks: one engine stays", "and at most eight go at a time", "none has finished yet: it holds"],
)
def test_dynamo_without_a_finished_request(arrival_rps: float, before: int, after: int) -> None:
    one = spec("fp8")
    rule = policy("dynamo@fp8", one)
    quiet = reading(arrival_rps=arrival_rps, prompt_tokens_mean=None, output_tokens_mean=None)
    seen = [rule.decide(view(one, {"fp8": quiet}, {"fp8": before}, time_s=t)) for t in range(0, 181, 15)]
    assert [choice.replicas[KEY, "fp8"] for choice in seen] == [before] * 12 + [after]


@pytest.mark.parametrize(("queued", "after"), [(0.0, 0), (3.0, 1)], ids=["nobody waits", "three wait: one engine"])
def test_dynamo_comes_back_from_zero_for_who_waits_at_the_end_of_an_interval(queued: float, after: int) -> None:
    one = replace(spec("fp8"), replicas_min=0, scale_to_zero=ScaleToZero(idle_s=300.0))
    rule = policy("dynamo@fp8", one)
    seen = [rule.decide(view(one, {}, {"fp8": 0}, time_s=t, queued=queued)) for t in range(0, 181, 15)]
    assert [choice.replicas[KEY, "fp8"] for choice in seen] == [0] * 12 + [after]


@pytest.mark.parametrize(
    ("name", "least"),
    [("keda-waiting", 0), ("keda-epp", 1), ("slo-keda", 1), ("token-keda", 1), ("hpa-gpu", 1)],
)
@pytest.mark.parametrize("before", [0, 1])
def test_an_idle_rival_stays_at_its_shipped_minimum(name: str, least: int, before: int) -> None:
    """Zero is allowed here, but llm-d's ScaledObjects state `minReplicaCount` 1 and more, and HPA knows no zero."""
    one = replace(spec("fp8"), replicas_min=0, scale_to_zero=ScaleToZero(idle_s=300.0))
    rule, wanted = policy(f"{name}@fp8", one), before
    for tick in range(60):
        readings = {"fp8": reading(arrival_rps=0.0, gpu_utilization=0.0, kv_cache_usage=0.0)} if wanted else {}
        wanted = rule.decide(view(one, readings, {"fp8": wanted}, time_s=15.0 * tick)).replicas[KEY, "fp8"]
    assert wanted == least


@pytest.mark.parametrize("name", [*registry.RIVALS, *registry.FLEETS])
def test_every_rival_has_a_knob_for_hindsight(name: str) -> None:
    two = spec("bf16", "fp8")
    plain, tuned = (len(list(registry.makers(n, scenario(two)))) for n in (name, f"{name}*"))
    _, values = {**registry.RIVALS, **registry.FLEETS}[name].KNOB
    assert tuned == plain * len(values)
    for make in registry.makers(f"{name}*", scenario(two)):
        assert make().decide(view(two, {"bf16": reading()}, {"bf16": 1})).replicas


@pytest.mark.parametrize("name", ["wva-v1@fp8", "wva-v2@fp8", "wva-qm@fp8"])
def test_wva_lets_a_deployment_sleep_while_another_one_is_busy(name: str) -> None:
    office = replace(spec("fp8"), replicas_min=0, scale_to_zero=ScaleToZero(idle_s=300.0))
    asleep, other = view(office, {}, {"fp8": 0}), Key("prod", "other")
    busy = DeploymentObservation(tiers={"fp8": TierState(ready=2, reading=reading(running=60.0))})
    pod = Gauges(running=30, waiting=0, kv_usage=0.5, waiting_max=0, kv_usage_max=0.5)
    now = replace(
        asleep,
        observation=replace(asleep.observation, deployments={**asleep.observation.deployments, other: busy}),
        wanted={**asleep.wanted, (other, "fp8"): 2},
        gauges=lambda tier: [pod, pod] if tier[0] == other else [],
    )
    assert policy(name, office).decide(now).replicas[KEY, "fp8"] == 0
    woken = view(office, {}, {"fp8": 0}, queued=3.0)
    assert policy(name, office).decide(woken).replicas[KEY, "fp8"] == 1


@pytest.mark.parametrize("name", ["wva-v1@fp8", "wva-v2@fp8", "wva-qm@fp8"])
def test_wva_holds_without_prometheus(name: str) -> None:
    one = spec("fp8")
    full = Gauges(running=60, waiting=20, kv_usage=0.95, waiting_max=20, kv_usage_max=0.95)
    rule = policy(name, one)
    for tick in range(40):
        now = view(one, {}, {"fp8": 2}, time_s=15.0 * tick, gauges=full)
        assert rule.decide(now).replicas[KEY, "fp8"] == 2


def test_aibrix_queries_pods_itself_and_works_without_prometheus() -> None:
    one = spec("fp8")
    full = Gauges(running=60, waiting=20, kv_usage=0.95, waiting_max=20, kv_usage_max=0.95)
    assert policy("aibrix-apa@fp8", one).decide(view(one, {}, {"fp8": 2}, gauges=full)).replicas[KEY, "fp8"] == 4


DAY = Schedule(
    name="day", cron="0 8 * * *", time_zone="UTC", duration_s=3600.0, replicas_min=5, replicas_max=6
)  # fmt: skip
EIGHT_S = 8 * 3600.0


@pytest.mark.parametrize("name", [*registry.RIVALS, *registry.FLEETS])
@pytest.mark.parametrize("load", ["idle", "busy"])
def test_every_rival_keeps_a_schedule_and_the_minimum_of_the_tiers(name: str, load: str) -> None:
    base = spec("bf16", "fp8", schedules=(DAY,))
    of = replace(base, tiers=(replace(base.tiers[0], replicas_min=1), base.tiers[1]))
    full, none = (Gauges(running=n, waiting=n, kv_usage=n, waiting_max=n, kv_usage_max=n) for n in (1, 0))
    heavy = {"running": 5000.0, "waiting": 900.0, "gpu_utilization": 1.0, "arrival_rps": 900.0, "kv_cache_usage": 1.0}
    seen = reading(**(heavy if load == "busy" else dict.fromkeys(heavy, 0.0)))
    rule, wanted = policy(f"{name}@fp8", of), {"bf16": 3, "fp8": 2}
    for tick in range(40):
        gauges = full if load == "busy" else none
        now = view(of, {"bf16": seen, "fp8": seen}, wanted, time_s=EIGHT_S + 15.0 * tick, gauges=gauges)
        wanted = {t: rule.decide(now).replicas.get((KEY, t), wanted[t]) for t in wanted}
    assert wanted["bf16"] == 1
    assert 5 <= sum(wanted.values()) <= 6


@pytest.mark.parametrize(
    ("own", "at_s", "wish"),
    [
        ({"fp8": 9}, EIGHT_S - 60, {"bf16": 1, "fp8": 9}),
        ({"fp8": 9}, EIGHT_S, {"bf16": 1, "fp8": 5}),
        ({"fp8": 2}, EIGHT_S, {"bf16": 1, "fp8": 4}),
        ({"fp8": 2, "bf16": 2}, EIGHT_S, {"bf16": 2, "fp8": 3}),
        ({"fp8": 9}, EIGHT_S + 3600, {"bf16": 1, "fp8": 9}),
    ],
    ids=["before", "no more than the schedule allows", "as many as it asks for", "the first fills up", "after"],
)
def test_a_fixed_fleet_is_moved_by_a_schedule(own: dict[str, int], at_s: float, wish: dict[str, int]) -> None:
    base = spec("bf16", "fp8", schedules=(DAY,))
    of = replace(base, tiers=(replace(base.tiers[0], replicas_min=1), base.tiers[1]))
    fixed = Static({(KEY, name): count for name, count in own.items()})
    now = view(of, {}, {"bf16": 3, "fp8": 9}, time_s=at_s)
    assert fixed.decide(now).replicas == {(KEY, name): count for name, count in wish.items()}


@pytest.mark.parametrize("name", [*registry.RIVALS, *registry.FLEETS])
def test_a_rival_starts_its_own_tier_before_it_removes_the_others(name: str) -> None:
    two = spec("bf16", "fp8")
    choice = policy(f"{name}@fp8", two).decide(view(two, {"bf16": reading()}, {"bf16": 2}))
    assert choice.replicas == {(KEY, "fp8"): 1}


@pytest.mark.parametrize("name", [*registry.RIVALS, *registry.FLEETS])
def test_no_rival_leaves_the_bounds(name: str) -> None:
    two = spec("bf16", "fp8")
    busy = Gauges(running=256, waiting=90, kv_usage=1.0, waiting_max=90, kv_usage_max=1.0)
    rule = policy(name, two)
    wanted = {"bf16": 20, "fp8": 0}
    for tick in range(30):
        heavy = reading(running=5000.0, waiting=900.0, gpu_utilization=1.0, arrival_rps=900.0, kv_cache_usage=1.0)
        now = view(two, {"bf16": heavy}, wanted, time_s=15.0 * tick, gauges=busy, queued=500.0)
        wish = rule.decide(now).replicas
        assert all(0 <= n <= 20 for n in wish.values())
