"""Deployments without metrics that share a pool: none loses replicas to another, whatever was starting at that time."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.fleets import POOLS, Loop, estimate, fleet, forecast, spec, tick, tier, total
from tidegate.domain.decision import Decision, Reason
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, Cost, TierSpec
from tidegate.plan import choose

NAMES = ("bf16", "fp8")
SLOW = 1_000  # ticks: never ready in a test


def loop(name: str, pools: Mapping[str, Accelerator], *tiers: TierSpec, priority: int = 1, **more: object) -> Loop:
    wanted = replace(spec(*tiers), key=Key("prod", name), priority=priority)
    estimates = {"bf16": estimate(5), "fp8": estimate(8)}
    return Loop(spec=wanted, estimates=estimates, pools=pools, **more)  # type: ignore[arg-type]


def pool(capacity: int) -> dict[str, Accelerator]:
    return {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=capacity)}


def round_of(loops: list[Loop], rates: list[float], *, silent: bool) -> list[Decision]:
    """One decision for all of them together, seen or not."""
    return tick(loops, rates, loops[0].pools, silent=NAMES if silent else ())


@st.composite
def pairs(draw: st.DrawFn) -> list[Loop]:
    """Two deployments that want more than there is; some of what they ask for comes late or never."""
    pools = pool(draw(st.integers(2, 10)))
    return [
        loop(
            name,
            pools,
            *[tier(n, quality=1.0, gpus=draw(st.integers(1, 2))) for n in NAMES[: draw(st.integers(1, 2))]],
            priority=draw(st.sampled_from((1, 50))),
            ready={"bf16": 1},
            startup_ticks=draw(st.sampled_from((0, 4, 12, SLOW))),
            stuck=frozenset(draw(st.sets(st.sampled_from(NAMES)))),
        )
        for name in ("a", "b")
    ]


loads = st.lists(st.floats(0.5, 60), min_size=2, max_size=2)


@settings(max_examples=40, deadline=None)
@given(pairs(), st.lists(loads, min_size=1, max_size=4), st.integers(1, 12), loads)
def test_two_silent_deployments_never_lose_replicas_to_each_other(
    loops: list[Loop], phases: list[list[float]], ticks: int, then: list[float]
) -> None:
    for rates in phases:
        for _ in range(ticks):
            before = round_of(loops, rates, silent=False)
    if not all(any(one.ready.values()) for one in loops):
        return  # nothing serves: that is no silence
    for _ in range(45):
        now = round_of(loops, then, silent=True)
        assert [total(d) >= total(b) for d, b in zip(now, before, strict=True)] == [True, True]
        assert [sum(one.ready.values()) > 0 for one in loops] == [True, True]
        assert sum(_used(one, d) for one, d in zip(loops, now, strict=True)) <= (loops[0].pools["h100"].capacity or 0)
        before = now


def _used(one: Loop, decision: Decision) -> int:
    return sum(t.accelerators_per_replica * decision.tiers[t.name].replicas for t in one.spec.tiers)


def test_what_a_silent_deployment_waits_for_goes_to_no_other_silent_one_that_wants_it_back() -> None:
    """The first takes accelerators from the second; then both lose their metrics, and the first's replicas are late."""
    pools = pool(6)
    first = loop("first", pools, tier("bf16"), priority=90, ready={"bf16": 1}, startup_ticks=SLOW)
    second = loop("second", pools, tier("bf16"), ready={"bf16": 5})
    for _ in range(4):
        round_of([first, second], [3.0, 22.0], silent=False)
    asked = round_of([first, second], [19.0, 22.0], silent=False)
    assert [total(d) for d in asked] == [4, 2]
    for _ in range(80):
        held = round_of([first, second], [19.0, 22.0], silent=True)
        assert [total(d) for d in held] == [4, 2]
    assert [d.reason for d in held] == [Reason.FALLBACK, Reason.FALLBACK]


@pytest.mark.parametrize(("capacity", "kept"), [(3, [2, 1]), (6, [4, 2])], ids=["a smaller pool", "the same pool"])
def test_a_pool_that_shrinks_takes_from_the_silent_too(capacity: int, kept: list[int]) -> None:
    loops = [loop("first", pool(6), tier("bf16"), priority=90), loop("second", pool(6), tier("bf16"))]
    for _ in range(8):
        dealt = round_of(loops, [19.0, 19.0], silent=False)
    assert [total(d) for d in dealt] == [4, 2]
    for one in loops:
        one.pools = pool(capacity)
    assert [total(d) for d in round_of(loops, [19.0, 19.0], silent=True)] == kept


def test_an_exchange_in_a_full_pool_waits_until_metrics_are_back() -> None:
    """The second is half-way from bf16 to fp8 when metrics go missing; without metrics neither tier may be removed."""
    pools = pool(6)
    first = loop("first", pools, tier("bf16", gpus=2), tier("fp8"), ready={"bf16": 1})
    second = loop("second", pools, tier("bf16", gpus=2), tier("fp8", gpus=2), ready={"bf16": 1})
    round_of([first, second], [1.0, 22.0], silent=False)
    assert second.ready == {"bf16": 1, "fp8": 1}
    for _ in range(40):
        round_of([first, second], [1.0, 1.0], silent=True)
        assert (first.ready, second.ready) == ({"bf16": 1, "fp8": 0}, {"bf16": 1, "fp8": 1})


def silent(subject: Loop, usual_rps: float | None, *, minutes: float = 0.0) -> Decision:
    """The last decision after so long without any metrics, at least one; four requests/s were seen last."""
    for _ in range(max(1, round(minutes * 60 / subject.tick_s))):
        decision = subject.tick(replace(forecast(4), usual_rps=usual_rps), silent=NAMES)
    return decision


def morning(**limits: object) -> Loop:
    """A night's fleet, just before its metrics stop."""
    subject = loop("chat", POOLS, tier("bf16"))
    subject.spec = replace(subject.spec, **limits)  # type: ignore[arg-type]
    assert fleet(subject.run(forecast(4), 40)) == {"bf16": 1}
    return subject


def test_a_fleet_without_metrics_grows_to_what_is_usual_at_the_hour() -> None:
    subject = morning()
    assert fleet(silent(subject, 19.0, minutes=4.5)) == {"bf16": 1}
    grown = silent(subject, 19.0, minutes=1)
    assert (fleet(grown), grown.reason) == ({"bf16": 4}, Reason.FALLBACK)
    assert "for at least the 19.0 req/s that are usual at this hour" in grown.message
    assert fleet(silent(subject, 2.0, minutes=60)) == {"bf16": 4}
    assert fleet(silent(subject, None)) == {"bf16": 4}


def unseen_so_far() -> Loop:
    """Its replica was never scraped."""
    return loop("chat", POOLS, tier("bf16"), ready={"bf16": 1})


def just_started() -> Loop:
    """For an hour it had no replica that could report."""
    subject = loop("chat", POOLS, tier("bf16"), stuck=frozenset({"bf16"}))
    subject.run(forecast(4), 240)
    subject.ready, subject.starting = {"bf16": 1}, []
    return subject


def just_resumed() -> Loop:
    """It was paused for an hour, and reported all the time."""
    subject = loop("chat", POOLS, tier("bf16"), ready={"bf16": 1})
    subject.spec = replace(subject.spec, paused=True)
    subject.run(forecast(4), 240)
    subject.spec = replace(subject.spec, paused=False)
    return subject


@pytest.mark.parametrize("made", [unseen_so_far, just_started, just_resumed])
def test_the_fallback_waits_five_minutes_however_long_ago_metrics_were_complete(made: Callable[[], Loop]) -> None:
    subject = made()
    held = silent(subject, 19.0, minutes=4.5)
    assert (fleet(held), held.reason) == ({"bf16": 1}, Reason.METRICS_MISSING)
    grown = silent(subject, 19.0, minutes=1)
    assert (fleet(grown), grown.reason) == ({"bf16": 4}, Reason.FALLBACK)


@pytest.mark.parametrize(
    "limits", [{"cost": Cost(budget_usd_per_hour=7.0)}, {"replicas_max": 2}], ids=["the budget", "the bound"]
)
def test_without_metrics_growth_ends_at_the_limits(limits: dict[str, object]) -> None:
    assert fleet(silent(morning(**limits), 19.0, minutes=10)) == {"bf16": 2}


def test_what_is_usual_at_night_is_no_reason_to_grow() -> None:
    assert fleet(silent(morning(), 3.0, minutes=30)) == {"bf16": 1}


@pytest.mark.parametrize(
    ("priority", "usual_rps", "ready"),
    [
        pytest.param(1, 9.0, (2, 4), id="of a lower priority: what is left"),
        pytest.param(1, 14.0, (1, 4), id="of a lower priority: not enough is left to help"),
        pytest.param(100, 14.0, (3, 3), id="of a higher priority"),
    ],
)
def test_in_a_shared_pool_usual_demand_counts_like_any_other(
    priority: int, usual_rps: float, ready: tuple[int, int]
) -> None:
    pools = pool(6)
    blind = loop("blind", pools, tier("bf16"), priority=priority, ready={"bf16": 1})
    seen = loop("seen", pools, tier("bf16"), priority=50, ready={"bf16": 4})
    for _ in range(60):
        expecting = replace(forecast(4), usual_rps=usual_rps)
        problems = [blind.problem(expecting, silent=NAMES), seen.problem(forecast(18))]
        outcome = choose(problems, accelerators=pools, time_s=blind.time_s)
        for one in (blind, seen):
            one.memory, decision = outcome[one.spec.key]
            one.obey(decision)
            one.time_s += one.tick_s
    assert (blind.ready["bf16"], seen.ready["bf16"]) == ready
