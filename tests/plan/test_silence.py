"""Deployments without metrics that share a pool: none loses replicas to another, whatever was starting at that time."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.fleets import Loop, estimate, spec, tick, tier, total
from tidegate.domain.decision import Decision, Reason
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, TierSpec

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
