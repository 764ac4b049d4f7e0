"""Edits of a serving deployment on the real control plane: what must not go wrong."""

from pathlib import Path

import pytest

from tests.e2e.world import FP8, accelerator, chat, steady, world

pytestmark = pytest.mark.cluster
REAL = "kubernetes"


async def test_a_renamed_tier_serves_until_its_successor_does(tmp_path: Path) -> None:
    """All accelerators are in use: the old replicas stay planned, make room step by step, and no request is lost."""
    four = accelerator("nvidia-h100", "NVIDIA-H100-80GB-HBM3", price="3.00", capacity=4)
    async with world(REAL, [four, chat(FP8, minReplicas=4)], tmp_path) as sandbox:
        await sandbox.until("all four serve", lambda seen: seen.ready() == 4)
        await sandbox.until("metrics", lambda seen: seen.condition("MetricsAvailable") == ("True", "Fresh"))
        traffic = sandbox.replay(steady(2.0, seconds=60))
        await sandbox.change(tiers=[{**FP8, "name": "turbo"}])
        await sandbox.until(
            "both serve, and the status says so",
            lambda seen: (
                seen.count("fp8", "ready") >= 1
                and seen.count("turbo", "ready") >= 1
                and [each["name"] for each in seen.status["tiers"]] == ["turbo", "fp8"]
            ),
        )
        await sandbox.until(
            "turbo has taken over", lambda seen: seen.count("turbo", "ready") == 4 and seen.count("fp8") == 0
        )
        assert (await traffic.finish()).failed == 0
