"""Unit tests of the parts: encoding, error histogram, season, mix, and the size of the memory."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.forecast.builders import NOON, seen
from tidegate import forecast
from tidegate.forecast import ForecastMemory, codes, experts, sketch
from tidegate.forecast.season import SLOT_S, UNKNOWN, Season
from tidegate.forecast.track import FRESH, HORIZONS_S, INTERVAL_LATER_S, track


@given(st.floats(2e-6, 1e7))
def test_a_code_is_close_to_its_value(value: float) -> None:
    assert codes.decode(codes.encode(value)) == pytest.approx(value, rel=3e-4)
    assert codes.encode(codes.decode(codes.encode(value))) == codes.encode(value)


@given(st.lists(st.integers(0, 255), max_size=50))
def test_packed_arrays_come_back(values: list[int]) -> None:
    for kind in ("B", "H", "I"):
        assert codes.unpack(codes.pack(values, kind=kind), length=len(values), kind=kind) == tuple(values)


def test_an_array_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="3 numbers where 4 belong"):
        codes.unpack(codes.pack([1, 2, 3]), length=4)


@given(st.lists(st.floats(-5.0, 5.0), min_size=50, max_size=200))
def test_a_quantile_of_the_histogram_lies_in_the_bins_of_the_errors_around_that_rank(errors: list[float]) -> None:
    bins: sketch.Sketch = (0,) * sketch.BINS
    for error in errors:
        bins = sketch.add(bins, error)
    for level, found in zip((0.1, 0.5, 0.9), sketch.quantiles(bins, (0.1, 0.5, 0.9)), strict=True):
        ordered, rank = sorted(errors), level * len(errors)
        low = int(sketch.place_of(ordered[max(math.floor(rank) - 1, 0)]))
        high = math.ceil(sketch.place_of(ordered[min(math.ceil(rank), len(ordered) - 1)]))
        assert sketch.EDGES[low] - 1e-12 <= found <= sketch.EDGES[high + 1] + 1e-12


def test_a_full_histogram_forgets_a_surge_after_days_not_hours() -> None:
    bins = sketch.add((0,) * sketch.BINS, 2.0)
    place = round(sketch.place_of(2.0))
    for _ in range(2_500):
        bins = sketch.add(bins, 0.0)
    assert bins[place] > 0
    for _ in range(6_000):
        bins = sketch.add(bins, 0.0)
    assert bins[place] == 0
    assert sum(bins) <= sketch.TOTAL_MAX


def test_the_prior_weighs_a_few_samples_and_leans_to_no_side() -> None:
    bins = sketch.prior(0.1, samples=4.0)
    assert sum(bins) == pytest.approx(4 * sketch.SAMPLE_WEIGHT, abs=10)
    low, middle, high = sketch.quantiles(bins, (0.1, 0.5, 0.9))
    assert middle == pytest.approx(0.0, abs=0.01)
    assert low == pytest.approx(-high, rel=0.2)


def test_the_usual_load_is_unknown_until_it_was_seen() -> None:
    season = Season()
    assert season.usual_rps(NOON) == UNKNOWN
    for day in range(2):
        for tick in range(4 * 120):
            time_s = NOON + day * 86_400 + tick * 15.0
            season = season.observed(rate_rps=6.0, since_s=time_s - 15.0, time_s=time_s)
    assert season.usual_rps(NOON + 86_400 + 3_000) == pytest.approx(6.0, rel=0.01)


@pytest.mark.parametrize(
    ("after_s", "expected"),
    [
        pytest.param(-900.0, 2.0, id="in the middle of the half hour before"),
        pytest.param(0.0, 3.0, id="where two meet"),
        pytest.param(900.0, 4.0, id="in the middle of this one"),
        pytest.param(2_250.0, 7.0, id="three quarters of the way to the next"),
        pytest.param(9_000.0, 16.0, id="beyond what is held"),
        pytest.param(-3_600.0, 2.0, id="before what is held"),
    ],
)
def test_between_the_middles_of_two_half_hours_the_usual_load_is_a_straight_line(
    after_s: float, expected: float
) -> None:
    season = Season(slot=int(NOON // SLOT_S), around=(2.0, 4.0, 8.0, 16.0))
    assert season.usual_rps(NOON + after_s) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("around", "factor"),
    [
        pytest.param((10.0, 10.0, 10.0, 10.0), 1.0, id="nothing changes"),
        pytest.param((10.0, 10.0, 20.0, 20.0), 2.0, id="the morning comes"),
        pytest.param((1.0, 1.0, 90.0, 90.0), 4.0, id="a morning that nobody believes in full"),
        pytest.param((90.0, 90.0, 1.0, 1.0), 0.25, id="nor a night"),
        pytest.param((10.0, 10.0, UNKNOWN, UNKNOWN), 1.0, id="nobody knows what comes"),
        pytest.param((UNKNOWN, UNKNOWN, 10.0, 10.0), 1.0, id="nobody knows what was"),
        pytest.param((0.0, 0.0, 10.0, 10.0), 1.0, id="out of nothing there is no factor"),
    ],
)
def test_the_season_moves_the_load_by_a_factor_within_bounds(
    around: tuple[float, float, float, float], factor: float
) -> None:
    season = Season(slot=int(NOON // SLOT_S), around=around)
    assert experts.season_factor(season, time_s=NOON + 900.0, horizon_s=SLOT_S) == pytest.approx(factor)


def test_a_half_hour_hardly_seen_does_not_count() -> None:
    season = Season().observed(rate_rps=9.0, since_s=NOON, time_s=NOON + 60.0)
    later = season.observed(rate_rps=9.0, since_s=NOON + SLOT_S, time_s=NOON + SLOT_S + 1.0)
    assert set(later.daily) == {0}


def test_the_linear_form_is_the_weighted_experts() -> None:
    levels = experts.Levels(9.0, 8.0, 6.0, 5.0)
    shares = experts.weights([0.1, 0.2, 0.15, 0.3, 0.12, 0.11])
    assert sum(shares) == pytest.approx(1.0)
    each = experts.forecasts(levels, carry=0.7, factor=1.2)
    whole = experts.mixed(experts.mix(shares, carry=0.7), levels, 1.2)
    assert whole == pytest.approx(sum(a * b for a, b in zip(shares, each, strict=True)))


def test_the_expert_that_was_right_counts_most() -> None:
    assert experts.weights([0.3, 0.3, 0.03, 0.3, 0.3, 0.3])[2] > 0.99


@pytest.mark.parametrize("index", range(len(HORIZONS_S)))
def test_a_forecast_is_compared_when_its_time_has_come(index: int) -> None:
    levels = experts.Levels(5.0, 5.0, 5.0, 5.0)
    horizon = HORIZONS_S[index]
    record = FRESH[index].written(time_s=NOON, levels=levels, factor=1.0)
    early = record.compared(time_s=NOON + horizon - 1, seen_rps=9.0, usual_rps=2.0)
    due = record.compared(time_s=NOON + horizon + 5, seen_rps=9.0, usual_rps=2.0)
    late = record.compared(time_s=NOON + horizon * 1.3 + 61, seen_rps=9.0, usual_rps=2.0)
    assert early is record
    assert due.pending == ()
    assert sum(due.sketch) == sum(record.sketch) + sketch.SAMPLE_WEIGHT
    assert late.pending == ()
    assert late.sketch == record.sketch


@pytest.mark.parametrize("index", range(len(HORIZONS_S)))
def test_forecasts_are_written_down_less_often_once_many_were_compared(index: int) -> None:
    record = FRESH[index]
    full = track(
        index=index, written_s=0, pending=(), losses=record.losses, sketch=sketch.prior(0.1, samples=sketch.TOTAL_MAX)
    )
    assert record.interval_s <= full.interval_s == INTERVAL_LATER_S


@pytest.mark.parametrize("tick_s", [5.0, 15.0, 60.0])
def test_the_memory_stays_small(tick_s: float) -> None:
    draw, memory, now = random.Random(7), ForecastMemory(), NOON
    for _ in range(int(2 * 86_400 / 60)):
        now += tick_s
        rate = draw.lognormvariate(1.0, 1.0)
        observation = seen(
            rate,
            completion_rps=rate,
            running=rate * 10,
            waiting=0.0,
            prompt_tokens_mean=draw.uniform(100, 9000),
            output_tokens_mean=250.0 * draw.random(),
        )
        memory = forecast.observe(memory, observation=observation, time_s=now)
    assert len(json.dumps(memory.to_json(), separators=(",", ":"))) < 1_700


@pytest.mark.parametrize(
    "field", ["time", "levels", "usual", "queue", "looked", "idle", "shape", "daily", "weekly", "slot", "tracks"]
)
@pytest.mark.parametrize("damage", [[], "zz", {"a": 1}, True], ids=["empty list", "text", "object", "true"])
def test_a_damaged_memory_is_refused(field: str, damage: object) -> None:
    value = forecast.observe(None, observation=seen(3.0), time_s=NOON).to_json()
    with pytest.raises((KeyError, TypeError, ValueError)):
        ForecastMemory.from_json(value | {field: damage})
