"""Fixtures that more than one room needs: the control planes."""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tidegate.errors import SourceError
from tidegate.sandbox.binaries import CONTROL_PLANE, Effort, provide
from tidegate.sandbox.control_plane import RealControlPlane


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def real_control_plane() -> AsyncIterator[RealControlPlane]:
    """The real control plane, one for the session: tests keep apart by namespace. `make binaries` gets its programs."""
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
