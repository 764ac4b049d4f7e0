"""The operator's own figures, compared with what clients saw in the same minutes."""

import asyncio
import time
from pathlib import Path
from statistics import fmean

import pytest

from tests.e2e.world import FP8, H100, chat, steady, world

pytestmark = pytest.mark.cluster
# What the operator says at a moment is about the window of its rates before it, and that ends some scrapes earlier.
WINDOW_S, LAG_S = 10.0, 3.0


@pytest.mark.parametrize("rate_rps", [3.0, 9.0], ids=["inside capacity", "until the targets are missed"])
async def test_attainment_is_within_two_points_of_what_clients_saw(rate_rps: float, tmp_path: Path) -> None:
    """A pinned replica under steady load: mean attainment by the operator, compared with that of the clients."""
    async with world("kubernetes", [H100, chat(FP8, replicas=1)], tmp_path) as sandbox:
        await sandbox.until("the pinned replica is ready", lambda seen: seen.ready() == 1)
        traffic = sandbox.replay(steady(rate_rps, seconds=100))
        await asyncio.sleep(WINDOW_S + LAG_S)
        said, begin_s = [], time.time()
        while time.time() < begin_s + 80.0:
            await asyncio.sleep(1.0)
            figure = ((await sandbox.seen()).status.get("goodput") or {}).get("attainment")
            if figure is not None:
                said.append(float(figure))
        clients = traffic.between(begin_s - WINDOW_S - LAG_S, time.time() - LAG_S)
        assert clients.attainment is not None
        assert len(said) >= 40
        print(f"the operator says {fmean(said):.3f}, clients saw {clients.attainment:.3f}")
        assert abs(fmean(said) - clients.attainment) <= 0.02, f"said {said}, clients saw {clients}"
