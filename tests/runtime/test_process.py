"""The operator as one process on an embedded control plane."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.observe.fake_prometheus import FAILURES
from tests.runtime.rig import CHAT, DEPLOYMENTS, OURS, Rig, accelerator, inference_deployment, rigged, workload
from tidegate.errors import SpecError
from tidegate.ports import ApiError
from tidegate.runtime import process
from tidegate.sandbox.fault_proxy import Fault, Kind

IDLE = {"running": 1.0, "started": 0.1, "finished": 0.1, "prompt_tokens": 100.0, "output_tokens": 20.0}
# Per replica: four times what one can carry.
BUSY = {
    "running": 200.0,
    "waiting": 40.0,
    "kv_usage": 0.9,
    "started": 60.0,
    "finished": 60.0,
    "prompt_tokens": 60_000.0,
    "output_tokens": 12_000.0,
}


@pytest_asyncio.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, monkeypatch) as made:
        yield made


async def test_a_resource_becomes_replicas_and_a_status(rig: Rig) -> None:
    await rig.chat()
    async with rig.operator():

        async def served() -> bool:
            return bool((await rig.get(CHAT)).get("status", {}).get("replicas") == 2)

        await rig.until(served)
        assert await rig.replicas() == 2
        status = (await rig.get(CHAT))["status"]
        assert status["observedGeneration"] == 1
        assert status["decision"]["reason"]
        lease = await rig.get("/apis/coordination.k8s.io/v1/namespaces/tidegate-system/leases/tidegate")
        assert lease["spec"]["holderIdentity"]


async def test_the_process_runs_as_a_user_without_a_name(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image's user is a number without an entry in /etc/passwd, and so is the one that OpenShift assigns."""

    def nobody(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "POD_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    await rig.chat()
    async with rig.operator():
        await rig.until(lambda: _replicas(rig, 2))


async def test_other_tiers_serve_while_a_target_is_missing(rig: Rig) -> None:
    (bf16,) = inference_deployment()["spec"]["tiers"]
    target = {**bf16["targetRef"], "name": "chat-fp8"}
    fp8 = {**bf16, "name": "fp8", "quality": "0.99", "minReplicas": 2, "targetRef": target}
    await rig.chat(tiers=[bf16, fp8])

    async def warned() -> bool:
        found = (await rig.get(CHAT)).get("status", {}).get("conditions", [])
        return ("ConfigurationWarning", "TargetNotFound") in {(c["type"], c["reason"]) for c in found}

    async def handed_over() -> bool:
        return not await warned() and await rig.replicas("chat-fp8") == 2 and await rig.replicas() == 0

    async with rig.operator():
        await rig.until(warned)
        await rig.until(lambda: _replicas(rig, 2))
        rig.reports = IDLE
        await rig.create(DEPLOYMENTS, workload("chat-fp8", replicas=0))
        await rig.until(handed_over, limit_s=30.0)


async def test_other_tiers_serve_if_a_tier_cannot_be_created(rig: Rig) -> None:
    """Somebody else has a Deployment of that name: it is not touched, and the plan does not count on the tier."""
    (base,) = inference_deployment()["spec"]["tiers"]
    built = {k: v for k, v in base.items() if k != "targetRef"} | {"workload": {"image": "vllm/vllm-openai:v0.32.0"}}
    taken = {**built, "name": "fp8", "quality": "0.99", "minReplicas": 2}
    tiers = [taken, {**built, "name": "int4", "quality": "0.95"}]
    await rig.create(DEPLOYMENTS, workload("chat-fp8", replicas=1))
    await rig.chat(tiers=tiers)

    async def served() -> bool:
        found = await rig.get(f"{DEPLOYMENTS}/chat-int4")
        return "spec" in found and found["spec"]["replicas"] == 2

    async with rig.operator():
        await rig.until(served, limit_s=30.0)
        reasons = {(c["type"], c["reason"]) for c in (await rig.get(CHAT))["status"]["conditions"]}
        assert ("Stalled", "NameTaken") in reasons
        assert await rig.replicas("chat-fp8") == 1


async def test_a_service_of_the_same_name_is_not_taken_over(rig: Rig) -> None:
    """It has no selector of its own that would conflict: until now the model was served elsewhere."""
    (base,) = inference_deployment()["spec"]["tiers"]
    built = {k: v for k, v in base.items() if k != "targetRef"} | {"workload": {"image": "vllm/vllm-openai:v0.32.0"}}
    services = "/api/v1/namespaces/prod/services"
    theirs = {"type": "ExternalName", "externalName": "api.example.com"}
    await rig.create(services, {"metadata": {"name": "chat"}, "spec": theirs})
    await rig.create(f"{OURS}/acceleratorclasses", accelerator())
    await rig.create(f"{OURS}/namespaces/prod/inferencedeployments", inference_deployment(tiers=[built]))

    async def stalled() -> bool:
        found = (await rig.get(CHAT))["status"].get("conditions", [])
        return ("Stalled", "NameTaken") in [(c["type"], c["reason"]) for c in found]

    async with rig.operator():
        await rig.until(lambda: _ready(rig, 2))
        await rig.until(stalled)
        service = await rig.get(f"{services}/chat")
        assert "ownerReferences" not in service["metadata"]
        assert "ports" not in service["spec"]


async def test_a_deployment_restored_from_a_backup_is_left_alone_until_it_has_its_owner_again(rig: Rig) -> None:
    """Velero restores a Deployment without owner, and the resource that it was made for gets another uid."""
    (base,) = inference_deployment()["spec"]["tiers"]
    built = {k: v for k, v in base.items() if k != "targetRef"} | {"workload": {"image": "vllm/vllm-openai:v0.32.0"}}
    ours, path = f"{OURS}/namespaces/prod/inferencedeployments", f"{DEPLOYMENTS}/chat-bf16"
    await rig.create(f"{OURS}/acceleratorclasses", accelerator())
    await rig.create(ours, inference_deployment(tiers=[built]))
    async with rig.operator():
        await rig.until(lambda: _ready(rig, 2))
        saved = await rig.get(path)
    await rig.delete(CHAT)
    await rig.until(lambda: _ready(rig, 0))
    meta = {name: saved["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
    await rig.create(DEPLOYMENTS, {"metadata": meta, "spec": saved["spec"]})
    restored = await rig.create(ours, inference_deployment(tiers=[built], minReplicas=3))

    async def stalled(wanted: bool) -> bool:
        found = (await rig.get(CHAT))["status"].get("conditions", [])
        return wanted is (("Stalled", "NameTaken") in [(c["type"], c["reason"]) for c in found])

    async with rig.operator():
        await rig.until(lambda: stalled(True))
        await rig.until(lambda: _ready(rig, 2))
        pods = set(await rig.ready_pods())
        owner = {key: restored[key] for key in ("apiVersion", "kind")} | {"name": "chat", "controller": True}
        owner["uid"] = restored["metadata"]["uid"]
        await rig.patch(path, {"metadata": {"ownerReferences": [owner]}})
        await rig.until(lambda: _ready(rig, 3))
        await rig.until(lambda: stalled(False))
        assert pods <= set(await rig.ready_pods()), "no pod is started anew"


async def test_nothing_is_added_to_a_users_object(rig: Rig) -> None:
    await rig.chat()
    async with rig.operator():
        await rig.until(lambda: _has_status(rig))
        await rig.patch(CHAT, {"spec": {"minReplicas": 3}})
        await rig.until(lambda: _replicas(rig, 3))
        meta = (await rig.get(CHAT))["metadata"]
        assert "finalizers" not in meta
        assert "annotations" not in meta
        await rig.delete(CHAT)
        await asyncio.sleep(3 * 0.3)
    assert await rig.replicas() == 3, "a workload that was pointed at stays as it is"


async def test_more_load_means_more_replicas(rig: Rig) -> None:
    await rig.chat()
    rig.reports = IDLE
    async with rig.operator():
        await rig.until(lambda: _ready(rig, 2))
        rig.reports = BUSY
        await rig.until(lambda: _more_than(rig, 2))


async def test_what_was_scaled_by_hand_while_nothing_was_seen_is_not_overwritten(rig: Rig) -> None:
    await rig.chat()
    rig.reports = IDLE
    async with rig.operator():
        await rig.until(lambda: _ready(rig, 2))
        with rig.proxy.having(Fault(kind=Kind.HANG, path="watch=true")):
            rig.proxy.cut_watches()
            await rig.patch(CHAT, {"metadata": {"annotations": {"tidegate.io/paused": "true"}}})
            await rig.patch(f"{DEPLOYMENTS}/chat-bf16", {"spec": {"replicas": 12}})
            rig.proxy.seen.clear()
            rig.reports = BUSY
            await rig.until(lambda: _asked(rig))
            assert await rig.replicas() == 12


async def test_an_idle_deployment_scales_to_zero_and_wakes_for_a_waiting_request(rig: Rig) -> None:
    await rig.chat(minReplicas=0, scaleToZero={"idleSeconds": 60, "activationQuery": "gateway_queue"})
    rig.reports = dict.fromkeys(IDLE, 0.0)
    async with rig.operator():
        await rig.until(lambda: _replicas(rig, 0), limit_s=30.0)
        await asyncio.sleep(1.0)
        assert await rig.replicas() == 0
        rig.queued = 1.0
        await rig.until(lambda: _more_than(rig, 0))


@pytest.mark.parametrize("name", ["503 while it restarts", "a login page with 200", "no answer at all"])
async def test_nothing_shrinks_while_prometheus_is_silent(rig: Rig, name: str) -> None:
    await rig.chat()
    await rig.patch(f"{DEPLOYMENTS}/chat-bf16", {"spec": {"replicas": 6}})
    rig.reports = BUSY
    async with rig.operator():
        await rig.until(lambda: _has_status(rig))
        before = await rig.replicas()
        rig.handler = FAILURES[name][0]
        await asyncio.sleep(2.5)
        assert await rig.replicas() >= before
        conditions = {c["type"]: c for c in (await rig.get(CHAT))["status"]["conditions"]}
        if name != "no answer at all":  # its ticks take five seconds each
            assert conditions["MetricsAvailable"]["status"] == "False"


async def test_one_of_two_processes_acts_and_the_other_takes_over_within_three_seconds(rig: Rig) -> None:
    await rig.chat()
    async with rig.operator(identity="first") as stop:
        await rig.until(lambda: _holder(rig, "first"))
        async with rig.operator(identity="second"):
            await rig.until(lambda: _has_status(rig))
            assert await _holder(rig, "first")
            began_s = time.monotonic()
            stop.set()
            await rig.until(lambda: _holder(rig, "second"))
            assert time.monotonic() - began_s < 3.0
            await rig.patch(CHAT, {"spec": {"minReplicas": 4}})
            await rig.until(lambda: _replicas(rig, 4))


async def test_a_restart_of_the_operator_changes_nothing(rig: Rig) -> None:
    await rig.chat()
    rig.reports = IDLE
    async with rig.operator():
        await rig.until(lambda: _has_status(rig))
        await rig.until(lambda: _ready(rig, 2))
        await asyncio.sleep(1.0)
        before = await rig.get(f"{DEPLOYMENTS}/chat-bf16")
        status = (await rig.get(CHAT))["status"]
    async with rig.operator():
        await asyncio.sleep(2.0)
        after = await rig.get(f"{DEPLOYMENTS}/chat-bf16")
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert _without_time((await rig.get(CHAT))["status"]) == _without_time(status)


async def test_a_stop_takes_less_than_three_seconds_and_releases_the_lease(rig: Rig) -> None:
    await rig.chat()
    async with rig.operator() as stop:
        await rig.until(lambda: _has_status(rig))
        began_s = time.monotonic()
        stop.set()
        await rig.until(lambda: _holder(rig, ""))
    assert time.monotonic() - began_s < 3.0


async def test_a_stop_is_quick_while_prometheus_hangs(rig: Rig) -> None:
    await rig.chat()
    rig.handler = FAILURES["no answer at all"][0]
    began_s = 0.0
    async with rig.operator() as stop:
        await asyncio.sleep(1.5)
        began_s = time.monotonic()
        stop.set()
    assert time.monotonic() - began_s < 3.0


async def test_a_stop_before_the_start_is_complete_works(rig: Rig) -> None:
    stop = asyncio.Event()
    stop.set()
    await process.run(rig.settings(), stop)


async def test_a_stop_while_waiting_for_the_api_server_is_quick(rig: Rig) -> None:
    stop = asyncio.Event()
    with rig.proxy.having(Fault(kind=Kind.STATUS, code=503)):
        task = asyncio.create_task(process.run(rig.settings(), stop))
        await asyncio.sleep(1.0)
        assert not task.done()
        began_s = time.monotonic()
        stop.set()
        await task
    assert time.monotonic() - began_s < 3.0


async def test_missing_permissions_are_reported_at_once(rig: Rig) -> None:
    with rig.proxy.having(Fault(kind=Kind.STATUS, code=403)), pytest.raises(ApiError):
        await process.run(rig.settings(), asyncio.Event())


async def test_without_crds_it_says_what_to_do(rig: Rig) -> None:
    for plural in ("inferencedeployments", "acceleratorclasses"):
        await rig.delete(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.tidegate.io")
    with pytest.raises(SpecError, match="kubectl apply --server-side -f crds/"):
        await process.run(rig.settings(), asyncio.Event())


async def test_a_part_that_dies_ends_the_process(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(process, "_pulse", dies)
    with pytest.raises(ExceptionGroup) as caught:
        await process.run(rig.settings(), asyncio.Event())
    assert process._log_end(caught.value) == 1


async def test_a_part_that_ends_by_itself_ends_the_process_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends(_: Any) -> None:
        return

    monkeypatch.setattr(process, "_pulse", ends)
    with pytest.raises(ExceptionGroup):
        await process.run(rig.settings(), asyncio.Event())


async def test_a_shard_leaves_deployments_of_others_alone(rig: Rig) -> None:
    await rig.chat()
    async with rig.operator(shard="blue"):
        await asyncio.sleep(1.5)
        assert not await _has_status(rig)
        await rig.patch(CHAT, {"metadata": {"labels": {"tidegate.io/shard": "blue"}}})
        await rig.until(lambda: _has_status(rig))


async def _has_status(rig: Rig) -> bool:
    """Whether the operator has written a status; before that it has only its default."""
    return "conditions" in (await rig.get(CHAT)).get("status", {})


async def _replicas(rig: Rig, count: int) -> bool:
    return await rig.replicas() == count


async def _more_than(rig: Rig, count: int) -> bool:
    return await rig.replicas() > count


async def _asked(rig: Rig) -> bool:
    """Whether a change of replicas was requested and answered."""
    return any(seen.method == "PATCH" and "/scale" in seen.path and seen.status for seen in rig.proxy.seen)


async def _ready(rig: Rig, count: int) -> bool:
    return len(await rig.ready_pods()) == count


async def _holder(rig: Rig, name: str) -> bool:
    lease = await rig.get("/apis/coordination.k8s.io/v1/namespaces/tidegate-system/leases/tidegate")
    return bool(lease.get("spec", {}).get("holderIdentity", "?") == name)


def _without_time(status: dict[str, Any]) -> dict[str, Any]:
    """What was decided and found, without times and changing numbers."""
    kept = {name: status[name] for name in ("observedGeneration", "replicas", "readyReplicas", "mix")}
    desired = [(tier["name"], tier["desired"]) for tier in status["tiers"]]
    return kept | {"desired": desired, "conditions": [(c["type"], c["status"]) for c in status["conditions"]]}
