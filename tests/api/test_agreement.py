"""
Models and API server reach the same verdict on random manifests.
"""

import random
from typing import Any

import pytest

from tests.api.manifests import ACCELERATOR, GOOD, MINIMAL, Absent, changed
from tests.api.test_api_server import create, server
from tidegate.api import convert
from tidegate.errors import SpecError

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="session")]
__all__ = ["server"]

DECIMALS = [
    "0",
    "0.0",
    "1",
    "1.0",
    "0.95",
    "0.99",
    "0.999999999",
    "1.000000001",
    "40",
    "-1",
    "+1",
    "1e3",
    "01",
    ".5",
    "5.",
    "",
    "½",
]
COUNTS = [-1, 0, 1, 2, 5, 20, 24, 25, 10_000, 10_001, "3", None, True]
WORDS = ["", "a", "A", "a-b", "-a", "a_b", "a.b", "a" * 41, "a" * 64, "ä", "a b"]
POOL: dict[str, list[Any]] = {
    "spec.mode": ["Auto", "Off", "off", "", None],
    "spec.replicas": COUNTS,
    "spec.minReplicas": COUNTS,
    "spec.maxReplicas": COUNTS,
    "spec.priority": [-1, 0, 10**9, 10**9 + 1, "1"],
    "spec.slo.ttftMilliseconds": COUNTS,
    "spec.slo.attainment": DECIMALS,
    "spec.cost": [Absent, {}, {"budgetPerHour": "0"}, {"budgetPerHour": "1"}, None],
    "spec.cost.budgetPerHour": DECIMALS,
    "spec.quality": [Absent, {}, {"minimum": "1"}, {"averageMinimum": "1"}, None],
    "spec.quality.minimum": DECIMALS,
    "spec.quality.averageMinimum": DECIMALS,
    "spec.scaleToZero": [Absent, {}, {"idleSeconds": 10}, {"activationQuery": ""}],
    "spec.schedules": [Absent, [], None],
    "spec.schedules.0.name": WORDS,
    "spec.schedules.0.cron": ["* * * * *", "*/5 0-6 1,2 JAN MON-FRI", "* * * *", "a b c d e", " * * * *", "*  * * * *"],
    "spec.schedules.0.timeZone": ["UTC", "Europe/Berlin", "Europe/", "/", "", "Etc/GMT+3", "9"],
    "spec.schedules.0.minReplicas": COUNTS,
    "spec.schedules.0.maxReplicas": COUNTS,
    "spec.tiers.0.name": WORDS,
    "spec.tiers.0.quality": DECIMALS,
    "spec.tiers.0.accelerator": WORDS,
    "spec.tiers.0.acceleratorsPerReplica": COUNTS,
    "spec.tiers.0.minReplicas": COUNTS,
    "spec.tiers.0.maxReplicas": COUNTS,
    "spec.tiers.1.minReplicas": COUNTS,
    "spec.tiers.1.targetRef": [Absent, None, {"apiVersion": "v1", "kind": "X", "name": "x"}],
    "spec.tiers.0.workload": [Absent, None, {"image": "x"}, {"image": ""}, {}],
    "spec.tiers.0.workload.env": [Absent, [], [{"name": "A"}], [{"name": ""}], [{"name": "A"}, {"name": "A"}]],
    "spec.tiers.0.workload.resources.requests": [
        *({"cpu": amount} for amount in (1, "1.5", "1e3", "500m", "x", "", "1" * 33, True, 1.5, None)),
        {"cpu": 1, "memory": None},
    ],
    "spec.tiers.0.performance.kvCacheTokens": COUNTS,
    "spec.tiers.0.performance.decodeBaseMilliseconds": DECIMALS,
    "metadata.name": ["a", "a1", "1a", "a-", "a.b", "A", "a" * 58, "a" * 59],
}
CLASS_POOL: dict[str, list[Any]] = {
    "spec.pricePerHour": DECIMALS,
    "spec.currency": ["EUR", "eur", "EURO", "", 1],
    "spec.capacity": COUNTS,
    "spec.memoryGiB": COUNTS,
    "spec.resourceName": ["amd.com/gpu", "gpu", "/gpu", "a.b/c/d", ""],
    "spec.nodeSelector": [{}, {"a/b": ""}, {"a": "B_c.d"}, {"a": "-"}, {"a": 1}, {"a": None}, Absent, None],
}
# Named after what only the parser in the operator can see; the server accepts them.
BEYOND_SCHEMA = ("timeZone", "cron")


def draw(chance: random.Random, text: str, pool: dict[str, list[Any]]) -> dict[str, Any] | None:
    """A manifest with a few fields changed; None if the changes exclude each other."""
    picked = chance.sample(sorted(pool), chance.choice([1, 1, 2, 3]))
    try:
        return changed(text, {path: chance.choice(pool[path]) for path in picked})
    except (KeyError, IndexError, TypeError):
        return None


def refused(manifest: dict[str, Any]) -> SpecError | None:
    try:
        if manifest["kind"] == "AcceleratorClass":
            convert.accelerator_of(manifest)
        else:
            convert.deployment_of(manifest)
    except SpecError as fault:
        return fault
    return None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("text", "pool"),
    [(GOOD, POOL), (MINIMAL, POOL), (ACCELERATOR, CLASS_POOL)],
    ids=["everything", "the least", "a class"],
)
async def test_both_give_the_same_verdict(server: Any, text: str, pool: dict[str, list[Any]], seed: int) -> None:
    chance = random.Random(seed)
    verdicts = set()
    for _ in range(60):
        manifest = draw(chance, text, pool)
        if manifest is None:
            continue
        fault = refused(manifest)
        if fault is not None and fault.field.endswith(BEYOND_SCHEMA):
            continue
        if manifest["kind"] == "AcceleratorClass":
            manifest["metadata"]["name"] = "of-this-test"  # whatever else the server holds
        status, answer = await create(server, manifest, dryRun="All", fieldValidation="Ignore")
        assert (status != 201) == (fault is not None), (manifest, fault, answer.get("message"))
        verdicts.add(status)
    assert {201, 422} <= verdicts
