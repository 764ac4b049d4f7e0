"""Steps that tests on a real API server share."""

import asyncio
from pathlib import Path

import aiohttp
import yaml

CRDS = Path(__file__).resolve().parents[1] / "crds"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


async def install_crds(server: aiohttp.ClientSession) -> None:
    """Applies the CRDs of the repository and waits until each is served."""
    for file in sorted(CRDS.glob("*.yaml")):
        manifest = yaml.safe_load(file.read_text())
        path = f"{DEFINITIONS}/{manifest['metadata']['name']}"
        async with server.patch(
            path,
            json=manifest,
            params={"fieldManager": "tests", "force": "true"},
            headers={"Content-Type": "application/apply-patch+yaml"},
        ) as answer:
            body = await answer.json()
            assert answer.status in (200, 201), body["message"]
        await _until_served(server, path)


async def _until_served(server: aiohttp.ClientSession, path: str) -> None:
    for _ in range(100):
        async with server.get(path) as answer:
            conditions = (await answer.json()).get("status", {}).get("conditions") or []
        if any(c["type"] == "Established" and c["status"] == "True" for c in conditions):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{path} is not served after 10 s")
