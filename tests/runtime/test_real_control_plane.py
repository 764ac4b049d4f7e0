"""The operator on a real API server: a resource becomes replicas and a status, and a deletion leaves nothing behind."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import install_crds
from tests.observe.fake_prometheus import always, serving, vector
from tests.runtime.rig import accelerator, inference_deployment, workload
from tidegate.runtime import process
from tidegate.sandbox.control_plane import RealControlPlane
from tidegate.settings import Settings

pytestmark = pytest.mark.cluster


async def until(condition: Callable[[], Awaitable[bool]], *, limit_s: float = 30.0) -> None:
    end_s = time.monotonic() + limit_s
    while not await condition():
        assert time.monotonic() < end_s, "it never came true"
        await asyncio.sleep(0.2)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_manifest_leads_to_replicas_a_status_and_a_lease(
    real_control_plane: RealControlPlane, namespace_name: str, tmp_path: Path
) -> None:
    account = real_control_plane.admin
    base = f"/apis/apps/v1/namespaces/{namespace_name}/deployments"
    ours = f"/apis/tidegate.io/v1alpha1/namespaces/{namespace_name}/inferencedeployments"
    class_ = accelerator()
    class_["metadata"]["name"] = namespace_name
    async with account.session() as kube, serving(always(vector)) as prometheus:

        async def post(path: str, body: dict[str, Any]) -> None:
            async with kube.post(path, json=body) as answer:
                assert answer.status == 201, await answer.text()

        async def get(path: str) -> dict[str, Any]:
            async with kube.get(path) as answer:
                return dict(await answer.json())

        await install_crds(kube)
        await post("/api/v1/namespaces", {"metadata": {"name": namespace_name}})
        await post("/apis/tidegate.io/v1alpha1/acceleratorclasses", class_)
        made = workload()
        made["metadata"]["namespace"] = namespace_name
        await post(base, made)
        wanted = inference_deployment(namespace=namespace_name)
        wanted["spec"]["tiers"][0]["accelerator"] = namespace_name
        await post(ours, wanted)
        settings = Settings(
            prometheus_url=prometheus.url,
            kubeconfig=str(account.write_kubeconfig(tmp_path / "kubeconfig")),
            namespace=namespace_name,
            operator_namespace=namespace_name,
            listen="127.0.0.1:0",
            history_days=0.0,
            tick=5.0,
        )
        stop = asyncio.Event()
        task = asyncio.create_task(process.run(settings, stop))
        try:

            async def served() -> bool:
                assert not task.done(), task.exception()
                return bool((await get(f"{ours}/chat")).get("status", {}).get("decision"))

            await until(served)
            assert (await get(f"{base}/chat-bf16"))["spec"]["replicas"] == 2
            chat = await get(f"{ours}/chat")
            assert "finalizers" not in chat["metadata"]
            assert chat["status"]["observedGeneration"] == 1
            managers = {m["manager"]: m for m in (await get(f"{base}/chat-bf16"))["metadata"]["managedFields"]}
            assert managers["tidegate"]["subresource"] == "scale"
            assert set(managers["tidegate"]["fieldsV1"]["f:spec"]) == {"f:replicas"}
            async with kube.delete(f"{ours}/chat") as answer:
                assert answer.status == 200
            await asyncio.sleep(1.0)
            assert (await get(f"{base}/chat-bf16"))["spec"]["replicas"] == 2
        finally:
            began_s = time.monotonic()
            stop.set()
            await task
        assert time.monotonic() - began_s < 3.0
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace_name}/leases"
        (lease,) = (await get(leases))["items"]
        assert lease["spec"]["holderIdentity"] == ""
