"""
The CRDs on a real API server: accepted, and rejecting invalid objects with the right message.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from tests.actuate.orders import H100
from tests.api.manifests import ACCELERATOR, GOOD, MINIMAL, TABLE, Bad, changed
from tests.cluster import install_crds
from tests.report.reports import SPEC, report
from tests.report.test_status import RISING
from tidegate.domain.decision import Condition, Status
from tidegate.ports import AcceleratorResource, AcceleratorUse, Outcome
from tidegate.report.status import accelerator_status, deployment_status
from tidegate.sandbox.control_plane import RealControlPlane

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="session")]

GROUP = "/apis/tidegate.io/v1alpha1"
LIMITED = Outcome(
    conditions=(Condition(type="ScalingLimited", status=Status.TRUE, reason="OtherWriter", message="kubectl scale"),)
)


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
    document = yaml.safe_load(text)
    document["metadata"]["name"] += "-dry"  # whatever else the server holds
    status, answer = await create(server, document, dryRun="All")
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


@pytest.mark.parametrize("text", [MINIMAL, ACCELERATOR], ids=["a deployment", "an accelerator class"])
async def test_a_new_object_does_not_count_as_ready(server: aiohttp.ClientSession, text: str) -> None:
    """To kstatus an object without a status is ready; one whose observed generation is outdated is not."""
    manifest = changed(text, {"metadata.name": "fresh"})
    await create(server, manifest)
    path = f"{collection(manifest)}/fresh"
    async with server.get(path) as answer:
        found = await answer.json()
    assert (found["metadata"]["generation"], found["status"]) == (1, {"observedGeneration": 0})
    async with server.delete(path) as answer:
        assert answer.status == 200


async def test_the_whole_status_is_stored(server: aiohttp.ClientSession) -> None:
    manifest = changed(GOOD, {"metadata.name": "kept"})
    await create(server, manifest)
    path = f"{collection(manifest)}/kept"
    status = deployment_status(report(decision=RISING, outcome=LIMITED, spec=replace(SPEC, paused=True)))
    async with server.patch(
        f"{path}/status",
        json=[{"op": "add", "path": "/status", "value": status}],
        headers={"Content-Type": "application/json-patch+json"},
    ) as answer:
        body = await answer.json()
        assert answer.status == 200, body["message"]
    assert body["status"] == status
    await check_columns(server, manifest, name="kept")
    await check_scale(server, path)
    async with server.delete(path) as answer:
        assert answer.status == 200


async def check_columns(server: aiohttp.ClientSession, manifest: dict[str, Any], *, name: str) -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    async with server.get(f"{collection(manifest)}/{name}", headers={"Accept": table}) as answer:
        page = await answer.json()
    narrow = [i for i, column in enumerate(page["columnDefinitions"]) if not column["priority"]]
    shown = {page["columnDefinitions"][i]["name"]: page["rows"][0]["cells"][i] for i in narrow}
    del shown["Age"]
    assert shown == {
        "Name": name,
        "Mode": "Auto",
        "Tiers": "2 fp8",
        "Replicas": 2,
        "Up": 2,
        "SLO": "True",
        "$/h": "6.00",
        "Ready": "True",
    }


async def check_scale(server: aiohttp.ClientSession, path: str) -> None:
    merge = {"Content-Type": "application/merge-patch+json"}
    async with server.patch(f"{path}/scale", json={"spec": {"replicas": 7}}, headers=merge) as answer:
        assert answer.status == 200
    async with server.get(path) as answer:
        assert (await answer.json())["spec"]["replicas"] == 7
    async with server.get(f"{path}/scale") as answer:
        scale = await answer.json()
    assert scale["status"] == {"replicas": 2, "selector": "tidegate.io/inference-deployment=chat"}
    async with server.patch(f"{path}/scale", json={"spec": {"replicas": 99}}, headers=merge) as answer:
        assert answer.status == 422
        assert "replicas must be between minReplicas and maxReplicas" in (await answer.json())["message"]


async def test_the_status_of_an_accelerator_class_is_stored(server: aiohttp.ClientSession) -> None:
    manifest = changed(ACCELERATOR, {"metadata.name": "kept"})
    await create(server, manifest)
    resource = AcceleratorResource(name="kept", uid="u", generation=1, accelerator=H100)
    status = accelerator_status(resource, AcceleratorUse(allocatable=8, by_tidegate=2, by_others=1), 0.0)
    async with server.patch(
        f"{collection(manifest)}/kept/status",
        json=[{"op": "add", "path": "/status", "value": status}],
        headers={"Content-Type": "application/json-patch+json"},
    ) as answer:
        assert (await answer.json())["status"] == status
