"""Failures in a whole sandbox on the real control plane: what must not go wrong then."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.world import A100, BF16, DEPLOYMENTS, FP8, H100, INT4, Settled, World, chat, steady, tier, world
from tidegate.sandbox.kube import Kind, Object

pytestmark = pytest.mark.cluster
REAL = "kubernetes"


async def first_replica(sandbox: World) -> Settled:
    """Waits for the first ready replica."""
    return await sandbox.until("the first replica is ready", lambda seen: seen.ready() >= 1)


async def test_a_switch_of_tiers_loses_no_request(tmp_path: Path) -> None:
    """The quality floor rises above the tier in use: it finishes what it has, the front holds the rest."""
    async with world(REAL, [H100, chat(BF16, FP8)], tmp_path) as sandbox:
        before = await first_replica(sandbox)
        assert before.count("fp8", "ready") == 1
        traffic = sandbox.replay(steady(2.0, seconds=75))
        await asyncio.sleep(10)
        await sandbox.change(quality={"minimum": "1"})
        await sandbox.until(
            "bf16 has taken over", lambda seen: seen.count("bf16", "ready") >= 1 and seen.count("fp8") == 0
        )
        clients = await traffic.finish()
        assert (clients.failed, clients.requests) == (0, traffic.expected)


async def test_an_operator_killed_in_the_middle_of_a_scale_up_goes_on(tmp_path: Path) -> None:
    """`kill -9` while replicas start: the next operator neither forgets them nor starts them twice."""
    async with world(REAL, [H100, chat(FP8)], tmp_path) as sandbox:
        await first_replica(sandbox)
        await sandbox.change(minReplicas=4)
        await sandbox.until("replicas start", lambda seen: seen.total() > 1)
        sandbox.kill_operator()
        await sandbox.start_operator()
        await sandbox.until("all four serve", lambda seen: seen.ready() == 4)
        await sandbox.always("four, neither more nor fewer", lambda seen: seen.total() == 4, seconds=15)


async def test_without_prometheus_nothing_shrinks_and_with_it_all_is_well_again(tmp_path: Path) -> None:
    async with world(REAL, [H100, chat(FP8)], tmp_path) as sandbox:
        await first_replica(sandbox)
        traffic = sandbox.replay(steady(4.0, seconds=120))
        await sandbox.until(
            "metrics are there", lambda seen: seen.condition("MetricsAvailable")[0] == "True" and seen.ready() >= 1
        )
        await asyncio.sleep(15)
        sandbox.stop_prometheus()
        blind = await sandbox.until(
            "the lack is reported", lambda seen: seen.condition("MetricsAvailable")[0] == "False", timeout_s=60
        )
        held = blind.status["replicas"]
        await sandbox.always("no replica goes", lambda seen: seen.status["replicas"] >= held, seconds=20)
        sandbox.start_prometheus()
        await sandbox.until("metrics are back", lambda seen: seen.condition("MetricsAvailable")[0] == "True")
        assert (await traffic.finish()).failed == 0


def occupant(name: str, node: str, gpus: int) -> Object:
    """A foreign pod that holds GPUs of one node."""
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}}
    labels = {"app": name}
    spec = {"nodeSelector": {"kubernetes.io/hostname": node}, "terminationGracePeriodSeconds": 0}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {**spec, "containers": [{"name": "train", "image": "train:1", "resources": resources}]},
            },
        },
    }


async def test_replicas_that_find_no_gpus_are_planned_around(tmp_path: Path) -> None:
    """
    Two GPUs are free, one on each of two nodes: enough in total, but no room for a replica that needs two.

    The real scheduler reports it; the plan then uses the tier that fits, although its quality is below the wanted mean.
    """
    documents = [
        H100,
        A100,
        occupant("others-0", "nvidia-h100-0", 7),
        occupant("others-1", "nvidia-h100-1", 3),
        chat(BF16, INT4, quality={"minimum": "0.95", "averageMinimum": "0.99"}, mode="Off"),
    ]
    async with world(REAL, documents, tmp_path) as sandbox:
        await sandbox.until("the others have their GPUs", lambda seen: seen.count("?", "ready") == 2)
        await sandbox.change(mode="Auto")
        short = await sandbox.until("bf16 waits for GPUs", lambda seen: seen.count("bf16", "pending") >= 1)
        assert short.count("bf16", "ready") == 0
        around = await sandbox.until(
            "int4 serves in its place", lambda seen: seen.count("int4", "ready") >= 1, timeout_s=300
        )
        assert around.count("bf16", "ready") == 0


async def test_a_build_that_never_gets_ready_is_planned_around(tmp_path: Path) -> None:
    """fp8 has started successfully before, so its start-up time is known; then comes a build whose port never opens."""
    quality = {"minimum": "0.95", "averageMinimum": "0.99"}
    async with world(REAL, [H100, A100, chat(FP8, INT4, quality=quality)], tmp_path) as sandbox:
        before = await first_replica(sandbox)
        assert before.count("fp8", "ready") == 1
        await sandbox.change(replicas=0)
        await sandbox.until("all is off", lambda seen: seen.total() == 0)
        model = "Qwen/Qwen3-32B-FP8"
        broken = tier("fp8", "nvidia-h100", quality="0.995", model=model, fault="never-ready")
        await sandbox.change(tiers=[broken, INT4], replicas=None)
        await sandbox.until("the new build starts", lambda seen: seen.count("fp8", "starting") >= 1)
        around = await sandbox.until(
            "int4 serves in its place", lambda seen: seen.count("int4", "ready") >= 1, timeout_s=240
        )
        assert around.count("fp8", "ready") == 0


async def test_a_person_who_deletes_pods_gets_them_back(tmp_path: Path) -> None:
    async with world(REAL, [H100, chat(FP8)], tmp_path) as sandbox:
        await first_replica(sandbox)
        pods = (await sandbox.kube.get("/api/v1/namespaces/prod/pods"))["items"]
        await sandbox.kube.delete(f"/api/v1/namespaces/prod/pods/{pods[0]['metadata']['name']}")
        await sandbox.until("another pod serves", lambda seen: seen.ready() == 1 and seen.total() == 1)
        names = {each["metadata"]["name"] for each in (await sandbox.kube.get("/api/v1/namespaces/prod/pods"))["items"]}
        assert pods[0]["metadata"]["name"] not in names


async def test_manual_scaling_is_detected(tmp_path: Path) -> None:
    """Somebody scales a tier's Deployment manually: the operator reports who, and corrects it after a while."""
    async with world(REAL, [H100, chat(FP8)], tmp_path) as sandbox:
        await first_replica(sandbox)
        # Before metrics are there the plan holds whatever exists, a stranger's replicas too.
        await sandbox.until("metrics", lambda seen: seen.condition("MetricsAvailable") == ("True", "Fresh"))
        await sandbox.kube.patch(f"{DEPLOYMENTS}/chat-fp8", {"spec": {"replicas": 3}}, Kind.MERGE)
        seen = await sandbox.until(
            "the hand is reported", lambda seen: seen.condition("ScalingLimited") == ("True", "OtherWriter")
        )
        assert seen.status["replicas"] >= 1


async def test_a_build_that_dies_at_its_first_request_is_planned_around(tmp_path: Path) -> None:
    """Healthy until the first request, after each restart again: it does not count as capacity; the status says why."""
    quality = {"minimum": "0.95", "averageMinimum": "0.99"}
    broken = tier("fp8", "nvidia-h100", quality="0.995", model="Qwen/Qwen3-32B-FP8", fault="dead-at-first-request")
    async with world(REAL, [H100, A100, chat(broken, INT4, quality=quality)], tmp_path) as sandbox:
        before = await first_replica(sandbox)
        assert before.count("fp8", "ready") == 1
        sandbox.replay(steady(1.0, seconds=200))
        await sandbox.until("int4 serves in its place", lambda seen: seen.count("int4", "ready") >= 1, timeout_s=180)
        told = await sandbox.until(
            "the status says why", lambda seen: seen.condition("CapacityAvailable") == ("False", "ReplicasStuck")
        )
        assert "CrashLoopBackOff: container vllm exited with code" in str(told.status["conditions"])


async def test_replicas_that_a_quota_forbids_are_planned_around(tmp_path: Path) -> None:
    """The quota allows one GPU: the second replica is never created, and the status has the quota's message."""
    quota: Object = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": "prod"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "1"}},
    }
    async with world(REAL, [H100, quota, chat(FP8, minReplicas=2)], tmp_path) as sandbox:
        told = await sandbox.until(
            "the status says why",
            lambda seen: (
                seen.condition("CapacityAvailable") == ("False", "ReplicasStuck")
                and "exceeded quota: gpus" in str(seen.status["conditions"])
            ),
        )
        assert told.count("fp8") == 1
