"""
Accelerators held by deployments that are not planned are not available to the others.
"""

from dataclasses import replace

import pytest

from tests.plan.fleets import spec, tier
from tidegate.domain.holdings import left_by, shared_by
from tidegate.domain.observation import DeploymentObservation, TierState
from tidegate.domain.spec import Accelerator

POOLS = {
    "h100": Accelerator(name="h100", price_usd_per_hour=3.0, capacity=16),
    "l40s": Accelerator(name="l40s", price_usd_per_hour=1.0),
}


SPEC = spec(tier("big", gpus=4), tier("small"), tier("other", accelerator="l40s"))


def left(**states: TierState) -> dict[str, int | None]:
    found = left_by([(SPEC, DeploymentObservation(tiers=states))], POOLS)
    assert {name: replace(pool, capacity=None) for name, pool in found.items()} == {
        name: replace(pool, capacity=None) for name, pool in POOLS.items()
    }
    return {name: pool.capacity for name, pool in found.items()}


@pytest.mark.parametrize(
    ("states", "capacity"),
    [
        pytest.param({}, 16, id="nothing is seen of it"),
        pytest.param({"big": TierState(ready=1, starting=1)}, 8, id="ready and starting ones, by their size"),
        pytest.param({"big": TierState(ready=1), "small": TierState(ready=3)}, 9, id="two tiers on one class"),
        pytest.param({"big": TierState(terminating=2)}, 16, id="what is on its way out"),
        pytest.param({"big": TierState(ready=9)}, 0, id="more than there is"),
        pytest.param({"gone": TierState(ready=9)}, 16, id="a tier that the spec does not have"),
    ],
)
def test_capacity_is_reduced_by_what_unplanned_deployments_hold(states: dict[str, TierState], capacity: int) -> None:
    assert left(**states)["h100"] == capacity


def test_a_class_without_a_limit_keeps_none() -> None:
    assert left(other=TierState(ready=5))["l40s"] is None


def test_a_workload_that_two_deployments_claim_is_counted_once() -> None:
    seen = DeploymentObservation(tiers={"big": TierState(ready=1), "other": TierState(ready=1)})
    shared = shared_by([(spec(tier("big", gpus=4)), seen)], POOLS)
    assert shared["h100"].capacity == 20
    assert shared["l40s"].capacity is None
    assert left_by([(SPEC, seen), (SPEC, seen)], shared)["h100"].capacity == 12


def test_several_unplanned_deployments_are_subtracted_together() -> None:
    seen = DeploymentObservation(tiers={"big": TierState(ready=1)})
    assert left_by([(SPEC, seen), (SPEC, seen)], POOLS)["h100"].capacity == 8
