"""Every conformance test runs twice: against the embedded control plane and against the real one."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.sandbox.kube import CORE, Kube, install_definitions
from tidegate.sandbox.embedded import EmbeddedControlPlane


@pytest.fixture(params=["embedded", pytest.param("kubernetes", marks=pytest.mark.cluster)])
def choice(request: pytest.FixtureRequest) -> str:
    """Which control plane a conformance test runs against."""
    return str(request.param)


@pytest.fixture
def started(choice: str, request: pytest.FixtureRequest) -> Any:
    """The real control plane where it was chosen; the embedded one is started in the test's own loop."""
    return request.getfixturevalue("real_control_plane") if choice == "kubernetes" else None


@pytest.fixture
async def control_plane(started: Any) -> AsyncIterator[Any]:
    """The chosen control plane, with Tidegate's CRDs."""
    if started is not None:
        yield started
        return
    async with EmbeddedControlPlane() as embedded:
        yield embedded


@pytest.fixture
async def kube(control_plane: Any, namespace_name: str) -> AsyncIterator[Kube]:
    """A client as admin, with a namespace of its own that goes afterwards."""
    async with control_plane.admin.session() as session:
        client = Kube(session, namespace_name)
        await install_definitions(client)
        await client.create(f"{CORE}/namespaces", {"metadata": {"name": namespace_name}})
        # A real API server refuses pods until this account is there.
        await client.until(client.path("serviceaccounts", "default"), lambda account: account)
        yield client
        await client.call("DELETE", f"{CORE}/namespaces/{namespace_name}")
