"""The CRDs on a real API server: accepted, and refusing what they must with the right words."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from tests.api.manifests import ACCELERATOR, GOOD, MINIMAL, TABLE, Bad, changed
from tests.cluster import install_crds
from tidegate.sandbox.control_plane import RealControlPlane

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="session")]

GROUP = "/apis/tidegate.io/v1alpha1"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(real_control_plane: RealControlPlane) -> AsyncIterator[aiohttp.ClientSession]:
    async with real_control_plane.admin.session() as session:
        await install_crds(session)
        yield session


def collection(manifest: dict[str, Any]) -> str:
    if manifest["kind"] == "AcceleratorClass":
        return f"{GROUP}/acceleratorclasses"
    return f"{GROUP}/namespaces/default/inferencedeployments"


async def create(server: aiohttp.ClientSession, manifest: dict[str, Any], **params: str) -> tuple[int, dict[str, Any]]:
    query = {"fieldValidation": "Strict"} | params
    async with server.post(collection(manifest), json=manifest, params=query) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
async def test_a_bad_manifest_is_refused_with_the_right_words(server: aiohttp.ClientSession, case: Bad) -> None:
    status, answer = await create(server, case.manifest(), dryRun="All")
    assert status == 422, answer
    assert case.field in answer["message"]
    assert case.words in answer["message"]
    assert "no such key" not in answer["message"]


@pytest.mark.parametrize("text", [GOOD, MINIMAL, ACCELERATOR], ids=["everything", "the least", "an accelerator"])
async def test_a_good_manifest_is_accepted(server: aiohttp.ClientSession, text: str) -> None:
    status, answer = await create(server, yaml.safe_load(text), dryRun="All")
    assert status == 201, answer["message"]


async def test_defaults_are_filled_in_by_the_server(server: aiohttp.ClientSession) -> None:
    _, answer = await create(server, yaml.safe_load(MINIMAL), dryRun="All")
    spec = answer["spec"]
    tier = spec["tiers"][0]
    assert (spec["mode"], spec["minReplicas"], spec["maxReplicas"], spec["priority"]) == ("Auto", 1, 100, 0)
    assert (spec["slo"]["attainment"], spec["quality"]["minimum"]) == ("0.99", "0")
    assert spec["scaleDown"] == {"stabilizationWindowSeconds": 300}
    assert (tier["quality"], tier["acceleratorsPerReplica"], tier["minReplicas"]) == ("1", 1, 0)


async def test_an_unknown_field_is_refused(server: aiohttp.ClientSession) -> None:
    status, answer = await create(server, changed(GOOD, {"spec.slo.ttftMs": 5}), dryRun="All")
    assert status == 400
    assert 'unknown field "spec.slo.ttftMs"' in answer["message"]


async def test_what_belongs_to_kubernetes_passes_unchanged(server: aiohttp.ClientSession) -> None:
    _, answer = await create(server, yaml.safe_load(GOOD), dryRun="All")
    workload = answer["spec"]["tiers"][0]["workload"]
    assert workload["podTemplate"] == {"spec": {"priorityClassName": "serving"}}
    assert workload["env"][1]["valueFrom"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert workload["resources"]["requests"] == {"cpu": 8, "memory": "64Gi"}
