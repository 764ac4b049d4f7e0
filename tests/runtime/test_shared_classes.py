"""
Installations side by side: what each one counts on shared nodes, and that none overwrites another's numbers.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.runtime.rig import CHAT, OURS, Json, Rig, accelerator, inference_deployment, rigged

CLASS = f"{OURS}/acceleratorclasses/nvidia-h100"
PODS = "/api/v1/namespaces/{}/pods"
IMAGE = {"image": "vllm/vllm-openai:v0.32.0"}
AMOUNT = {"nvidia.com/gpu": "8", "pods": "100"}
NODE: Json = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n1", "labels": {"gpu": "h100"}},
    "status": {"allocatable": AMOUNT, "capacity": AMOUNT, "conditions": [{"type": "Ready", "status": "True"}]},
}


@pytest_asyncio.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, monkeypatch) as made:
        await made.create("/api/v1/nodes", NODE)
        yield made


def managed(name: str, *, replicas: int, shard: str = "") -> Json:
    """A deployment of one managed tier, pinned to that many replicas."""
    made = inference_deployment(name, minReplicas=replicas, maxReplicas=4)
    (tier,) = made["spec"]["tiers"]
    made["spec"]["tiers"] = [{k: v for k, v in tier.items() if k != "targetRef"} | {"workload": IMAGE}]
    made["metadata"]["labels"] = {"tidegate.io/shard": shard} if shard else {}
    return made


def class_writes(rig: Rig) -> int:
    return sum(write.startswith(f"PATCH {OURS}/acceleratorclasses/") for write in rig.writes())


async def held(rig: Rig) -> dict[str, Any]:
    status = (await rig.get(CLASS)).get("status", {})
    return {name: value for name, value in status.items() if name.startswith("alloca")}


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        pytest.param(
            {"shard": ""},
            {"shard": "blue"},
            {"allocatable": 8, "allocatedByTidegate": 2, "allocatedByOthers": 3},
            id="one serves what the shards leave",
        ),
        pytest.param({"shard": "red"}, {"shard": "blue"}, {"allocatable": 8}, id="two shards"),
    ],
)
async def test_two_installations_do_not_overwrite_each_others_class_status(
    rig: Rig, first: Json, second: Json, shown: Json
) -> None:
    await rig.create(f"{OURS}/acceleratorclasses", accelerator(capacity=4, nodeSelector={"gpu": "h100"}))
    many = f"{OURS}/namespaces/prod/inferencedeployments"
    await rig.create(many, managed("chat", replicas=2, **first))
    await rig.create(many, managed("other", replicas=3, **second))

    async def settled() -> bool:
        return len(await rig.ready_pods()) == 5 and await held(rig) == shown

    async with rig.operator(**first), rig.operator(**second):
        await rig.until(settled)
        await asyncio.sleep(4 * rig.tick_s)
        before = class_writes(rig)
        await asyncio.sleep(8 * rig.tick_s)
        assert class_writes(rig) == before
    assert await held(rig) == shown


async def test_an_installation_for_one_namespace_counts_accelerators_of_all_pods(rig: Rig) -> None:
    spec = {k: v for k, v in accelerator(nodeSelector={"gpu": "h100"})["spec"].items() if k != "capacity"}
    await rig.create("/api/v1/namespaces", {"metadata": {"name": "training"}})
    limits = {"nvidia.com/gpu": "6"}
    await rig.create(
        PODS.format("training"),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "job", "namespace": "training"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x", "resources": {"limits": limits}}]},
        },
    )
    await rig.create(f"{OURS}/acceleratorclasses", accelerator() | {"spec": spec})
    await rig.create(f"{OURS}/namespaces/prod/inferencedeployments", managed("chat", replicas=3))

    async def planned() -> bool:
        return bool((await rig.get(CHAT)).get("status", {}).get("tiers"))

    async with rig.operator(namespace="prod"):
        await rig.until(planned)
        (tier,) = (await rig.get(CHAT))["status"]["tiers"]
        assert tier["desired"] == 2, "six of the eight are somebody else's"
