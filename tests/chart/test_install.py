"""
The chart on a real API server, with the real Helm: installed, upgraded, uninstalled; and the operator running with
exactly the roles that it creates.

No kubelet runs here, so the operator's pod stays Pending; the operator runs as a process with a token of the chart's
own service account.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.chart.rendering import Object
from tidegate.errors import SourceError
from tidegate.sandbox.binaries import Effort, provide
from tidegate.sandbox.control_plane import RealControlPlane
from tools import generate

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

GROUP = "/apis/tidegate.io/v1alpha1"
CLASS = {
    "apiVersion": "tidegate.io/v1alpha1",
    "kind": "AcceleratorClass",
    "metadata": {"name": "nvidia-h100"},
    "spec": {"pricePerHour": "3.00", "memoryGiB": 80, "nodeSelector": {"gpu": "h100"}},
}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "gpu-node", "labels": {"gpu": "h100"}},
    "status": {"allocatable": {"nvidia.com/gpu": "8"}, "capacity": {"nvidia.com/gpu": "8"}},
}


class Helm:
    """The real Helm, speaking to one API server."""

    def __init__(self, kubeconfig: Path) -> None:
        try:
            self._program = provide(["helm"], effort=Effort.LOOK)["helm"].path
        except SourceError as error:
            pytest.skip(f"no Helm here (`make binaries` gets it): {error}")
        self._kubeconfig = kubeconfig

    async def __call__(self, *arguments: str) -> str:
        """Output of one command; it must succeed."""
        process = await asyncio.create_subprocess_exec(
            str(self._program),
            *arguments,
            env={**os.environ, "KUBECONFIG": str(self._kubeconfig)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()


def deployment_of(namespace: str) -> Object:
    workload = {"image": "vllm/vllm-openai:v0.32.0", "args": ["--max-model-len", "8192"]}
    tier = {"name": "fp8", "quality": "0.99", "accelerator": "nvidia-h100", "acceleratorsPerReplica": 1}
    return {
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "InferenceDeployment",
        "metadata": {"name": "chat", "namespace": namespace},
        "spec": {
            "model": "meta-llama/Llama-3.1-8B-Instruct",
            "minReplicas": 2,
            "maxReplicas": 4,
            "slo": {"ttftMilliseconds": 500, "itlMilliseconds": 40},
            "tiers": [{**tier, "workload": workload}],
        },
    }


@asynccontextmanager
async def operator(kubeconfig: Path, namespace: str, log: Path, *more: str) -> AsyncIterator[None]:
    """`tidegate run` as a process, with more arguments; Prometheus is an address where nobody answers."""
    arguments = {
        "--prometheus-url": "http://127.0.0.1:9",
        "--kubeconfig": str(kubeconfig),
        "--operator-namespace": namespace,
        "--listen": "127.0.0.1:0",
        "--tick": "5",
        "--log-format": "json",
    }
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", "run", *[part for pair in arguments.items() for part in pair], *more],
            stdout=sink,
            stderr=sink,
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(timeout=15)


async def get(server: aiohttp.ClientSession, path: str) -> Any:
    async with server.get(path) as answer:
        return await answer.json()


async def create(server: aiohttp.ClientSession, path: str, body: Object) -> None:
    async with server.post(path, json=body) as answer:
        assert answer.status in (201, 409), await answer.text()


async def until(condition: Any, *, seconds: float, what: str) -> Any:
    for _ in range(int(seconds / 0.25)):
        if (found := await condition()) is not None:
            return found
        await asyncio.sleep(0.25)
    raise AssertionError(f"not after {seconds:.0f} s: {what}")


async def test_a_release_lives_and_goes_and_the_users_objects_stay(
    real_control_plane: RealControlPlane, namespace_name: str, tmp_path: Path
) -> None:
    admin = real_control_plane.admin
    helm = Helm(admin.write_kubeconfig(tmp_path / "admin"))
    release = ("tidegate", str(generate.CHART), "--namespace", namespace_name)
    await helm(
        "install", *release, "--take-ownership", "--create-namespace", "--set", "prometheus.url=http://127.0.0.1:9"
    )
    async with admin.session() as server:
        await until(lambda: served(server), seconds=20, what="the definitions are served")
        await create(server, "/api/v1/nodes", NODE)
        await create(server, f"{GROUP}/acceleratorclasses", CLASS)
        mine = f"{GROUP}/namespaces/{namespace_name}/inferencedeployments"
        await create(server, mine, deployment_of(namespace_name))
        account = await real_control_plane.service_account(namespace_name, "tidegate")
        log = tmp_path / "operator.log"
        async with operator(account.write_kubeconfig(tmp_path / "operator"), namespace_name, log):
            status = await until(lambda: planned(server, f"{mine}/chat"), seconds=60, what="a status")
            workloads = f"/apis/apps/v1/namespaces/{namespace_name}/deployments"
            await until(lambda: scaled(server, f"{workloads}/chat-fp8"), seconds=30, what="two replicas")
            assert {c["type"] for c in status["conditions"]} >= {"Ready", "MetricsAvailable"}
        assert "forbidden" not in log.read_text().lower(), log.read_text()

        await helm("upgrade", *release, "--set", "replicas=1,prometheus.url=http://127.0.0.1:9")
        assert (await get(server, f"{workloads}/tidegate"))["spec"]["replicas"] == 1
        await helm("uninstall", "tidegate", "--namespace", namespace_name, "--wait")
        assert (await get(server, f"{workloads}/tidegate"))["code"] == 404
        assert (await get(server, f"{mine}/chat"))["metadata"]["name"] == "chat"
        assert (await get(server, f"{workloads}/chat-fp8"))["spec"]["replicas"] == 2


async def test_an_installation_for_one_namespace_has_the_rights_that_it_needs(
    real_control_plane: RealControlPlane, namespace_name: str, tmp_path: Path
) -> None:
    admin = real_control_plane.admin
    helm = Helm(admin.write_kubeconfig(tmp_path / "admin"))
    prod = f"{namespace_name}-served"
    values = f"watchNamespace={prod},prometheus.url=http://127.0.0.1:9"
    async with admin.session() as server:
        await create(server, "/api/v1/namespaces", {"metadata": {"name": prod}})
        await helm(
            "install",
            "tidegate-one",
            str(generate.CHART),
            "--namespace",
            namespace_name,
            "--create-namespace",
            "--take-ownership",
            "--set",
            values,
        )
        await until(lambda: served(server), seconds=20, what="the definitions are served")
        await create(server, f"{GROUP}/acceleratorclasses", CLASS)
        mine = f"{GROUP}/namespaces/{prod}/inferencedeployments"
        await create(server, mine, deployment_of(prod))
        account = await real_control_plane.service_account(namespace_name, "tidegate-one")
        kubeconfig, log = account.write_kubeconfig(tmp_path / "operator"), tmp_path / "operator.log"
        async with operator(kubeconfig, namespace_name, log, "--namespace", prod):
            await until(lambda: planned(server, f"{mine}/chat"), seconds=60, what="a status")
            workload = f"/apis/apps/v1/namespaces/{prod}/deployments/chat-fp8"
            await until(lambda: scaled(server, workload), seconds=30, what="two replicas")
        assert "forbidden" not in log.read_text().lower(), log.read_text()
        await helm("uninstall", "tidegate-one", "--namespace", namespace_name, "--wait")


async def served(server: aiohttp.ClientSession) -> bool | None:
    listed = await get(server, f"{GROUP}/acceleratorclasses")
    return True if listed.get("kind") == "AcceleratorClassList" else None


async def planned(server: aiohttp.ClientSession, path: str) -> Any:
    status = (await get(server, path)).get("status") or {}
    return status if status.get("conditions") and status.get("tiers") else None


async def scaled(server: aiohttp.ClientSession, path: str) -> bool | None:
    found = await get(server, path)
    return True if found.get("spec", {}).get("replicas") == 2 else None
