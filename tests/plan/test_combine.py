"""Sharing accelerators: trying all, the integer program, and the safe answer."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.plan import combine as room
from tidegate.plan.combine import Option, combine, in_turn


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[list[Option]], list[int], dict[str, int]]:
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
            )
            for i in range(draw(st.integers(1, 4)))
        ]
        nothing = Option(fleet=(0,), used=tuple((n, 0) for n in names), missed=1.0, quality_lost=0.0, usd_per_hour=0.0)
        options.append([*few, nothing])
    priorities = sorted([draw(st.sampled_from((1, 10, 100))) for _ in options], reverse=True)
    return options, priorities, {name: draw(st.integers(0, 12)) for name in names}


@settings(max_examples=80, deadline=None)
@given(pools())
def test_trying_and_the_integer_program_agree_with_every_combination(
    case: tuple[list[list[Option]], list[int], dict[str, int]],
) -> None:
    options, priorities, capacity = case
    fitting = [list(c) for c in product(*options) if room._fits(c, capacity)]
    best = min(room._rank(c, priorities) for c in fitting)
    assert room._rank(combine(options, priorities, capacity), priorities) == best
    solved = room._solved(options, priorities, capacity)
    assert solved is not None
    assert all(abs(a - b) < 1e-4 for a, b in zip(room._rank(solved, priorities), best, strict=True))


@settings(max_examples=80, deadline=None)
@given(pools())
def test_the_safe_answer_fits_and_serves_the_highest_priority_best(
    case: tuple[list[list[Option]], list[int], dict[str, int]],
) -> None:
    options, _, capacity = case
    chosen = in_turn(options, capacity)
    assert room._fits(chosen, capacity)
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
