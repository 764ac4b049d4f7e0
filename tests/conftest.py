"""Fixtures for several rooms: the control planes."""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tidegate.errors import SourceError
from tidegate.sandbox.binaries import CONTROL_PLANE, Effort, provide
from tidegate.sandbox.control_plane import RealControlPlane

# In a fresh clone the first text that is drawn takes Hypothesis seconds, for a table that it keeps; and a machine that
# stalls for a fifth of a second is no fault. Its profile for CI leaves out the same two.
settings.register_profile("here", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_control_plane() -> AsyncIterator[RealControlPlane]:
    """The real control plane, shared by all tests, which use separate namespaces. `make binaries` gets its programs."""
    try:
        programs = provide(CONTROL_PLANE, effort=Effort.LOOK)
    except SourceError as error:
        pytest.skip(f"no real control plane here (`make binaries` gets it): {error}")
    async with RealControlPlane(programs) as control_plane:
        yield control_plane


@pytest.fixture
def namespace_name() -> str:
    """A namespace name no other test uses."""
    return f"test-{uuid.uuid4().hex[:8]}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Rerun failed tests of real processes once; the report names each rerun.

    They wait for a scheduler, a scrape and a start-up with time limits. A machine that stalls for some seconds is not a
    bug in what they test, and a real bug fails twice.
    """
    for item in items:
        if item.get_closest_marker("cluster") is not None or item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))
