"""A minimal HTTP client for the tests of the control planes, which hides nothing of requests and responses."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

Object = dict[str, Any]
APPS, CORE, TIDEGATE = "/apis/apps/v1", "/api/v1", "/apis/tidegate.io/v1alpha1"
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MERGE, JSON = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"


class Kube:
    """
    Requests as one account.

    Args:
        session: An account's session.
        namespace: Where `path` points to.
    """

    def __init__(self, session: aiohttp.ClientSession, namespace: str) -> None:
        self.session, self.namespace = session, namespace

    def path(self, plural: str, name: str = "", *, group: str = CORE) -> str:
        """Path of a collection, or of an object in it, in the test's namespace."""
        return f"{group}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Object]:
        """One request; options are `content_type`, `accept` and parameters of the URL."""
        headers = {"Content-Type": options.pop("content_type", "application/json")}
        headers["Accept"] = options.pop("accept", "application/json")
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, path, data=data, headers=headers, params=options) as answer:
            if answer.content_type != "application/json":
                return answer.status, {"text": await answer.text()}
            return answer.status, await answer.json()

    async def get(self, path: str, **options: Any) -> Object:
        """What lies at a path; it must be there."""
        status, body = await self.call("GET", path, **options)
        assert status == 200, body
        return body

    async def create(self, path: str, body: Object, **options: Any) -> Object:
        """A new object; it must be taken."""
        status, made = await self.call("POST", path, body, **options)
        assert status == 201, made
        return made

    async def patch(self, path: str, body: Any, content_type: str = MERGE, **options: Any) -> Object:
        """A patch; it must be taken."""
        status, patched = await self.call("PATCH", path, body, content_type=content_type, **options)
        assert status in (200, 201), patched
        return patched

    async def apply(self, path: str, body: Object, manager: str, **options: Any) -> tuple[int, Object]:
        """Server-side apply."""
        return await self.call("PATCH", path, body, content_type=APPLY, fieldManager=manager, **options)

    @asynccontextmanager
    async def watch(self, path: str, **options: Any) -> AsyncIterator[Callable[[], Awaitable[Object]]]:
        """An open watch, as a function that gives its next event."""
        async with self.session.get(path, params={"watch": "true", "timeoutSeconds": "20", **options}) as answer:

            async def following() -> Object:
                line = await asyncio.wait_for(answer.content.readline(), 10)
                assert line, "the watch ended"
                return dict(json.loads(line))

            yield following

    async def until(self, path: str, holds: Callable[[Object], object], *, timeout_s: float = 15.0) -> Object:
        """What lies at a path, once something holds about it."""
        body: Object = {}
        for _ in range(int(timeout_s / 0.05)):
            status, body = await self.call("GET", path)
            if status == 200 and holds(body):
                return body
            await asyncio.sleep(0.05)
        raise AssertionError(f"does not come to hold within {timeout_s} s; last seen: {json.dumps(body)[:1500]}")

    async def until_gone(self, path: str, *, timeout_s: float = 15.0) -> None:
        """Returns once nothing lies at a path."""
        for _ in range(int(timeout_s / 0.05)):
            if (await self.call("GET", path))[0] == 404:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path} does not go within {timeout_s} s")


async def install_definitions(kube: Kube) -> None:
    """Tidegate's CRDs, established."""
    for file in sorted(Path("crds").glob("*.yaml")):
        definition = yaml.safe_load(file.read_text())
        status, body = await kube.call("POST", CRD_PATH, definition)
        assert status in (201, 409), body
        plural, group = definition["spec"]["names"]["plural"], definition["spec"]["group"]
        version = definition["spec"]["versions"][0]["name"]
        await kube.until(f"/apis/{group}/{version}/{plural}", lambda body: "items" in body)


def config_map(name: str, **data: str) -> Object:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, *, replicas: int = 1, image: str = "vllm:1", **more: Any) -> Object:
    """A Deployment whose pods ask for one GPU."""
    labels = {"app": name}
    container: Object = {"name": "vllm", "image": image, "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **more,
        },
    }


def inference_deployment(name: str, **spec: Any) -> Object:
    """A valid InferenceDeployment."""
    tier = {
        "name": "bf16",
        "quality": "1",
        "accelerator": "nvidia-h100",
        "acceleratorsPerReplica": 1,
        "workload": {"image": "vllm/vllm-openai:v0.32.0"},
    }
    full = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "slo": {"ttftMilliseconds": 500, "itlMilliseconds": 40, "attainment": "0.99"},
        "maxReplicas": 4,
        "tiers": [tier],
        **spec,
    }
    head = {"apiVersion": "tidegate.io/v1alpha1", "kind": "InferenceDeployment"}
    return {**head, "metadata": {"name": name}, "spec": full}
