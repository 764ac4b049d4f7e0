"""Sharing accelerators: exhaustive search, the integer program, and the fallback."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.plan import combine as room
from tidegate.plan.combine import Option, combine, hardly_better, in_turn

Decide = Callable[[list[list[Option]], dict[str, int]], list[Option]]


@st.composite
def pools(draw: st.DrawFn, *, promised: bool = False) -> tuple[list[list[Option]], list[int], dict[str, int]]:
    """Options of some deployments; with `promised` some of them are below a bound, or take from a silent one."""
    short = st.sampled_from((0, 0, 1, 2) if promised else (0,))
    names = ("h100", "l40s")[: draw(st.integers(1, 2))]
    options = []
    for _ in range(draw(st.integers(1, 4))):
        few = [
            Option(
                fleet=(i,),
                used=tuple((name, draw(st.integers(0, 5))) for name in names),
                missed=draw(st.sampled_from((0.0, 0.01, 0.2, 0.9))),
                quality_lost=draw(st.sampled_from((0.0, 1.0))),
                usd_per_hour=draw(st.sampled_from((1.0, 3.0, 7.5, 12.0))),
                under=draw(short),
                taken=draw(short),
            )
            for i in range(draw(st.integers(1, 4)))
        ]
        nothing = Option(fleet=(0,), used=tuple((n, 0) for n in names), missed=1.0, quality_lost=0.0, usd_per_hour=0.0)
        options.append([*few, nothing])
    priorities = sorted([draw(st.sampled_from((1, 10, 100))) for _ in options], reverse=True)
    return options, priorities, {name: draw(st.integers(0, 12)) for name in names}


def fits(chosen: Sequence[Option], capacity: dict[str, int]) -> bool:
    return all(sum(dict(o.used)[name] for o in chosen) <= most for name, most in capacity.items())


@settings(max_examples=80, deadline=None)
@given(pools(promised=True))
def test_exhaustive_search_and_the_integer_program_agree(
    case: tuple[list[list[Option]], list[int], dict[str, int]],
) -> None:
    options, priorities, capacity = case
    fitting = [list(c) for c in product(*options) if fits(c, capacity)]
    best = min(room._rank(c, priorities) for c in fitting)
    assert room._rank(combine(options, priorities, capacity), priorities) == best
    for first in (in_turn(options, capacity), [of[-1] for of in options]):
        solved = room._by_programs(options, priorities, capacity, first)
        assert solved is not None
        assert fits(solved, capacity)
        assert all(abs(a - b) < 1e-4 for a, b in zip(room._rank(solved, priorities), best, strict=True))


@settings(max_examples=80, deadline=None)
@given(pools())
def test_the_fallback_fits_and_serves_the_highest_priority_best(
    case: tuple[list[list[Option]], list[int], dict[str, int]],
) -> None:
    options, _, capacity = case
    chosen = in_turn(options, capacity)
    assert fits(chosen, capacity)
    alone = [o.missed for o in options[0] if all(n <= capacity[name] for name, n in o.used)]
    assert chosen[0].missed == min(alone)


def test_more_combinations_than_can_be_tried_are_still_decided() -> None:
    options = [
        [
            Option(fleet=(n,), used=(("h100", n),), missed=(6 - n) / 10, quality_lost=0.0, usd_per_hour=3.0 * n)
            for n in range(6, -1, -1)
        ]
        for _ in range(8)
    ]  # fmt: skip
    priorities = [100, 100, 10, 10, 10, 1, 1, 1]
    chosen = combine(options, priorities, {"h100": 20})
    assert [o.fleet[0] for o in chosen[:2]] == [6, 6]
    assert sum(o.fleet[0] for o in chosen) == 20
    assert sum(o.fleet[0] for o in chosen[2:5]) == 8


def option(used: int, *, missed: float = 0.0, usd: float = 0.0, under: int = 0, taken: int = 0) -> Option:
    return Option(
        fleet=(used,),
        used=(("h100", used),),
        missed=missed,
        quality_lost=0.0,
        usd_per_hour=usd,
        under=under,
        taken=taken,
    )


@pytest.mark.parametrize(
    ("lower", "got"),
    [
        ([option(2), option(1, missed=0.1), option(0, missed=0.9)], [4, 0]),
        ([option(2), option(1, missed=0.1, under=1), option(0, missed=0.9, under=2)], [2, 2]),
        ([option(2), option(1, missed=0.1, taken=1), option(0, missed=0.9, taken=2)], [2, 2]),
    ],
    ids=["a wish waits", "a bound is kept", "what silence holds is kept"],
)
@pytest.mark.parametrize("decide", [in_turn, lambda options, room_: combine(options, [100, 1], room_)])
def test_what_a_higher_priority_leaves(lower: list[Option], got: list[int], decide: Decide) -> None:
    higher = [option(4), option(3, missed=0.2), option(2, missed=0.4), option(1, missed=0.6), option(0, missed=0.9)]
    assert [o.fleet[0] for o in decide([higher, lower], {"h100": 4})] == got


@pytest.mark.parametrize("decide", [in_turn, lambda options, room_: combine(options, [100, 1, 1], room_)])
@pytest.mark.parametrize("promise", ["under", "taken"])
def test_of_promises_that_do_not_all_fit_the_highest_priority_keeps_its_own(promise: str, decide: Decide) -> None:
    """Two small replicas of others would fit in place of its large one."""
    large = [option(8), replace(option(0, missed=0.9), **{promise: 1})]
    small = [option(1), replace(option(0, missed=0.9), **{promise: 1})]
    assert [o.fleet[0] for o in decide([large, small, small], {"h100": 8})] == [8, 0, 0]


@pytest.mark.parametrize(
    ("new", "stays"),
    [
        (option(2, missed=0.30, usd=3.0), True),
        (option(2, missed=0.26, usd=12.0), True),
        (option(2, missed=0.20, usd=12.0), False),
        (option(2, missed=0.30, usd=12.0, under=-1), False),
        (option(2, missed=0.30, usd=12.0, taken=-1), False),
        (option(2, missed=0.20, usd=12.0, taken=1), True),
    ],
    ids=[
        "cheaper alone is no reason",
        "a little better is none",
        "better by a twentieth is one",
        "a bound that is kept is one",
        "a replica that a silent one keeps is one",
        "better by a replica of a silent one is none",
    ],
)
def test_an_allocation_stands_until_another_is_better(new: Option, *, stays: bool) -> None:
    old = option(2, missed=0.30, usd=12.0)
    assert hardly_better([new], [old], [1]) is stays


def test_starting_replicas_are_taken_back_only_for_a_large_gain() -> None:
    old, new = option(2, missed=0.30, usd=12.0), option(1, missed=0.15, usd=12.0)
    assert not hardly_better([new], [old], [1])
    assert hardly_better([new], [old], [1], early=True)
    assert not hardly_better([option(1, missed=0.05, usd=12.0)], [old], [1], early=True)
