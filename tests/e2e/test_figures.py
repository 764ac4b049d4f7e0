"""The operator's own figures against the truth: what the clients of the same minutes saw."""

import asyncio
from pathlib import Path
from statistics import fmean

import pytest

from tests.e2e.world import FP8, H100, chat, steady, world

pytestmark = pytest.mark.cluster
# What the window of the operator's rates and the scrapes before it see of a moment that is over.
SETTLE_S = 15.0


@pytest.mark.parametrize("rate_rps", [3.0, 5.0], ids=["inside capacity", "where some requests miss the targets"])
async def test_attainment_is_within_two_points_of_what_clients_saw(rate_rps: float, tmp_path: Path) -> None:
    """A pinned fleet under steady load: the mean of what the operator says, against the replayer's share."""
    async with world("kubernetes", [H100, chat(FP8, replicas=1)], tmp_path) as sandbox:
        await sandbox.until("the pinned replica is ready", lambda seen: seen.ready() == 1)
        traffic = sandbox.replay(steady(rate_rps, seconds=100))
        await asyncio.sleep(SETTLE_S)
        said = []
        while len(traffic.so_far()) < traffic.expected * 0.9:
            await asyncio.sleep(2.5)
            figure = ((await sandbox.seen()).status.get("goodput") or {}).get("attainment")
            if figure is not None:
                said.append(float(figure))
        clients = await traffic.finish()
        assert clients.attainment is not None
        assert len(said) >= 10
        print(f"the operator says {fmean(said):.3f}, clients saw {clients.attainment:.3f}")
        assert abs(fmean(said) - clients.attainment) <= 0.02, f"said {said}, clients saw {clients}"
