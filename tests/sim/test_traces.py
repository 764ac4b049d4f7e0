"""Traffic from files and from generators."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.data import data_path
from tests.sim.builders import traffic
from tidegate.errors import SpecError
from tidegate.sim import generators, traces
from tidegate.units import SECONDS_PER_HOUR

GOOD = "arrival_s,input_tokens,output_tokens\n0.5,100,20\n0.25,50,0\n"


def test_a_file_is_sorted_and_every_request_has_a_token(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD)
    trace = traces.read(tmp_path / "a.csv")
    assert trace.name == "a"
    assert trace.arrival_s.tolist() == [0.25, 0.5]
    assert trace.prompt_tokens.tolist() == [50, 100]
    assert trace.output_tokens.tolist() == [1, 20]
    assert trace.span_s == 0.5


def test_empty_lines_are_no_requests(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD + "\n\n")
    assert len(traces.read(tmp_path / "a.csv")) == 2


def test_a_gzipped_file_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(GOOD)
    with gzip.open(tmp_path / "b.csv.gz", "wt") as out:
        out.write(GOOD)
    plain, packed = traces.read(tmp_path / "a.csv"), traces.read(tmp_path / "b.csv.gz")
    np.testing.assert_array_equal(plain.prompt_tokens, packed.prompt_tokens)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("time,in,out\n1,2,3\n", "a.csv:1"),
        ("arrival_s,input_tokens,output_tokens\n1,2,x\n", "a.csv:2"),
        ("arrival_s,input_tokens,output_tokens\n1,2,3\n1,2\n", "a.csv:3"),
        ("arrival_s,input_tokens,output_tokens\n1,2,3\n-1,2,3\n", "a.csv:3"),
        ("arrival_s,input_tokens,output_tokens\n1,nan,3\n", "a.csv:2"),
        ("arrival_s,input_tokens,output_tokens\n", "a.csv"),
        ("arrival_s,input_tokens,output_tokens\n1767225600,2,3\n", "a.csv:2"),
        ("arrival_s,input_tokens,output_tokens\n3600000,2,3\n", "a.csv: first arrival_s"),
        ("arrival_s,input_tokens,output_tokens\n0,2,3\n\n1700000000,2,3\n", "a.csv:4"),
        ("arrival_s,input_tokens,output_tokens\n0,1e30,3\n", "a.csv:2"),
    ],
    ids=[
        "other columns",
        "a word for a number",
        "a short line",
        "a negative time",
        "not a number",
        "no requests",
        "a date",
        "milliseconds",
        "a date that comes last, after an empty line",
        "more tokens than there can be",
    ],
)
def test_a_file_that_is_no_trace_is_refused_by_line(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(SpecError) as caught:
        traces.read(tmp_path / "a.csv")
    assert caught.value.field == named


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.csv"):
        traces.read(tmp_path / "nowhere.csv")


def test_a_window_starts_at_zero() -> None:
    trace = traffic([0.0, 10.0, 20.0, 30.0])
    assert trace.window(start_s=10.0, end_s=30.0).arrival_s.tolist() == [0.0, 10.0]


@pytest.mark.parametrize("shape", sorted(generators.SHAPES))
def test_a_shape_gives_its_mean_rate_and_the_same_requests_for_the_same_seed(shape: str) -> None:
    trace = generators.parse(f"{shape}:5:2:chat", seed=4)
    again = generators.parse(f"{shape}:5:2:chat", seed=4)
    np.testing.assert_array_equal(trace.arrival_s, again.arrival_s)
    assert np.all(np.diff(trace.arrival_s) >= 0)
    assert trace.span_s <= 2 * SECONDS_PER_HOUR
    rate = len(trace) / (2 * SECONDS_PER_HOUR)
    assert 0.3 * 5 <= rate <= 2.5 * 5


def test_a_day_has_its_peak_after_noon_and_the_middle_of_its_swing_at_six() -> None:
    day = generators.diurnal(rps=10.0, duration_s=86_400.0)
    assert day.max() == pytest.approx(16.5)
    assert 12.0 < day.argmax() / SECONDS_PER_HOUR < 15.0
    assert day[0] < 5.0
    assert day[6 * 3600] == pytest.approx(10.0)


def test_bursts_are_four_times_the_rate_and_take_about_a_seventh_of_the_time() -> None:
    rates = generators.bursty(rps=3.0, duration_s=100_000.0, seed=1)
    assert np.unique(rates).tolist() == [3.0, 12.0]
    assert (rates == 12.0).mean() == pytest.approx(264.0 / (264.0 + 1500.0), rel=0.3)
    assert rates[0] == 3.0


def test_full_load_and_none_take_turns() -> None:
    rates = generators.on_off(rps=3.0, duration_s=3000.0)
    assert rates.tolist() == [3.0] * 900 + [0.0] * 1800 + [3.0] * 300


def test_a_share_of_each_prompt_is_found_in_the_cache() -> None:
    half = generators.Lengths(prompt=1000, output=100, hit=0.5)
    trace = generators.generate(generators.steady(rps=5.0, duration_s=600.0), half, seed=1, name="x")
    np.testing.assert_array_equal(trace.hit_tokens, trace.prompt_tokens // 2)
    part = trace.window(start_s=200.0, end_s=400.0)
    np.testing.assert_array_equal(part.hit_tokens, part.prompt_tokens // 2)


def test_lengths_have_the_means_they_are_named_for() -> None:
    trace = generators.parse("steady:20:2:chat", seed=1)
    assert trace.prompt_tokens.mean() == pytest.approx(generators.CHAT.prompt, rel=0.05)
    assert trace.output_tokens.mean() == pytest.approx(generators.CHAT.output, rel=0.05)


def test_burstiness_is_what_was_asked_for() -> None:
    rates = generators.steady(rps=20, duration_s=3600)
    for variation in (0.5, 1.0, 2.0):
        gaps = np.diff(generators.generate(rates, generators.CHAT, variation=variation, seed=2, name="x").arrival_s)
        assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.06)


@pytest.mark.parametrize(
    "text",
    [
        "steady:5",
        "steady:x:2",
        "steady:0:1",
        "steady:5:1:novels",
        "steady:5:1:chat:9",
        "sawtooth:5:1",
        "steady:5:86400",
    ],
)
def test_a_shape_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        generators.parse(text, seed=1)


def test_a_recorded_day_is_read_completely() -> None:
    trace = traces.read(data_path("traces/azure2023_conv.csv.gz"))
    assert len(trace) == 19_366
    assert trace.span_s == pytest.approx(0.97 * SECONDS_PER_HOUR, rel=0.01)
