"""The core's memory: versioned, small, and an invalid part does not invalidate the others."""

import json
from dataclasses import replace

import pytest

from tests.test_cycle import drive, fleet_of
from tidegate.memory import MEMORY_VERSION, DeploymentMemory

LIMIT_BYTES = 4096


@pytest.fixture(scope="module")
def memory() -> DeploymentMemory:
    """After two hours of rising and falling load on three tiers."""
    final, _ = drive(rates=[10 + 30 * (i // 60 % 2) for i in range(240)])
    return final.deployments[fleet_of().key]


def test_it_is_read_back_as_it_was_written(memory: DeploymentMemory) -> None:
    assert DeploymentMemory.from_json(json.loads(json.dumps(memory.to_json()))) == memory


def test_three_stages_with_three_tiers_stay_under_the_budget(memory: DeploymentMemory) -> None:
    assert len(json.dumps(memory.to_json()).encode()) < LIMIT_BYTES


def test_another_version_is_not_read(memory: DeploymentMemory) -> None:
    assert DeploymentMemory.from_json(memory.to_json() | {"version": MEMORY_VERSION + 1}) == DeploymentMemory()


@pytest.mark.parametrize("part", ["estimate", "forecast", "plan"])
@pytest.mark.parametrize("damage", [{}, [], "text", None, {"names": 3}, {"tiers": None}], ids=str)
def test_a_damaged_part_is_dropped_alone(memory: DeploymentMemory, part: str, damage: object) -> None:
    read = DeploymentMemory.from_json(memory.to_json() | {part: damage})
    whole = replace(memory, **{part: getattr(read, part)})  # type: ignore[arg-type]
    assert read == whole


@pytest.mark.parametrize(
    ("field", "damage"),
    [
        ("ideal", [-1, 0, 0]),
        ("target", [float("nan"), 0, 0]),
        ("capacities", [float("inf"), 1.0, 1.0]),
        ("prices", [-5.0, 1.0, 1.0]),
        ("given", 9),
        ("binding", "Weather"),
        ("load", float("nan")),
        ("shown", -1.0),
        ("peaks", [0, [0, -1.0]]),
        ("window", -1.0),
        ("watched", float("inf")),
        ("progress", [[-1, [], 0, 0.0]] * 3),
        ("progress", [[0, [[1.0, -2]], 0, 0.0]] * 3),
        ("progress", [[0, [], 0, float("nan")]] * 3),
        ("regret", [None, float("nan"), 0.0, [], 0.0, 0, None]),
        ("regret", [None, 5.0, 6.0, [1], 0.0, 1, None]),
        ("misses", [1.0, 0.0, 2.0, None, 1.0]),
        ("misses", [1.0, 0.0, 1.0, None, 1e300]),
        ("grant", {"h100": [-1, 8]}),
    ],
)
def test_a_plan_that_cannot_have_been_is_dropped_alone(memory: DeploymentMemory, field: str, damage: object) -> None:
    value = json.loads(json.dumps(memory.to_json()))
    assert len(value["plan"]["names"]) == 3
    value["plan"][field] = damage
    assert DeploymentMemory.from_json(value) == replace(memory, plan=None)


def test_a_part_that_holds_null_where_a_mapping_belongs_is_dropped_alone(memory: DeploymentMemory) -> None:
    value = json.loads(json.dumps(memory.to_json()))
    value["plan"]["grant"] = None
    read = DeploymentMemory.from_json(value)
    assert (read.estimate, read.forecast, read.plan) == (memory.estimate, memory.forecast, None)
