"""Tiers whose nodes an autoscaler brings: what waits for one, and what does not."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tick, tier
from tidegate.domain.decision import Constraint, Decision
from tidegate.domain.key import Key
from tidegate.domain.observation import TierState
from tidegate.domain.spec import Accelerator, TierSpec
from tidegate.plan.awaited import Vacancies

OD, SPOT = tier("od", high=8), tier("spot", accelerator="l40s", high=8)
ESTIMATES = {"od": estimate(5), "spot": estimate(5)}  # usual after 120 s, late after 300
NODE, START = 8, 8  # ticks: two minutes for a node, two for a server
LOAD = 8.0  # two replicas of either


def pools(*, unprovisioned: int = 8) -> dict[str, Accelerator]:
    return {
        "h100": Accelerator(name="h100", price_usd_per_hour=3.0),
        "l40s": Accelerator(name="l40s", price_usd_per_hour=1.2, capacity=8, unprovisioned=unprovisioned),
    }


@dataclass
class Autoscaled(Loop):
    """What is asked for of the tiers `elastic` is unschedulable until its node is there."""

    startup_ticks: int = NODE + START
    elastic: tuple[str, ...] = ("spot",)
    leaving: dict[str, int] = field(default_factory=dict)

    def states(self, silent: Sequence[str] = (), rate: float = 1.0) -> dict[str, TierState]:
        found = super().states(silent, rate)
        for elastic in self.elastic:
            waiting = sum(left > START for left, name in self.starting if name == elastic)
            found[elastic] = replace(found[elastic], unschedulable=waiting)
        return {name: replace(state, terminating=self.leaving.get(name, 0)) for name, state in found.items()}


def loop(od: int = 2, **more: object) -> Autoscaled:
    both = spec(OD, SPOT)
    return Autoscaled(spec=both, estimates=ESTIMATES, pools=pools(), ready={"od": od}, **more)  # type: ignore[arg-type]


def switching(**more: object) -> Autoscaled:
    """It has just asked for replicas of the cheaper tier."""
    subject = loop(**more)  # type: ignore[arg-type]
    while not fleet(subject.tick(forecast(LOAD))).get("spot"):
        assert len(subject.history) < 40
    return subject


def spots(decisions: Sequence[Decision]) -> list[int]:
    return [decision.tiers["spot"].replicas for decision in decisions]


def test_a_switch_that_saves_money_waits_for_the_nodes_it_needs() -> None:
    subject = switching()
    last = subject.run(forecast(LOAD), NODE + START + 2)
    assert fleet(last) == {"spot": 2}
    asked = spots(subject.history)
    assert asked == sorted(asked)


def test_where_no_node_can_come_nothing_waits_for_one() -> None:
    subject = switching()
    subject.pools = pools(unprovisioned=0)
    assert fleet(subject.run(forecast(LOAD), 4)) == {"od": 2}


def test_nodes_that_are_slower_than_a_late_start_up_are_reached_as_well() -> None:
    """Twenty minutes: three times the tier counts as stuck, and is asked for anew and for longer."""
    subject = switching(startup_ticks=80)
    assert fleet(subject.run(forecast(LOAD), 400)) == {"spot": 2}


def test_a_load_that_comes_meanwhile_is_not_left_to_wait() -> None:
    subject = switching()
    subject.run(forecast(LOAD), 3)
    grown = subject.tick(forecast(2 * LOAD))
    assert fleet(grown) == {"od": 4}


def test_a_lower_bound_is_not_left_to_wait() -> None:
    subject = switching()
    subject.run(forecast(LOAD), 3)
    subject.spec = replace(subject.spec, replicas_min=3)
    assert fleet(subject.tick(forecast(LOAD))) == {"od": 3}


def test_a_load_that_is_foreseen_is_not_left_to_wait_either() -> None:
    """It comes before replicas of the other tier could be ready, were they asked for later."""
    subject = switching()
    subject.run(forecast(LOAD), 3)
    soon, *later = forecast(LOAD).horizons
    rising = (soon, *[replace(h, rates_rps=tuple(2 * rate for rate in h.rates_rps)) for h in later])
    assert fleet(subject.tick(replace(forecast(LOAD), horizons=rising))) == {"od": 4}


def test_where_no_other_tier_could_take_over_a_rise_meanwhile_is_asked_for_at_once() -> None:
    subject = Autoscaled(spec=spec(SPOT), estimates=ESTIMATES, pools=pools(), ready={"spot": 2})
    subject.run(forecast(LOAD), 2)
    subject.run(forecast(1.5 * LOAD), 4)
    assert fleet(subject.tick(forecast(2 * LOAD))) == {"spot": 4}


def test_before_anything_serves_the_next_tier_is_asked_for_after_half_a_minute() -> None:
    subject = loop(0)
    subject.run(forecast(LOAD), 4)
    assert fleet(subject.history[0]) == {"spot": 2}
    assert fleet(subject.history[-1]) == {"od": 2}


def test_of_two_tiers_that_need_nodes_the_one_whose_nodes_come_serves() -> None:
    """The cheaper one is out of stock. The other one is not given up for it before its node is there."""
    subject = loop(0, elastic=("od", "spot"), stuck=frozenset({"spot"}))
    subject.pools = {name: replace(pool, capacity=8, unprovisioned=8) for name, pool in pools().items()}
    subject.run(forecast(LOAD / 2), NODE + START + 4)
    assert subject.ready == {"od": 1, "spot": 0}


def test_nodes_that_never_come_are_asked_for_ever_less_often() -> None:
    subject = switching(startup_ticks=100_000)
    subject.run(forecast(LOAD), 2_000)
    asked = [bool(n) for n in spots(subject.history)]
    begins = [i for i, (before, now) in enumerate(pairwise(asked)) if now and not before]
    waits = [b - a for a, b in pairwise(begins)]
    assert len(begins) < 8
    assert waits == sorted(waits)
    assert all(decision.tiers["od"].replicas == 2 for decision in subject.history)


def test_what_waits_for_nodes_gives_way_to_who_misses_targets() -> None:
    """Of eight accelerators two are kept for a saving of the more important one; the other one needs them all."""
    saving = switching()
    saving.spec = replace(saving.spec, priority=100)
    other = Loop(spec=spec(SPOT, key=Key("prod", "other")), estimates=ESTIMATES, ready={"spot": 7})
    other.time_s = saving.time_s
    for _ in range(6):
        _, needy = tick([saving, other], [LOAD, 38.0], pools())
    assert fleet(needy) == {"spot": 8}


def test_what_drains_does_not_make_room_of_nodes_that_are_not_there() -> None:
    """Another replica of the class leaves: what is missing are nodes all the same."""
    subject = loop(0, leaving={"spot": 1})
    subject.run(forecast(LOAD), 4)
    assert fleet(subject.history[-1]) == {"od": 2}


def test_a_replica_whose_node_has_just_come_is_about_to_be_scheduled() -> None:
    """It has waited for a minute and a half: it is not given up in the tick in which the scheduler finds the node."""
    subject = switching()
    subject.run(forecast(LOAD), NODE - 2)
    subject.pools = pools(unprovisioned=0)
    assert spots([subject.tick(forecast(LOAD)) for _ in range(2)]) == [2, 2]
    assert fleet(subject.run(forecast(LOAD), START + 1)) == {"spot": 2}


def test_a_replica_whose_node_has_come_for_somebody_else_is_given_up() -> None:
    subject = switching(startup_ticks=100_000)
    subject.run(forecast(LOAD), NODE - 2)
    subject.pools = pools(unprovisioned=0)
    assert spots([subject.tick(forecast(LOAD)) for _ in range(3)]) == [2, 2, 0]


def test_a_replica_that_waited_for_another_to_drain_is_about_to_be_scheduled() -> None:
    subject = switching(leaving={"spot": 2})
    subject.pools = pools(unprovisioned=0)
    subject.run(forecast(LOAD), NODE - 2)
    subject.leaving = {}
    assert spots([subject.tick(forecast(LOAD)) for _ in range(2)]) == [2, 2]


WIDE, NARROW = tier("wide", gpus=4), tier("narrow", gpus=1)
TWELVE = {"h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=12)}


def test_what_will_be_free_holds_whole_replicas_only() -> None:
    vacancies = Vacancies(freed={"h100": 7}, coming={"h100": 1})
    assert [vacancies.room(WIDE, new_nodes=new) for new in (False, True)] == [1, 2]
    assert vacancies.room(SPOT, new_nodes=True) == 0


def scattered(*tiers: TierSpec, placeable: int = 0, **more: object) -> Loop:
    """Twelve accelerators are free, but so spread over nodes that they hold only a few replicas of four."""
    estimates = {"wide": estimate(20), "narrow": estimate(2)}
    wanted = spec(*tiers, replicas_max=12)
    return Loop(spec=wanted, estimates=estimates, pools=TWELVE, placeable={"wide": placeable}, **more)  # type: ignore[arg-type]


def condition(decision: Decision, type_: str) -> tuple[str, str]:
    (found,) = [c for c in decision.conditions if c.type == type_]
    return found.reason, found.message


def test_replicas_that_no_node_can_hold_are_not_requested_and_the_decision_says_why() -> None:
    decision = scattered(WIDE, placeable=2).run(forecast(50), 3)
    assert fleet(decision) == {"wide": 2}
    assert decision.binding is Constraint.CAPACITY
    assert condition(decision, "CapacityAvailable") == (
        "AcceleratorsScattered",
        "no node has enough free accelerators for another replica of: wide",
    )
    roomy = scattered(WIDE, placeable=3).run(forecast(50), 3)
    assert (fleet(roomy), roomy.binding) == ({"wide": 3}, Constraint.NONE)


def test_a_tier_of_small_replicas_takes_over_what_no_node_can_hold() -> None:
    subject = scattered(WIDE, NARROW, placeable=1)
    decision = subject.tick(forecast(30))
    assert fleet(decision) == {"wide": 1, "narrow": 5}
    subject.placeable = {}  # others left their nodes
    subject.pools = {"h100": replace(TWELVE["h100"], capacity=16)}
    assert fleet(subject.run(forecast(30), 60)) == {"wide": 2}


def test_what_serves_stays_however_little_the_nodes_are_said_to_hold() -> None:
    subject = scattered(WIDE, placeable=0, ready={"wide": 2})
    assert fleet(subject.run(forecast(30), 60)) == {"wide": 2}


def test_a_lower_bound_gives_way_to_what_the_nodes_hold() -> None:
    subject = scattered(replace(WIDE, replicas_min=3), placeable=1)
    decision = subject.run(forecast(5), 3)
    assert (fleet(decision), decision.binding) == ({"wide": 1}, Constraint.CAPACITY)


def test_a_lower_priority_does_not_make_room_for_a_replica_that_no_node_can_hold() -> None:
    high = scattered(WIDE, placeable=1)
    high.spec = replace(high.spec, key=Key("prod", "high"), priority=10)
    low = scattered(NARROW, ready={"narrow": 8})
    for _ in range(40):
        decisions = tick([high, low], [50.0, 16.0], TWELVE)
        assert [fleet(each) for each in decisions] == [{"wide": 1}, {"narrow": 8}]
