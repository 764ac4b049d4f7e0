"""The whole story in a whole sandbox: apply, pods, load, more pods, less load, fewer pods; and the figures agree."""

from pathlib import Path

import pytest

from tests.e2e.world import A100, BF16, FP8, H100, INT4, chat, steady, world


@pytest.mark.parametrize(
    "choice",
    [pytest.param("kubernetes", marks=pytest.mark.cluster), pytest.param("embedded", marks=pytest.mark.slow)],
)
async def test_replicas_follow_the_load_up_and_down(choice: str, tmp_path: Path) -> None:
    """One replica at rest, more under load, no failed request, and fewer again when the load is gone."""
    async with world(choice, [H100, A100, chat(BF16, FP8, INT4)], tmp_path) as sandbox:
        start = await sandbox.until("the first replica is ready", lambda seen: seen.ready() >= 1)
        assert start.total() <= 2
        loaded = sandbox.replay(steady(2.0, seconds=15) + steady(9.0, seconds=75, start_s=15))
        await sandbox.until(
            "more replicas serve, and the status says so",
            lambda seen: seen.ready() > start.total() and seen.status["replicas"] > start.total(),
            timeout_s=100,
        )
        said = await sandbox.until(
            "the operator states an attainment",
            lambda seen: (seen.status.get("goodput") or {}).get("attainment") is not None,
        )
        assert 0.0 <= float(said.status["goodput"]["attainment"]) <= 1.0
        clients = await loaded.finish()
        assert clients.failed == 0
        most = (await sandbox.seen()).total()
        calm = sandbox.replay(steady(0.5, seconds=300))
        await sandbox.until("fewer replicas are left", lambda seen: seen.total() < most, timeout_s=300)
        assert sum(bool(each.error) for each in calm.so_far()) == 0
