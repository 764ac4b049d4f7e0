"""The current load for `plan --prometheus`: every server counts, whichever metric names it uses."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from tidegate.cli.plan import live
from tidegate.domain.key import Key
from tidegate.errors import SourceError
from tidegate.observe.prometheus import Prometheus
from tidegate.observe.queries import Dialect
from tidegate.units import SECONDS_PER_DAY

NOW = 1_000_000.0
KEY = Key("prod", "chat")
DIALECT = Dialect(window_s=live.WINDOW_S)


class Recorder:
    """A Prometheus that answers what is about one namespace, or about all, with 2, and keeps what it was asked."""

    def __init__(self, namespace: str = "") -> None:
        self.asked: list[str] = []
        self.namespace = namespace

    def custom_query(self, query: str, params: Mapping[str, Any]) -> list[dict[str, object]]:
        self.asked.append(query)
        known = "namespace=" not in query or f'namespace="{self.namespace}"' in query
        return [{"metric": {}, "value": [NOW, "2"]}] if known else []

    def custom_query_range(self, query: str, *_: object) -> list[dict[str, object]]:
        self.asked.append(query)
        return []


@pytest.fixture
def asked() -> list[str]:
    return asked_of(Recorder("prod"))


def asked_of(recorder: Recorder) -> list[str]:
    live.measured(cast(Prometheus, recorder), KEY, "m", DIALECT, time_s=NOW)
    return recorder.asked


def rate(metric: str) -> str:
    return f'sum by (namespace,pod,instance) (rate({metric}{{model_name="m",namespace="prod"}}[300s]))'


def test_a_model_that_serves_in_two_namespaces_is_counted_in_the_own_one(asked: list[str]) -> None:
    assert len(asked) == 4
    assert all(query.count('namespace="prod"') == query.count('model_name="m"') for query in asked)


def test_a_model_that_serves_elsewhere_only_is_counted_there() -> None:
    asked = asked_of(Recorder("elsewhere"))
    assert len(asked) == 5, "the own namespace has none, then everything is about all of them"
    assert not any("namespace=" in query for query in asked[1:])


class Unfinished(Recorder):
    """Knows how many come, and of one of their lengths only nothing over nothing."""

    def __init__(self, length: str) -> None:
        super().__init__()
        self.length = length

    def custom_query(self, query: str, params: Mapping[str, Any]) -> list[dict[str, object]]:
        answer = super().custom_query(query, params)
        return [{"metric": {}, "value": [NOW, "NaN"]}] if self.length in query else answer


class Week(Recorder):
    """Remembers a week of 40 requests/s, with a hole in it."""

    def custom_query_range(self, query: str, *span: object) -> list[dict[str, object]]:
        start, end, _ = span
        assert isinstance(start, float)
        assert isinstance(end, float)
        times = range(int(start), int(end), live.STEP_S)
        return [{"metric": {}, "values": [[t, "NaN" if t < start + 3600 else "40"] for t in times]}]


def test_a_week_of_the_past_is_learned() -> None:
    load = live.measured(cast(Prometheus, Week()), KEY, "m", DIALECT, time_s=NOW)
    assert load.rate_rps == 2.0
    assert load.memory.record_rps == pytest.approx(40.0)
    assert load.memory.usual_s == SECONDS_PER_DAY
    assert all(load.memory.season.daily)


def test_without_history_the_current_load_is_used() -> None:
    load = live.measured(cast(Prometheus, Recorder()), KEY, "m", DIALECT, time_s=NOW)
    assert (load.memory.time_s, load.memory.levels.last) == (NOW, 2.0)


@pytest.mark.parametrize("length", ["prompt_tokens", "generation_tokens"])
def test_without_finished_requests_lengths_are_unknown(length: str) -> None:
    with pytest.raises(SourceError, match="model_name='m' finished in the last 300 s"):
        live.measured(cast(Prometheus, Unfinished(length)), KEY, "m", DIALECT, time_s=NOW)


def test_a_name_is_chosen_for_each_replica_and_not_for_the_fleet(asked: list[str]) -> None:
    both = f"{rate('vllm:time_to_first_token_seconds_count')} or {rate('sglang:time_to_first_token_seconds_count')}"
    assert asked[0].startswith(f"sum({both}) + ")
    assert asked[3] == asked[0], "the past is counted as now is"


def test_without_histograms_of_lengths_the_counters_say_how_long_requests_are(asked: list[str]) -> None:
    prompt, output = asked[1:3]
    assert f" > 0) or sum({rate('vllm:prompt_tokens_total')}) / (sum(" in prompt
    assert f" > 0) or sum({rate('vllm:generation_tokens_total')}) / (sum(" in output


def test_sglang_counts_tokens_and_requests_when_they_finish(asked: list[str]) -> None:
    prompt, output = asked[1:3]
    requests = f" or {rate('sglang:num_requests_total')}) > 0) or "
    assert f" or {rate('sglang:prompt_tokens_total')}) / (" in prompt
    assert f" or {rate('sglang:generation_tokens_total')}) / (" in output
    assert requests in prompt
    assert requests in output
