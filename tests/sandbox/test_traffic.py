"""Traffic: arrivals, replay, and outcomes as clients see them."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data import data_path
from tests.sandbox.hosts import host
from tidegate.domain.law import PerformanceLaw
from tidegate.domain.spec import Slo
from tidegate.errors import SpecError
from tidegate.sandbox.emulator.args import parse
from tidegate.sandbox.emulator.server import EmulatedServer, ServerSpec
from tidegate.sandbox.traffic import Arrival, Outcome, Target, day, read_csv, replay, summary
from tidegate.sandbox.traffic.arrivals import Shape, peak_rps

LAW = PerformanceLaw(a_s=0.02, b_s=0.0, c_s=0.0, p0_s=0.005, p1_s=1e-4, kv_cache_tokens=50_000, running_max=64)
SLO = Slo(ttft_s=0.5, itl_s=0.05)


def outcome(ttft_s: float | None = 0.1, itl_s: float | None = 0.01, *, tokens: int = 10, error: str = "") -> Outcome:
    return Outcome(
        arrival_s=0.0, late_s=0.0, ttft_s=ttft_s, itl_s=itl_s, output_tokens=tokens, ended_s=1.0, error=error
    )


@pytest.mark.parametrize(
    ("one", "good"),
    [
        pytest.param(outcome(), True, id="inside both targets"),
        pytest.param(outcome(ttft_s=0.6), False, id="a late first token"),
        pytest.param(outcome(itl_s=0.06), False, id="slow tokens"),
        pytest.param(outcome(itl_s=None), True, id="a single token has no gap to be late with"),
        pytest.param(outcome(error="broken off"), False, id="an answer that is not whole"),
        pytest.param(outcome(ttft_s=None, itl_s=None), False, id="no answer at all"),
    ],
)
def test_a_request_is_good_inside_both_targets(one: Outcome, good: bool) -> None:
    assert one.good(SLO) is good


def test_a_summary_counts_failures_as_misses_and_their_tokens_as_bad() -> None:
    found = summary([outcome(), outcome(), outcome(ttft_s=2.0), outcome(ttft_s=None, itl_s=None, error="x")], SLO)
    assert (found.requests, found.failed, found.attainment) == (4, 1, 0.5)
    assert (found.good_tokens, found.tokens) == (20, 40)


def test_nothing_observed_is_not_zero() -> None:
    found = summary([], SLO)
    assert (found.attainment, found.ttft_s_p95, found.itl_s_p50) == (None, None, None)


def test_a_day_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert day(Shape(), duration_s=60, seed=3) == day(Shape(), duration_s=60, seed=3)
    assert day(Shape(), duration_s=60, seed=3) != day(Shape(), duration_s=60, seed=4)


@settings(max_examples=20, deadline=None)
@given(duration_s=st.floats(20, 400), peak=st.floats(1, 30), seed=st.integers(0, 99))
def test_a_compressed_day_keeps_its_rates(duration_s: float, peak: float, seed: int) -> None:
    shape = Shape(peak_rps=peak, bursts=())
    arrivals = day(shape, duration_s=duration_s, seed=seed)
    expected = duration_s * float(np.mean([shape.rate_rps(x) for x in np.linspace(0, 1, 500)]))
    assert len(arrivals) == pytest.approx(expected, abs=5 * expected**0.5 + 2)
    assert [a.time_s for a in arrivals] == sorted(a.time_s for a in arrivals)
    assert all(0 <= a.time_s < duration_s for a in arrivals)


def test_a_day_rises_bursts_and_falls() -> None:
    shape = Shape()
    rates = [shape.rate_rps(share) for share in np.linspace(0, 1, 200)]
    assert max(rates) > 1.2 * shape.peak_rps
    assert min(rates) < 0.15 * shape.peak_rps
    assert rates[0] < 0.2 * shape.peak_rps
    assert rates[-1] < 0.2 * shape.peak_rps


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    return path


def test_a_trace_is_read_from_its_own_start(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["100,10,5", "102.5,20,6"])
    assert read_csv(path, speed=1, duration_s=None, seed=1) == [
        Arrival(time_s=0.0, prompt_tokens=10, output_tokens=5),
        Arrival(time_s=2.5, prompt_tokens=20, output_tokens=6),
    ]


def test_a_faster_trace_keeps_its_rate(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("arrival_s,input_tokens,output_tokens\n" + "".join(f"{i / 5},10,5\n" for i in range(20_000)))
    arrivals = read_csv(path, speed=10, duration_s=300, seed=1)
    assert len(arrivals) == pytest.approx(5 * 300, rel=0.1)
    assert arrivals[-1].time_s < 300


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        pytest.param([], "at least one request", id="no row"),
        pytest.param(["1,x,5"], "line 2", id="a length that is no number"),
        pytest.param(["1,5"], "line 2", id="a line that ends early"),
        pytest.param(["1,inf,5"], "line 2", id="a length without end"),
        pytest.param(["nan,5,5"], "line 2", id="a time that is no number"),
        pytest.param(["5,1,1", "4,1,1"], "line 3", id="times that fall"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, rows: list[str], what: str) -> None:
    with pytest.raises(SpecError, match=what):
        read_csv(write(tmp_path / "t.csv", rows), speed=1, duration_s=None, seed=1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("t.csv", b"arrival_s,input_tokens,output_tokens\n0,\xff,5\n", id="no UTF-8"),
        pytest.param("t.csv.gz", b"arrival_s,input_tokens,output_tokens\n0,5,5\n", id="not compressed"),
        pytest.param("t.csv.gz", gzip.compress(b"arrival_s,input_tokens,output_tokens\n")[:-9], id="cut off"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match="a readable CSV file in UTF-8"):
        read_csv(tmp_path / name, speed=1, duration_s=None, seed=1)


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\ufeff" + write(path, ["0,10,5"]).read_text())
    assert len(read_csv(path, speed=1, duration_s=None, seed=1)) == 1


def test_a_real_trace_is_read() -> None:
    arrivals = read_csv(data_path("traces/azure2023_conv.csv.gz"), speed=1, duration_s=600, seed=1)
    assert 3 < len(arrivals) / 600 < 9


def test_the_peak_is_the_busiest_window() -> None:
    times = [0.0, 5.0, 5.1, 5.2, 9.0]
    arrivals = [Arrival(time_s=t, prompt_tokens=1, output_tokens=1) for t in times]
    assert peak_rps(arrivals, 1.0) == 3.0
    assert peak_rps([], 1.0) == 0.0


@asynccontextmanager
async def server() -> AsyncIterator[tuple[EmulatedServer, Target]]:
    address = host()
    it = EmulatedServer(ServerSpec(options=parse(["m"]), law=LAW, address=address))
    await it.start()
    try:
        yield it, Target(url=f"http://{address}:8000", model="m", timeout_s=20)
    finally:
        await it.kill()


async def replayed(arrivals: list[Arrival], target: Target) -> list[Outcome]:
    outcomes: list[Outcome] = []
    await replay(arrivals, target, seed=1, ended=outcomes.append)
    return sorted(outcomes, key=lambda o: o.arrival_s)


async def test_clients_see_the_times_of_the_law() -> None:
    async with server() as (_, target):
        found = await replayed([Arrival(time_s=0.1, prompt_tokens=500, output_tokens=21)], target)
    (one,) = found
    assert (one.error, one.output_tokens) == ("", 21)
    assert one.ttft_s == pytest.approx(LAW.p0_s + 500 * LAW.p1_s, abs=0.03)
    assert one.itl_s == pytest.approx(LAW.a_s, rel=0.15)


async def test_arrivals_do_not_wait_for_answers() -> None:
    arrivals = [Arrival(time_s=0.05 * i, prompt_tokens=10, output_tokens=40) for i in range(5)]
    async with server() as (it, target):
        running = asyncio.create_task(replayed(arrivals, target))
        await asyncio.sleep(0.45)
        assert it.engine.unfinished == 5
        outcomes = await running
    assert all(o.late_s < 0.1 for o in outcomes)


async def test_an_answer_that_breaks_off_is_an_error() -> None:
    async with server() as (it, target):
        running = asyncio.create_task(replayed([Arrival(time_s=0, prompt_tokens=10, output_tokens=500)], target))
        while not it.engine.unfinished:  # a stalled machine may take a while to send it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await it.kill()
        (one,) = await running
    assert one.error
    assert one.ttft_s is not None


async def test_a_refusal_inside_a_stream_is_an_error() -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(
            body=b'data: {"error": {"code": 503}}\n\ndata: [DONE]\n\n', content_type="text/event-stream"
        )

    app = web.Application()
    app.router.add_post("/v1/completions", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.99.3.9", 8000).start()
    try:
        target = Target(url="http://127.99.3.9:8000", model="m")
        (one,) = await replayed([Arrival(time_s=0, prompt_tokens=10, output_tokens=5)], target)
    finally:
        await runner.cleanup()
    assert one.error == "error event"
