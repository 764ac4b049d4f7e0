"""
From samples to readings: what is silent is missing, never zero.
"""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observe.test_decode import NOW, series
from tidegate.domain.observation import Missing, TierReading
from tidegate.observe.decode import PodSample, pod_samples
from tidegate.observe.dialects import FLOW
from tidegate.observe.dialects import NOW as NOW_SIGNALS
from tidegate.observe.queries import Dialect
from tidegate.observe.readings import TierPods, tier_reading

WINDOW = 60.0


def sample(
    *, age_s: float | None = 5.0, buckets: dict[str, dict[float, float]] | None = None, **values: float
) -> PodSample:
    return PodSample(values={"running": 0.0, **values}, age_s=age_s, buckets=buckets or {})


def read(pods: dict[str, PodSample], *, ready: str = "a", leaving: str = "") -> TierReading | Missing:
    return tier_reading(
        TierPods(ready=tuple(("prod", p) for p in ready), leaving=tuple(("prod", p) for p in leaving)),
        {("prod", name): pod for name, pod in pods.items()},
        window_s=WINDOW,
        stale_s=60.0,
    )


def reading(pods: dict[str, PodSample], *, ready: str = "a", leaving: str = "") -> TierReading:
    found = read(pods, ready=ready, leaving=leaving)
    assert isinstance(found, TierReading), found
    return found


@pytest.mark.parametrize(
    ("pods", "ready", "reason"),
    [
        pytest.param({}, "ab", "NoSeries", id="nobody scrapes them"),
        pytest.param({"a": sample(age_s=61.0)}, "a", "Stale", id="the last scrape was a minute ago"),
        pytest.param({"a": PodSample(values={}, age_s=None)}, "a", "NoSeries", id="counters but no gauge"),
        pytest.param({"a": sample()}, "abc", "PartialScrape", id="most are silent"),
        pytest.param({"a": sample(asleep=1.0)}, "a", "Asleep", id="a sleeping engine says nothing of now"),
    ],
)
def test_missing_metrics_have_a_reason(pods: dict[str, PodSample], ready: str, reason: str) -> None:
    found = read(pods, ready=ready)
    assert isinstance(found, Missing)
    assert found.reason == reason


def test_a_silent_replica_is_assumed_to_be_like_the_others() -> None:
    pods = {"a": sample(started=2.0, running=10.0), "b": sample(started=4.0, running=20.0)}
    found = reading(pods, ready="abc")
    assert found.arrival_rps == pytest.approx(9.0)
    assert found.running == pytest.approx(45.0)
    assert found.replicas_reporting == 2


def test_a_counter_that_never_existed_is_unknown() -> None:
    found = reading({"a": sample()})
    assert found.arrival_rps is None
    assert found.rejection_rps is None
    assert found.prefix_cache_hit_rate is None
    assert found.ttft is None
    assert found.gpu_utilization is None


@pytest.mark.parametrize(
    ("flow", "running", "rate"),
    [
        pytest.param({"waiting_growth": 0}, 0, 0.0, id="nothing was ever counted and nothing is in flight"),
        pytest.param({"waiting_growth": 0}, 1, None, id="a request runs that nobody counted"),
        pytest.param({}, 0, None, id="it was scraped once: no rate can be known"),
        pytest.param(
            {"waiting_growth": 0, "prompt_tokens": 0}, 0, 0.0, id="vLLM's first engine counts tokens from the start"
        ),
        pytest.param({"waiting_growth": 0, "prompt_tokens": 5}, 0, None, id="it reads prompts that nobody counted"),
    ],
)
def test_a_server_that_creates_counters_on_first_use_is_idle_until_then(
    flow: dict[str, float], running: float, rate: float | None
) -> None:
    now = {"running": running, "waiting": 0, "seen": NOW - 5}
    vectors = {name: [series(v, signal=s) for s, v in said.items()] for name, said in (("now", now), ("flow", flow))}
    found = tier_reading(
        TierPods(ready=(("prod", "a"),)), pod_samples(vectors, Dialect(), time_s=NOW), window_s=WINDOW, stale_s=60.0
    )
    assert isinstance(found, TierReading)
    assert (found.arrival_rps, found.completion_rps) == (rate, rate)


def test_arrivals_are_first_tokens_and_growth_of_the_queue() -> None:
    assert reading({"a": sample(started=2.0, waiting_growth=60.0)}).arrival_rps == pytest.approx(3.0)
    assert reading({"a": sample(started=2.0, waiting_growth=-60.0)}).arrival_rps == pytest.approx(1.0)
    assert reading({"a": sample(started=2.0, waiting_growth=-600.0)}).arrival_rps == 0.0


def test_a_queue_lost_in_a_crash_does_not_reduce_the_others_arrivals() -> None:
    crashed = sample(started=1.0, waiting_growth=-300.0)
    found = reading({"a": sample(started=4.0), "b": sample(started=4.0), "c": crashed}, ready="ab", leaving="c")
    assert found.arrival_rps == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("more", "itl_s"),
    [
        pytest.param({"output_tokens": 102.0}, 0.03, id="a token per step"),
        pytest.param({"output_tokens": 302.0}, 0.01, id="speculative decoding: three tokens per step"),
        pytest.param({"output_tokens": 90.0}, 0.03, id="never more than the gap that was seen"),
        pytest.param({}, 0.03, id="tokens are not counted"),
        pytest.param({"output_length_sum": 600.0}, 0.03, id="long answers that all finish now (SGLang)"),
    ],
)
def test_the_mean_itl_is_that_of_a_token_and_not_of_a_step(more: dict[str, float], itl_s: float) -> None:
    found = reading({"a": sample(started=2.0, itl_sum=3.0, itl_count=100.0, **more)})
    assert found.itl_mean_s == pytest.approx(itl_s)


def test_requests_that_neither_finished_nor_run_were_aborted() -> None:
    found = reading({"a": sample(started=5.0, finished=3.0, running_growth=60.0)})
    assert found.abort_rps == pytest.approx(1.0, rel=0.05)
    assert found.abort_rps_counted is None
    counted = reading({"a": sample(started=5.0, finished=3.0, running_growth=60.0, aborted=0.5)})
    assert (counted.abort_rps, counted.abort_rps_counted) == (found.abort_rps, 0.5)
    assert reading({"a": sample(started=3.0, finished=3.0, running_growth=30.0)}).abort_rps == 0.0
    assert reading({"a": sample(started=3.0, finished=3.0, aborted=0.5)}).abort_rps == 0.5


@pytest.mark.parametrize("counted", [None, 0.5])
def test_aborts_are_not_inferred_where_it_is_unknown_how_many_more_run(counted: float | None) -> None:
    values = {} if counted is None else {"aborted": counted}
    assert reading({"a": sample(started=5.0, finished=3.0, **values)}).abort_rps == counted


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        pytest.param({"vanished": 1.34, "ttft_sum": 0.6}, False, id="one request at the edge of the window"),
        pytest.param({"vanished": 4.0, "ttft_sum": 0.6}, False, id="those whose prompts were read when it began"),
        pytest.param({"vanished": 30.0, "ttft_sum": 20.0}, False, id="long prompts, many at once"),
        pytest.param({"vanished": 100.0, "ttft_sum": 20.0}, True, id="more than were ever in prefill"),
        pytest.param(
            {"vanished": 30.0, "ttft_sum": 120.0, "waiting": 120.0}, True, id="who is queued is not in prefill"
        ),
        pytest.param(
            {"vanished": 30.0, "ttft_sum": 60.0, "waiting": 120.0, "waiting_growth": 120.0},
            True,
            id="nor who was queued on average",
        ),
    ],
)
def test_a_request_in_prefill_is_not_an_abort(values: dict[str, float], seen: bool) -> None:
    vanished = values.pop("vanished") / WINDOW
    found = reading({"a": sample(started=4.0 + vanished, finished=4.0, running_growth=0.0, **values)}).abort_rps
    assert found is not None
    assert (found > 0.0) is seen
    assert found <= vanished


def test_replicas_without_gpu_metrics_draw_as_much_power_as_the_others() -> None:
    """
    The exporter runs on half of the nodes: 800 W for the tokens of both replicas would be half of the true energy.
    """
    pods = {"a": sample(gpu_power_w=800.0, output_tokens=1000.0), "b": sample(output_tokens=1000.0)}
    found = reading(pods, ready="ab")
    assert (found.power_w, found.output_tokens_per_s) == (1600.0, 2000.0)


def test_terminating_replicas_count_for_arrivals_but_not_for_gauges() -> None:
    pods = {"a": sample(started=2.0, running=4.0), "b": sample(started=1.0, running=9.0)}
    found = reading(pods, ready="a", leaving="b")
    assert found.arrival_rps == pytest.approx(3.0)
    assert found.running == 4.0


def test_means_are_over_requests_not_over_replicas() -> None:
    pods = {
        "a": sample(prompt_length_sum=900.0, prompt_length_count=9.0),
        "b": sample(prompt_length_sum=1000.0, prompt_length_count=1.0),
    }
    assert reading(pods, ready="ab").prompt_tokens_mean == pytest.approx(190.0)


def test_an_answer_without_tokens_counts_as_one() -> None:
    found = reading({"a": sample(finished=5.0, output_tokens=0.0, output_length_sum=0.0, output_length_count=5.0)})
    assert found.output_tokens_mean == 1.0


UNUSED = {"prefix_queries": 0.0, "prefix_hits": 0.0}


@pytest.mark.parametrize(
    ("values", "hit"),
    [
        pytest.param({"prefix_queries": 1000.0, "prefix_hits": 900.0}, 0.9, id="prompts that are looked up"),
        pytest.param({"prefix_queries": 1000.0}, 0.0, id="none was ever found"),
        pytest.param(UNUSED | {"started": 1.0, "finished": 1.0, "ttft_sum": 2.0}, 0.0, id="it is off"),
        pytest.param(
            {"prefix_queries": 0.0, "started": 1.0, "finished": 0.0}, None, id="prompts are counted when they end"
        ),
        pytest.param(
            UNUSED | {"started": 1.0, "finished": 1.0, "ttft_sum": 60.0},
            None,
            id="all had been looked up before the window",
        ),
        pytest.param(UNUSED | {"started": 0.0}, None, id="no prompt came"),
        pytest.param({"started": 1.0}, None, id="a server without these counters"),
    ],
)
def test_the_share_of_prompts_in_the_cache(values: dict[str, float], hit: float | None) -> None:
    assert reading({"a": sample(**values)}).prefix_cache_hit_rate == hit


def test_a_server_without_length_histograms_gives_means_from_its_token_counters() -> None:
    found = reading({"a": sample(started=2.0, finished=2.0, prompt_tokens=600.0, output_tokens=100.0)})
    assert (found.prompt_tokens_mean, found.output_tokens_mean) == (300.0, 50.0)


def test_a_server_that_counts_tokens_when_a_request_finishes_tells_their_rate() -> None:
    lengths = {"prompt_length_sum": 300.0, "prompt_length_count": 0.5}
    lengths |= {"output_length_sum": 50.0, "output_length_count": 0.5}
    found = reading({"a": sample(started=2.0, finished=0.5, **lengths), "b": sample(output_tokens=60.0)}, ready="ab")
    assert (found.prompt_tokens_mean, found.output_tokens_mean) == (600.0, 100.0)
    assert found.output_tokens_per_s == 110.0


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from([s.name for s in (*NOW_SIGNALS, *FLOW)]), st.floats()),
        max_size=40,
    ),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["-Inf", "0.5", "1e300", "+Inf"]), st.floats())),
)
def test_a_broken_exporter_does_not_affect_the_others(
    values: list[tuple[str, str, float]], buckets: list[tuple[str, str, float]]
) -> None:
    seen = [series(NOW, pod=pod, signal="seen") for pod in "ab"]
    running = [series(1, pod=pod, signal="running") for pod in "ab"]
    signals = [series(value, pod=pod, signal=name) for pod, name, value in values if name != "asleep"]
    ttft = [series(value, pod=pod, le=edge) for pod, edge, value in buckets]
    pods = pod_samples({"now": [*seen, *running, *signals], "ttft": ttft}, Dialect(), time_s=NOW)
    found = tier_reading(TierPods(ready=(("prod", "a"), ("prod", "b"))), pods, window_s=WINDOW, stale_s=60.0)
    assert isinstance(found, TierReading)


def test_histograms_join_on_the_edges_that_all_replicas_have() -> None:
    pods = {
        "a": sample(buckets={"ttft": {0.1: 1.0, 0.5: 4.0, 1.0: 5.0, math.inf: 6.0}}),
        "b": sample(buckets={"ttft": {0.5: 2.0, 2.0: 3.0, math.inf: 3.0}}),
    }
    found = reading(pods, ready="ab").ttft
    assert found is not None
    assert (found.bounds_s, found.counts) == ((0.5, math.inf), (6.0, 9.0))


@pytest.mark.parametrize(("new", "requests"), [("ab", 7.0), ("a", None)])
def test_request_itl_is_unknown_if_some_replicas_only_time_gaps(new: str, requests: float | None) -> None:
    pods = {name: sample(buckets={"itl": {0.05: 90.0, math.inf: 100.0}}) for name in "ab"}
    for name, total in zip(new, (3.0, 4.0), strict=False):
        pods[name].buckets["request_itl"] = {0.05: 0.0, math.inf: total}
    found = reading(pods, ready="ab")
    assert (found.request_itl and found.request_itl.total) == requests
    assert found.itl is not None
    assert found.itl.total == 200.0


def test_histograms_without_a_common_edge_are_not_guessed() -> None:
    pods = {
        "a": sample(buckets={"ttft": {0.1: 1.0, math.inf: 1.0}}),
        "b": sample(buckets={"ttft": {0.2: 1.0, math.inf: 1.0}}),
    }
    assert reading(pods, ready="ab").ttft is None


@given(
    st.lists(
        st.fixed_dictionaries({"started": st.floats(0, 1e4), "age": st.one_of(st.none(), st.floats(0, 200))}),
        min_size=1,
        max_size=8,
    )
)
def test_silent_replicas_never_make_demand_look_smaller(pods: list[dict[str, Any]]) -> None:
    names = "abcdefgh"[: len(pods)]
    found = read(
        {n: sample(age_s=p["age"], started=p["started"]) for n, p in zip(names, pods, strict=True)}, ready=names
    )
    speaking = [p["started"] for p in pods if p["age"] is not None and p["age"] <= 60.0]
    if isinstance(found, Missing):
        assert 2 * len(speaking) < len(pods)
    else:
        assert found.arrival_rps is not None
        assert found.arrival_rps >= sum(speaking) * (1 - 1e-9)
