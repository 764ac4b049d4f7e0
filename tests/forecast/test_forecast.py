"""Properties for any load: ordered quantiles, missing data is not zero, steady stays steady, the past is remembered."""

import json
import math
import random
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.forecast.builders import NOON, gateway, seen, serving, silence
from tidegate import forecast
from tidegate.domain.forecast import DemandForecast
from tidegate.domain.observation import DeploymentObservation, TierState
from tidegate.forecast import ForecastMemory, codes
from tidegate.forecast.expect import DRAIN_S
from tidegate.forecast.sketch import BINS

HORIZONS = (15.0, 45.0, 120.0, 600.0, 3_600.0)
Load = list[tuple[float, float]]
IDLE = seen(0.0, running=0.0, waiting=0.0)

rates = st.one_of(st.just(0.0), st.floats(0.01, 500.0))
loads = st.lists(st.tuples(st.floats(5.0, 60.0), rates), min_size=1, max_size=60)


def watched(load: Load, *, memory: ForecastMemory | None = None, times: float = 1.0) -> tuple[ForecastMemory, float]:
    """The memory after (seconds since the last tick, requests/s), and the time then."""
    now = NOON if memory is None or memory.time_s is None else memory.time_s
    known = memory if memory is not None else ForecastMemory()
    for elapsed, rate in load:
        now += elapsed
        known = forecast.observe(known, observation=seen(rate * times), time_s=now)
    return known, now


def predicted(load: Load, *, times: float = 1.0) -> DemandForecast:
    memory, now = watched(load, times=times)
    return forecast.predict(memory, horizons_s=HORIZONS, time_s=now)


def steady(rate: float, *, hours: float, tick_s: float = 15.0) -> Load:
    return [(tick_s, rate)] * int(hours * 3600 / tick_s)


@given(loads)
def test_quantiles_do_not_cross_and_are_not_negative(load: Load) -> None:
    for horizon in predicted(load).horizons:
        assert horizon.rates_rps[0] >= 0.0
        assert all(low <= high for low, high in pairwise(horizon.rates_rps))
        assert all(math.isfinite(rate) for rate in horizon.rates_rps)


@given(loads)
def test_the_same_input_gives_the_same_forecast(load: Load) -> None:
    assert predicted(load) == predicted(load)


@given(loads)
def test_a_restart_changes_nothing(load: Load) -> None:
    memory, now = watched(load)
    again = ForecastMemory.from_json(json.loads(json.dumps(memory.to_json())))
    assert again == memory
    rest = [(20.0, 3.0), (200.0, 4.0)]
    assert watched(rest, memory=again) == watched(rest, memory=memory)
    assert forecast.predict(again, horizons_s=HORIZONS, time_s=now) == forecast.predict(
        memory, horizons_s=HORIZONS, time_s=now
    )


@given(loads, st.floats(1.0, 1e5))
def test_silence_changes_nothing(load: Load, wait_s: float) -> None:
    memory, now = watched(load)
    assert forecast.observe(memory, observation=silence(), time_s=now + wait_s) == memory


@given(loads)
def test_time_that_does_not_go_on_changes_nothing(load: Load) -> None:
    memory, now = watched(load)
    assert forecast.observe(memory, observation=seen(77.0), time_s=now) == memory
    assert forecast.observe(memory, observation=seen(77.0), time_s=now - 30.0) == memory


@pytest.mark.parametrize("ahead_s", [400.0, 7 * 86_400.0])
def test_a_clock_that_ran_ahead_and_was_set_right_does_not_stop_the_forecast(ahead_s: float) -> None:
    """One tick with a wrong clock; afterwards the current load counts, and what was learned is kept."""
    memory, now = watched([*steady(2.0, hours=6), *surges(every=240, length=20, count=4)])
    wrong = forecast.observe(memory, observation=seen(5.0), time_s=now + ahead_s)
    read = ForecastMemory.from_json(json.loads(json.dumps(wrong.to_json())))
    first = forecast.observe(read, observation=seen(7.0), time_s=now + 15)
    assert (first.time_s, first.levels.mid, first.record_rps) == (now + 15, 7.0, read.record_rps)
    assert [t.sketch for t in first.tracks] == [t.sketch for t in read.tracks]
    assert (first.season.daily, first.usual_s) == (read.season.daily, read.usual_s + 60.0)
    after, now = watched(steady(50.0, hours=1), memory=first)
    expected = forecast.predict(after, horizons_s=(120.0,), time_s=now).horizons[0]
    assert expected.quantile(0.5) == pytest.approx(50.0, rel=0.02)
    assert sum(after.tracks[0].sketch) > sum(read.tracks[0].sketch)


def test_silence_after_a_clock_was_set_right_changes_nothing() -> None:
    memory, now = watched(steady(2.0, hours=1))
    assert forecast.observe(memory, observation=silence(), time_s=now - 86_400.0) is memory


def test_idle_time_goes_on_after_a_clock_was_set_right() -> None:
    memory, now = watched(steady(2.0, hours=1))
    wrong = forecast.observe(memory, observation=IDLE, time_s=now + 86_400.0)
    for i in range(1, 41):
        wrong = forecast.observe(wrong, observation=IDLE, time_s=now + 15.0 * i)
    assert forecast.predict(wrong, horizons_s=HORIZONS, time_s=now + 600.0).idle_s == 585.0


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(5.0, 60.0), st.floats(50.0, 500.0)), min_size=2, max_size=60), st.floats(1.0, 20.0))
def test_forecasts_scale_with_the_load(load: Load, times: float) -> None:
    """Far above 1 request/s, to a quarter; a quantile far below the load is no finer than a fiftieth of it."""
    base, scaled = predicted(load), predicted(load, times=times)
    coarse = 0.02 * max(rate for _, rate in load)
    for plain, larger in zip(base.horizons, scaled.horizons, strict=True):
        for one, other in zip(plain.rates_rps, larger.rates_rps, strict=True):
            assert other == pytest.approx(one * times, rel=0.25, abs=coarse * times)


def test_days_of_few_requests_do_not_widen_the_forecast_after_a_launch() -> None:
    draw = random.Random(1)
    few = [(60.0, sum(draw.random() < 0.05 for _ in range(60)) / 60) for _ in range(2 * 24 * 60)]
    launched = [(60.0, rate * draw.gauss(1.0, 0.03)) for rate in [100.0] * 360 + [40.0] * 360]
    memory, now = watched(few + launched)
    expected = forecast.predict(memory, horizons_s=(120.0,), time_s=now).horizons[0]
    assert expected.quantile(0.95) < 50.0


@pytest.mark.parametrize("tick_s", [5.0, 15.0, 60.0])
@pytest.mark.parametrize("rate", [0.2, 7.0, 900.0])
def test_steady_load_is_forecast_as_itself(rate: float, tick_s: float) -> None:
    memory, now = watched(steady(rate, hours=8, tick_s=tick_s))
    expected = forecast.predict(memory, horizons_s=(15.0, 120.0, 600.0), time_s=now)
    for horizon in expected.horizons:
        assert horizon.quantile(0.5) == pytest.approx(rate, rel=0.005)
        assert horizon.quantile(0.99) == pytest.approx(rate, rel=0.03)
        assert horizon.quantile(0.05) == pytest.approx(rate, rel=0.03)


def test_where_nothing_was_seen_nothing_is_expected() -> None:
    memory = forecast.observe(None, observation=silence(), time_s=NOON)
    expected = forecast.predict(memory, horizons_s=HORIZONS, time_s=NOON)
    assert [horizon.horizon_s for horizon in expected.horizons] == list(HORIZONS)
    assert {rate for horizon in expected.horizons for rate in horizon.rates_rps} == {0.0}


def test_before_errors_are_known_the_quantiles_are_wide() -> None:
    expected = predicted([(15.0, 10.0)] * 3).horizons[HORIZONS.index(120.0)]
    assert expected.quantile(0.5) == pytest.approx(10.0, rel=0.02)
    assert expected.quantile(0.99) == pytest.approx(12.5, rel=0.001)  # but not far above what was ever seen
    assert expected.quantile(0.05) < 8.0


def test_a_burst_now_is_a_floor() -> None:
    expected = predicted([*steady(5.0, hours=3), (15.0, 20.0)])
    for horizon in expected.horizons:
        assert horizon.quantile(0.75) >= 20.0


def test_a_queue_now_is_a_floor_where_no_request_arrives() -> None:
    observation = DeploymentObservation(tiers={"bf16": TierState()}, gateway=gateway(0.0, queued=90.0))
    memory = forecast.observe(None, observation=observation, time_s=NOON)
    expected = forecast.predict(memory, horizons_s=HORIZONS, time_s=NOON)
    assert expected.queued == 90.0
    assert expected.horizons[0].rates_rps[0] == pytest.approx(0.3)
    assert expected.idle_s == 0.0


def test_a_queue_is_served_beside_what_arrives() -> None:
    memory, now = watched(steady(5.0, hours=3))
    waiting = DeploymentObservation(tiers={"bf16": serving(5.0, waiting=600.0)})
    behind = forecast.observe(memory, observation=waiting, time_s=now + 15)
    calm, queue = [forecast.predict(m, horizons_s=(60.0,), time_s=now + 15).horizons[0] for m in (memory, behind)]
    assert queue.quantile(0.5) == pytest.approx(calm.quantile(0.5) + 600.0 / DRAIN_S, rel=0.02)


def test_in_a_burst_no_burst_on_top_of_it_is_expected() -> None:
    """The highest load of a day bounds what errors, learned at a lower one, would add; one lucky look does not."""
    day = surges(every=240, length=20, count=24)
    lucky = [*day[:2000], (15.0, 40.0), *day[2001:]]
    for load in (day, lucky):
        top = predicted([*load, *[(15.0, 20.0)] * 16]).horizons[HORIZONS.index(120.0)]
        assert top.quantile(0.5) == pytest.approx(20.0, rel=0.05)
        assert 20.0 <= top.quantile(0.99) <= 21.0 + 1e-6


def surges(*, every: int, length: int, count: int) -> Load:
    calm, surge = [(15.0, 5.0)] * (every - length), [(15.0, 20.0)] * length
    return (calm + surge) * count


def test_surges_of_the_last_hours_stay_in_the_high_quantiles() -> None:
    calm_only, _ = watched(steady(5.0, hours=6))
    # A surge to four times the load for five minutes in every hour, then two hours of calm.
    surged, now = watched([*surges(every=240, length=20, count=6), *steady(5.0, hours=2)])
    horizons = (120.0,)
    calm_p99 = forecast.predict(calm_only, horizons_s=horizons, time_s=now).horizons[0].quantile(0.99)
    surged_p99 = forecast.predict(surged, horizons_s=horizons, time_s=now).horizons[0].quantile(0.99)
    assert calm_p99 < 5.3
    assert surged_p99 > 6.5


@pytest.mark.parametrize("tick_s", [5.0, 7.5, 15.0])
def test_a_burst_is_as_large_however_often_the_same_scrape_is_read(tick_s: float) -> None:
    """Scrapes every 15 s: 20 requests in flight at 5/s, then 150 more at each, which is 15/s."""
    memory, highest = ForecastMemory(), 0.0
    for i in range(int(780 / tick_s)):
        now = NOON + i * tick_s
        age_s = 1.0 + i * tick_s % 15
        grown = max(0.0, now - age_s - NOON - 720.0) // 15.0 * 150.0
        busy = seen(5.0, completion_rps=5.0, running=20.0, waiting=grown, age_s=age_s)
        memory = forecast.observe(memory, observation=busy, time_s=now)
        highest = max(highest, memory.levels.last)
    assert highest == pytest.approx(15.0)


def test_a_lower_bound_counts_only_where_it_is_news() -> None:
    memory, now = watched(steady(5.0, hours=1))
    less = DeploymentObservation(tiers={"a": serving(2.0), "b": TierState(ready=1)})
    more = DeploymentObservation(tiers={"a": serving(9.0), "b": TierState(ready=1)})
    assert forecast.observe(memory, observation=less, time_s=now + 15) is memory
    assert forecast.observe(memory, observation=more, time_s=now + 15).levels.last == 9.0


def idle_s(memory: ForecastMemory, observations: list[DeploymentObservation], *, tick_s: float = 15.0) -> float:
    """Idle time after these observations, one a tick."""
    assert memory.time_s is not None
    now = memory.time_s
    for observation in observations:
        now += tick_s
        memory = forecast.observe(memory, observation=observation, time_s=now)
    return forecast.predict(memory, horizons_s=HORIZONS, time_s=now).idle_s


def test_idle_time_is_what_was_seen_to_be_idle() -> None:
    memory, _ = watched([(15.0, 5.0)])
    assert idle_s(memory, [IDLE, IDLE, IDLE]) == 30.0
    assert idle_s(memory, [IDLE, IDLE, IDLE, seen(1.0)]) == 0.0
    # An hour without metrics proves nothing: the clock starts again.
    assert idle_s(memory, [IDLE, IDLE], tick_s=3600.0) == 0.0


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (seen(0.0, running=2.0, waiting=0.0), 0.0),
        (seen(0.0), 0.0),
        (DeploymentObservation(tiers={"bf16": TierState()}, gateway=gateway(0.0)), 45.0),
    ],
    ids=["while answers are written", "while nobody tells whether answers are written", "at zero replicas"],
)
def test_idle_time_needs_proof_that_no_answer_is_written(observation: DeploymentObservation, expected: float) -> None:
    memory, _ = watched([(15.0, 5.0)])
    assert idle_s(memory, [observation] * 4) == expected


def test_a_tick_without_metrics_does_not_end_idle_time() -> None:
    memory, _ = watched([(15.0, 5.0)])
    assert idle_s(memory, [IDLE, silence(gateway=gateway(0.0)), IDLE]) == 30.0


def daily(time_s: float) -> float:
    return 10.0 + 8.0 * math.sin(2 * math.pi * time_s / 86_400)


@pytest.mark.parametrize("step_s", [60.0, 300.0, 1_200.0, 3_600.0])
def test_history_teaches_the_time_of_day(step_s: float) -> None:
    start = NOON - 7 * 86_400
    history = [(start + i * step_s, daily(start + i * step_s)) for i in range(int(7 * 86_400 / step_s) + 1)]
    memory = forecast.backfill(None, history=history)
    assert memory.season.usual_rps(NOON) == pytest.approx(daily(NOON), rel=0.12)
    assert memory.season.usual_rps(NOON + 1_800) == pytest.approx(daily(NOON + 1_800), rel=0.2)


def usual(memory: ForecastMemory, time_s: float) -> float | None:
    return forecast.predict(memory, horizons_s=HORIZONS, time_s=time_s).usual_rps


def test_after_minutes_without_metrics_the_usual_load_of_the_hour_is_the_best_guess() -> None:
    start = NOON - 7 * 86_400
    history = [(start + i * 300.0, daily(start + i * 300.0)) for i in range(7 * 288 + 1)]
    memory = forecast.backfill(None, history=history)
    assert usual(memory, NOON + 285.0) is None
    for hours in (0.1, 6, 18, 30, 24 * 9):
        now = NOON + hours * 3_600
        assert usual(memory, now) == pytest.approx(daily(now), rel=0.25)


def test_the_usual_load_of_an_hour_that_was_never_seen_is_not_known() -> None:
    memory, now = watched(steady(5.0, hours=3))
    assert usual(memory, now + 86_400 - 3_600) == pytest.approx(5.0, rel=0.1)
    assert usual(memory, now + 6 * 3_600) is None
    assert usual(ForecastMemory(), NOON) is None


def test_history_older_than_the_memory_is_not_taken_twice() -> None:
    memory, now = watched(steady(5.0, hours=1))
    assert forecast.backfill(memory, history=[(now - 60.0, 50.0), (now, 50.0)]) == memory
    assert forecast.backfill(memory, history=[(now + 60.0, 50.0)]).levels.last == 50.0


def test_a_weekend_is_learned_as_such() -> None:
    saturday = 2  # days after the epoch's Thursday
    start = NOON - NOON % 604_800

    def load(time_s: float) -> float:
        return 2.0 if int(time_s // 86_400) % 7 in (saturday, saturday + 1) else 20.0

    history = [(start + i * 600.0, load(start + i * 600.0)) for i in range(6 * 7 * 144)]
    memory = forecast.backfill(None, history=history)
    ahead = start + 6 * 604_800 + saturday * 86_400 + 12 * 3600
    watching = forecast.observe(memory, observation=seen(2.0), time_s=ahead)
    assert 1.0 < watching.season.usual_rps(ahead) < 8.0
    weekday = ahead + 3 * 86_400
    watching = forecast.observe(memory, observation=seen(20.0), time_s=weekday)
    assert 14.0 < watching.season.usual_rps(weekday) < 28.0


@pytest.mark.parametrize(
    ("variation", "low", "high"),
    [pytest.param(0.0, 0.1, 0.15, id="all of one length"), pytest.param(1.5, 1.0, 2.2, id="lengths that vary widely")],
)
def test_the_spread_of_lengths_is_read_off_the_means_of_windows(variation: float, low: float, high: float) -> None:
    memory, now = ForecastMemory(), NOON
    for i in range(2_000):
        now += 15.0
        # A window of 225 requests, 45 s between its first and its last sample: its mean is off by
        # variation / sqrt(225), to one side or the other; four ticks later is the next window.
        mean = 1000.0 * (1.0 + variation / math.sqrt(225.0) * (1 if i // 4 % 2 else -1))
        observation = seen(5.0, completion_rps=5.0, prompt_tokens_mean=mean, output_tokens_mean=200.0)
        memory = forecast.observe(memory, observation=observation, time_s=now)
    expected = forecast.predict(memory, horizons_s=HORIZONS, time_s=now)
    assert expected.prompt_tokens == pytest.approx(1000.0, rel=0.02)
    assert low <= forecast.variations(memory)[0] <= high


@pytest.mark.parametrize(
    ("rate", "low", "high"),
    [
        pytest.param(1 / 60, 1000.0, 3000.0, id="a single long request says little"),
        pytest.param(5.0, 25_000.0, 30_000.0, id="three hundred of them say that requests are others now"),
    ],
)
def test_after_a_gap_lengths_follow_the_number_of_requests(rate: float, low: float, high: float) -> None:
    memory, now = ForecastMemory(), NOON
    for _ in range(960):
        now += 15.0
        usual = seen(5.0, completion_rps=5.0, prompt_tokens_mean=1000.0, output_tokens_mean=200.0)
        memory = forecast.observe(memory, observation=usual, time_s=now)
    long = seen(rate, completion_rps=rate, prompt_tokens_mean=30_000.0, output_tokens_mean=1000.0)
    memory = forecast.observe(memory, observation=long, time_s=now + 7200.0)
    expected = forecast.predict(memory, horizons_s=HORIZONS, time_s=now + 7200.0)
    assert low < expected.prompt_tokens < high
    assert expected.burstiness < 20.0


def watched_lengths(rate: float, minutes: Iterable[tuple[float, float]]) -> ForecastMemory:
    """The memory after an hour of requests of 800 and 200 tokens, and minutes with other means (prompt, answer)."""
    memory, now = ForecastMemory(), NOON
    for prompt, output in [(800.0, 200.0)] * 60 + list(minutes):
        for _ in range(4):
            now += 15.0
            observation = seen(rate, completion_rps=rate, prompt_tokens_mean=prompt, output_tokens_mean=output)
            memory = forecast.observe(memory, observation=observation, time_s=now)
    return memory


@pytest.mark.parametrize(
    ("rate", "output", "low", "high"),
    [
        pytest.param(8.0, 2000.0, 1600.0, 2000.0, id="hundreds of longer answers are the new mean"),
        pytest.param(8.0, 20.0, 150.0, 200.0, id="shorter ones are awaited: too large a fleet harms nobody"),
        pytest.param(8.0, 240.0, 200.0, 215.0, id="a fifth more may pass"),
        pytest.param(0.02, 2000.0, 200.0, 900.0, id="one long answer a minute says little"),
    ],
)
def test_requests_that_grow_are_followed_within_minutes(rate: float, output: float, low: float, high: float) -> None:
    memory = watched_lengths(rate, [(800.0, output)] * 3)
    assert memory.shape.output_tokens is not None
    assert low < memory.shape.output_tokens < high


def test_requests_that_grow_are_no_spread_of_lengths() -> None:
    grown = watched_lengths(8.0, [(800.0 * 1.25**minute, 200.0) for minute in range(11)])
    assert forecast.variations(grown)[0] < forecast.variations(watched_lengths(8.0, ()))[0] + 0.05


def drifting(minute: int) -> float:
    """A mean that moves by 8 % within half an hour, as that of those who finish does with the load."""
    return 1.0 + 0.08 * math.sin(2 * math.pi * minute / 60)


def test_a_mean_that_drifts_with_the_load_is_no_spread_of_lengths() -> None:
    memory, now = ForecastMemory(), NOON
    for i in range(960):
        now += 15.0
        observation = seen(
            20.0, completion_rps=20.0, prompt_tokens_mean=500.0 * drifting(i // 4), output_tokens_mean=200.0
        )
        memory = forecast.observe(memory, observation=observation, time_s=now)
    assert forecast.variations(memory)[0] < 0.35


def test_while_the_load_jumps_no_lengths_are_compared() -> None:
    memory, now = ForecastMemory(), NOON
    for _ in range(480):
        now += 15.0
        observation = seen(20.0, completion_rps=20.0, prompt_tokens_mean=500.0, output_tokens_mean=200.0)
        memory = forecast.observe(memory, observation=observation, time_s=now)
    calm = forecast.variations(memory)
    for i in range(8):  # a burst: the short answers of many finish first
        now += 15.0
        observation = seen(80.0, completion_rps=60.0, prompt_tokens_mean=500.0, output_tokens_mean=120.0 + 10 * i)
        memory = forecast.observe(memory, observation=observation, time_s=now)
    assert forecast.variations(memory) == calm


def test_lengths_are_still_compared_after_a_day() -> None:
    memory, now = ForecastMemory(), NOON
    for i in range(26 * 60):
        now += 60.0
        mean = 500.0 * (1.0 + (0.1 if i % 2 else 0.0) * (i > 25 * 60))
        observation = seen(20.0, completion_rps=20.0, prompt_tokens_mean=mean, output_tokens_mean=200.0)
        memory = forecast.observe(memory, observation=observation, time_s=now)
    assert forecast.variations(memory)[0] > 0.15


def test_short_answers_that_finish_first_are_no_spread_of_lengths() -> None:
    memory, now = ForecastMemory(), NOON
    for i in range(240):  # an hour; long answers are in the means from the fifth minute on
        now += 15.0
        mean = 1600.0 * min(1.0, (i + 1) / 20)
        observation = seen(5.0, completion_rps=5.0, prompt_tokens_mean=500.0, output_tokens_mean=mean)
        memory = forecast.observe(memory, observation=observation, time_s=now)
    expected = forecast.predict(memory, horizons_s=HORIZONS, time_s=now)
    assert expected.output_tokens == pytest.approx(1600.0, rel=0.03)
    assert forecast.variations(memory)[1] < 0.5


def test_what_moves_all_the_time_is_soon_taken_for_usual() -> None:
    memory, now = ForecastMemory(), NOON
    rates = []
    for i in range(120):
        now += 15.0
        observation = seen(4.0, completion_rps=4.0, running=60.0 if i % 2 else 20.0, waiting=0.0)
        memory = forecast.observe(memory, observation=observation, time_s=now)
        rates.append(memory.levels.last)
    assert rates[1] == pytest.approx(4.0 + 40.0 / 15.0)
    assert rates[60:] == [4.0] * 60


def test_bursts_show_in_the_index_of_dispersion() -> None:
    calm = predicted(steady(10.0, hours=4))
    bursting = predicted([(15.0, 30.0 if i % 8 == 0 else 7.0) for i in range(960)])
    assert calm.burstiness == 1.0
    assert bursting.burstiness > 100.0


@pytest.mark.parametrize("silent_h", [8.0, 62.0], ids=["a night", "a weekend"])
def test_the_first_requests_after_a_long_silence_are_no_burst_beyond_all(silent_h: float) -> None:
    load = [*steady(20.0, hours=1), *steady(0.0, hours=silent_h, tick_s=60.0), *steady(20.0, hours=1)]
    memory, _ = watched(load)
    assert 0.0 <= memory.shape.dispersion < 1000.0
    assert ForecastMemory.from_json(json.loads(json.dumps(memory.to_json()))) == memory


NUMBERS = {
    "a negative usual load": {"usual": [-1.0, 600.0, 5.0]},
    "a load beyond all": {"levels": [1.0, 1.0, 1e300, 1.0]},
    "an endless load": {"levels": [1.0, 1.0, float("inf"), 1.0]},
    "a time before time": {"time": -5.0},
    "prompts of negative length": {"shape": [-10.0, 200.0, 1.0, 1.0, 1.0, 600.0, 1.0]},
}


@pytest.mark.parametrize("damage", NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_that_cannot_be_are_refused(damage: dict[str, object]) -> None:
    memory, _ = watched(steady(2.0, hours=1))
    with pytest.raises(ValueError, match="is not between"):
        ForecastMemory.from_json(memory.to_json() | damage)


def test_a_record_without_errors_is_refused() -> None:
    memory, _ = watched(steady(2.0, hours=1))
    value = json.loads(json.dumps(memory.to_json()))
    value["tracks"][0][3] = codes.pack([0] * BINS)
    with pytest.raises(ValueError, match="never empty"):
        ForecastMemory.from_json(value)
