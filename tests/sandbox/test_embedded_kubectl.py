"""A real kubectl with the embedded control plane: the commands of a new user must work."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml

from tests.sandbox.kube import Kube, deployment, inference_deployment, install_definitions
from tidegate.sandbox.embedded import EmbeddedControlPlane

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on PATH")
Kubectl = Callable[..., Awaitable[str]]


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    """Runs kubectl against a control plane with Tidegate's CRDs; fails where kubectl fails."""
    async with EmbeddedControlPlane() as control_plane:
        async with control_plane.admin.session() as session:
            await install_definitions(Kube(session, "default"))
        config = control_plane.admin.write_kubeconfig(tmp_path / "kubeconfig")

        async def run(*arguments: str, stdin: str = "", fails: bool = False) -> str:
            process = await asyncio.create_subprocess_exec(
                *("kubectl", f"--kubeconfig={config}", f"--cache-dir={tmp_path / 'cache'}", *arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 30)
            assert (process.returncode != 0) == fails, output.decode()
            return output.decode()

        yield run


async def test_apply_get_describe_scale_delete_of_our_kind(kubectl: Kubectl) -> None:
    manifest = yaml.safe_dump(inference_deployment("chat"))
    assert "created" in await kubectl("apply", "-f", "-", stdin=manifest)
    changed = yaml.safe_dump(inference_deployment("chat", maxReplicas=9))
    assert "configured" in await kubectl("apply", "-f", "-", stdin=changed)
    listed = await kubectl("get", "infd")
    assert listed.split()[0] == "NAME"
    assert "chat" in listed
    assert await kubectl("get", "infd", "chat", "-o", "jsonpath={.spec.maxReplicas}") == "9"
    described = await kubectl("describe", "infd", "chat")
    assert "Max Replicas:  9" in described
    assert "scaled" in await kubectl("scale", "infd/chat", "--replicas=2")
    assert "patched" in await kubectl("patch", "infd", "chat", "--type=merge", "-p", '{"spec":{"mode":"Recommend"}}')
    assert await kubectl("get", "infd", "chat", "-o", "jsonpath={.spec.replicas} {.spec.mode}") == "2 Recommend"
    assert "deleted" in await kubectl("delete", "infd", "chat", "--timeout=10s")
    assert "NotFound" in await kubectl("get", "infd", "chat", fails=True)


async def test_a_bad_manifest_is_refused_in_words(kubectl: Kubectl) -> None:
    manifest = yaml.safe_dump(inference_deployment("chat", minReplicas=9))
    assert "minReplicas must be at most maxReplicas" in await kubectl("apply", "-f", "-", stdin=manifest, fails=True)


async def test_deployments_and_pods_show_what_they_do(kubectl: Kubectl) -> None:
    manifest = yaml.safe_dump(deployment("a", replicas=2))
    assert "created" in await kubectl("apply", "-f", "-", stdin=manifest)
    assert "unchanged" in await kubectl("apply", "-f", "-", stdin=manifest)
    for _ in range(50):
        pods = await kubectl("get", "pods")
        if pods.count("Pending") == 2:
            break
        await asyncio.sleep(0.1)
    assert pods.splitlines()[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert "0/2" in await kubectl("get", "deployment", "a")
    described = await kubectl("describe", "deployment", "a")
    assert "2 desired" in described
    assert "ScalingReplicaSet" in described
    name = pods.splitlines()[1].split()[0]
    assert "FailedScheduling" in await kubectl("describe", "pod", name)
    assert "deployment.apps/a" in await kubectl("get", "all")
    changed = deployment("a", replicas=2, image="vllm:2")
    assert "configured" in await kubectl("apply", "-f", "-", stdin=yaml.safe_dump(changed))
    assert "scaled" in await kubectl("scale", "deployment", "a", "--replicas=0")
    assert "deleted" in await kubectl("delete", "deployment", "a", "--timeout=10s")


async def test_server_side_apply_tells_of_conflicts(kubectl: Kubectl) -> None:
    manifest = yaml.safe_dump(deployment("a", replicas=1))
    await kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=manifest)
    other = yaml.safe_dump(deployment("a", replicas=2))
    refused = await kubectl("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=other, fails=True)
    assert "conflict" in refused
    assert ".spec.replicas" in refused


async def test_namespaces_nodes_and_api_resources_can_be_listed(kubectl: Kubectl) -> None:
    # Not `create namespace`, which speaks protobuf.
    await kubectl("apply", "-f", "-", stdin="apiVersion: v1\nkind: Namespace\nmetadata: {name: prod}")
    assert "Active" in await kubectl("get", "namespace", "prod")
    assert "inferencedeployments" in await kubectl("api-resources")
    assert "No resources found" in await kubectl("get", "nodes")
    await kubectl("delete", "namespace", "prod", "--timeout=10s")
