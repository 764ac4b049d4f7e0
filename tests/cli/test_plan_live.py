"""The load of now as `plan --prometheus` asks for it: every server counts, whichever names it speaks."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from tidegate.cli.plan import live
from tidegate.observe.prometheus import Prometheus

NOW = 1_000_000.0


class Recorder:
    """A Prometheus that answers everything with 2, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def custom_query(self, query: str, params: Mapping[str, Any]) -> list[dict[str, object]]:
        self.asked.append(query)
        return [{"metric": {}, "value": [NOW, "2"]}]

    def custom_query_range(self, query: str, *_: object) -> list[dict[str, object]]:
        self.asked.append(query)
        return []


@pytest.fixture
def asked() -> list[str]:
    recorder = Recorder()
    live.measured(cast(Prometheus, recorder), "m", time_s=NOW)
    return recorder.asked


def rate(metric: str) -> str:
    return f'sum by (namespace,pod,instance) (rate({metric}{{model_name="m"}}[300s]))'


def test_a_name_is_chosen_for_each_replica_and_not_for_the_fleet(asked: list[str]) -> None:
    both = f"{rate('vllm:time_to_first_token_seconds_count')} or {rate('sglang:time_to_first_token_seconds_count')}"
    assert asked[0].startswith(f"sum({both}) + ")
    assert asked[3] == asked[0], "the past is counted as now is"


def test_without_histograms_of_lengths_the_counters_say_how_long_requests_are(asked: list[str]) -> None:
    prompt, output = asked[1:3]
    vllm, sglang = rate("vllm:prompt_tokens_total"), rate("sglang:prompt_tokens_total")
    assert f" > 0) or sum({vllm} or {sglang}) / (sum(" in prompt
    vllm, sglang = rate("vllm:generation_tokens_total"), rate("sglang:generation_tokens_total")
    assert f" > 0) or sum({vllm} or {sglang}) / (sum(" in output
