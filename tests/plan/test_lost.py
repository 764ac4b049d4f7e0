"""Replicas that are lost with their nodes: Kubernetes counts them for five minutes, the plan does not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.plan.fleets import Loop, estimate, fleet, forecast, spec, tick, tier
from tidegate.domain.key import Key
from tidegate.domain.observation import TierState
from tidegate.domain.spec import Accelerator, Cost, DeploymentSpec

OD, SPOT = tier("od"), tier("spot", accelerator="l40s")
START = 8  # ticks: two minutes
GONE = 1_000_000  # ticks that a lost replica takes to start
LOAD = 8.0  # two replicas of either


class Failing(Loop):
    """Nodes die. Of the starting replicas the newest is removed first, as by a ReplicaSet."""

    def states(self, silent: Sequence[str] = (), rate: float = 1.0) -> dict[str, TierState]:
        lost = [name for left, name in self.starting if left > START]
        return {name: replace(state, lost=lost.count(name)) for name, state in super().states(silent, rate).items()}

    def lose(self, n: int = 1) -> None:
        """Of the tier `spot`."""
        self.ready["spot"] -= n
        self.starting[:0] = [(GONE, "spot")] * n
        self._resize(-n)

    def find(self) -> None:
        """The nodes are back, and their replicas serve."""
        lost = sum(left > START for left, _ in self.starting)
        self.ready["spot"] += lost
        self.starting = [each for each in self.starting if each[0] <= START]
        self._resize(lost)

    def _resize(self, n: int) -> None:
        pool = self.pools["l40s"]
        self.pools = {**self.pools, "l40s": replace(pool, capacity=(pool.capacity or 0) + n)}


def loop(wanted: DeploymentSpec, *, capacity: int = 8) -> Failing:
    pools = {
        "h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=8),
        "l40s": Accelerator(name="l40s", price_usd_per_hour=1.2, capacity=capacity),
    }
    estimates = {name: estimate(5) for name in ("od", "spot")}
    made = Failing(spec=wanted, estimates=estimates, pools=pools, ready={"spot": 2}, startup_ticks=START)
    assert fleet(made.run(forecast(LOAD), 30)) == {"spot": 2}
    return made


def spots(subject: Loop, ticks: int) -> list[int]:
    return [subject.tick(forecast(LOAD)).tiers["spot"].replicas for _ in range(ticks)]


@pytest.mark.parametrize(
    ("wanted", "requested"),
    [
        pytest.param(spec(SPOT), [3, 3], id="beside it"),
        pytest.param(spec(SPOT, OD), [3, 3], id="in its own tier if that has room"),
        pytest.param(spec(SPOT, replicas_max=2), [1, 2], id="after it is deleted, if its bounds are full"),
        pytest.param(spec(SPOT, cost=Cost(budget_usd_per_hour=3.0)), [1, 2], id="or its budget"),
    ],
)
def test_a_lost_replica_is_replaced_at_once(wanted: DeploymentSpec, requested: list[int]) -> None:
    subject = loop(wanted)
    subject.lose()
    assert spots(subject, 2) == requested
    assert spots(subject, START + 2)[-1] == 2
    assert (subject.ready["spot"], subject.starting) == (2, [])


def test_the_decision_says_what_is_lost() -> None:
    subject = loop(spec(SPOT, OD))
    subject.lose()
    decision = subject.tick(forecast(LOAD))
    assert decision.message == "1 x spot lost with their nodes; requested now: 3 x spot: $3.60/h"
    (found,) = [each for each in decision.conditions if each.type == "CapacityAvailable"]
    assert (found.reason, found.message) == ("ReplicasStuck", "replicas are lost with their nodes: spot")


def test_a_lost_replica_is_replaced_without_metrics_too() -> None:
    subject = loop(spec(SPOT))
    subject.lose()
    decisions = [subject.tick(forecast(LOAD), silent=["spot"]) for _ in range(START + 10)]
    assert {fleet(each)["spot"] for each in decisions} == {3}
    assert subject.ready["spot"] == 2
    assert spots(subject, 2)[-1] == 2


def test_a_node_that_returns_before_its_replica_is_replaced_takes_it_back() -> None:
    subject = loop(spec(SPOT))
    subject.lose()
    assert spots(subject, 4)[-1] == 3
    subject.find()
    assert spots(subject, 2)[-1] == 2
    assert subject.ready["spot"] == 2


def test_many_lost_replicas_are_replaced_at_once_and_not_again() -> None:
    subject = loop(spec(SPOT))
    subject.lose(2)
    assert spots(subject, START + 4) == [4] * (START + 1) + [2] * 3


def test_in_a_full_pool_another_tier_takes_over_before_the_lost_replicas_are_given_up() -> None:
    subject = loop(spec(SPOT, OD), capacity=2)
    subject.lose(2)
    decisions = [subject.tick(forecast(LOAD)) for _ in range(START + 4)]
    assert [fleet(each) for each in decisions[:2]] == [{"spot": 2, "od": 2}] * 2
    assert fleet(decisions[-1]) == {"od": 2}


def test_where_nothing_could_take_over_lost_replicas_are_waited_for() -> None:
    subject = loop(spec(SPOT), capacity=2)
    subject.lose(2)
    assert set(spots(subject, 40)) == {2}
    subject.find()
    assert set(spots(subject, 4)) == {2}


def test_in_a_shared_pool_a_lost_replica_of_a_high_priority_is_replaced_by_one_of_a_low_priority() -> None:
    high, low = loop(spec(SPOT, priority=10), capacity=4), loop(spec(SPOT, key=Key("prod", "low")), capacity=4)
    high.lose()
    decisions = [tick([high, low], [LOAD, LOAD], high.pools) for _ in range(START + 2)]
    assert [fleet(each) for each in decisions[0]] == [{"spot": 3}, {"spot": 1}]
    assert (high.ready, low.ready) == ({"spot": 2}, {"spot": 1})
