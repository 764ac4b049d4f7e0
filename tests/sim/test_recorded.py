"""Traffic read back from a Prometheus that answers as the real one does."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.prometheus_server import PrometheusHandler, serving
from tests.sim.builders import KEY, scenario, traffic
from tidegate.domain.key import Key
from tidegate.domain.spec import DeploymentSpec
from tidegate.errors import SourceError, SpecError
from tidegate.observe.prometheus import Access, Prometheus
from tidegate.observe.queries import Dialect
from tidegate.sim.recorded import check, demand_query, dialect_of, recorded

START_S, HOUR = 1_767_225_600.0, 3600.0
MODEL = "a-model"
DIALECT = Dialect(window_s=120.0)


def of(model: str, key: Key = KEY) -> DeploymentSpec:
    return replace(scenario(traffic([0.0])).services[0].spec, model=model, key=key)


class Answers(PrometheusHandler):
    """Two requests/s in the first half of each hour, six in the second; prompts of 800 tokens, answers of 300."""

    def series(self, form: dict[str, list[str]], *, points: bool) -> list[dict[str, object]]:
        query, start, end = form["query"][0], float(form["start"][0]), float(form["end"][0])
        times = np.arange(start, end + 1, 60.0)
        speaks = self.sglang if 'model_name="sglang"' in query else self.value
        known = any(f'model_name="{name}",namespace="test"' in query for name in (MODEL, "sglang"))
        values = [[t, speaks(query, t)] for t in times] if known and "[120s]" in query else []
        return [{"metric": {}, "values": values}] if values else []

    @staticmethod
    def value(query: str, time_s: float) -> str:
        if "prompt_tokens_sum" in query:
            return "800" if time_s % 600 else "NaN"
        if "generation_tokens_sum" in query:
            return "300"
        return "2" if (time_s - 1) % HOUR < HOUR / 2 else "6"

    @staticmethod
    def sglang(query: str, time_s: float) -> str:
        """It has no histogram of lengths: tokens over requests of its counters."""
        if "sglang:prompt_tokens_total" in query and "sglang:time_to_first_token_seconds_count" in query:
            return "700"
        if "sglang:generation_tokens_total" in query and "sglang:e2e_request_latency_seconds_count" in query:
            return "200"
        return "4" if "sglang:time_to_first_token_seconds_count" in query else "NaN"


@pytest.fixture
def client() -> Iterator[Prometheus]:
    with serving(Answers) as url:
        yield Prometheus(Access(url=url))


def test_arrivals_follow_the_recorded_rate_and_lengths_their_recorded_mean(client: Prometheus) -> None:
    trace = recorded(client, of(MODEL), DIALECT, start_s=START_S, end_s=START_S + 2 * HOUR, seed=1)
    counts, _ = np.histogram(trace.arrival_s, np.arange(0, 2 * HOUR + 1, HOUR / 2))
    assert counts / 1800 == pytest.approx([2, 6, 2, 6], rel=0.1)
    assert trace.prompt_tokens.mean() == pytest.approx(800, rel=0.05)
    assert trace.output_tokens.mean() == pytest.approx(300, rel=0.05)


def test_days_are_asked_for_one_by_one_and_joined(client: Prometheus) -> None:
    trace = recorded(client, of(MODEL), DIALECT, start_s=START_S, end_s=START_S + 50 * HOUR, seed=1)
    counts, _ = np.histogram(trace.arrival_s, np.arange(0, 50 * HOUR + 1, HOUR))
    assert counts.min() > 0.9 * 4 * HOUR
    assert counts.max() < 1.1 * 4 * HOUR


def test_a_server_without_histograms_of_lengths_tells_them_by_its_counters(client: Prometheus) -> None:
    trace = recorded(client, of("sglang"), DIALECT, start_s=START_S, end_s=START_S + HOUR, seed=1)
    assert len(trace) == pytest.approx(4 * HOUR, rel=0.1)
    assert trace.prompt_tokens.mean() == pytest.approx(700, rel=0.05)
    assert trace.output_tokens.mean() == pytest.approx(200, rel=0.05)


def test_servers_with_other_metric_names_are_counted_too() -> None:
    """A metric name is chosen per replica, not for the fleet, where the first name found would hide the others."""
    asked = demand_query(dialect_of(MODEL, "test", DIALECT))
    names = ("vllm:time_to_first_token_seconds_count", "sglang:time_to_first_token_seconds_count")
    each = (
        f'sum by (namespace,pod,instance) (rate({n}{{model_name="a-model",namespace="test"}}[120s]))' for n in names
    )
    assert asked.startswith(f"sum({' or '.join(each)}) + ")


@pytest.mark.parametrize("asked", [of("another"), of(MODEL, Key("dev", "chat"))], ids=["another", "namespace='dev'"])
def test_a_model_that_nobody_asked_for_there_is_named(client: Prometheus, asked: DeploymentSpec) -> None:
    with pytest.raises(SourceError, match=f"'{asked.model}', namespace='{asked.key.namespace}'"):
        recorded(client, asked, DIALECT, start_s=START_S, end_s=START_S + HOUR, seed=1)


def test_deployments_that_the_metrics_do_not_tell_apart_are_refused() -> None:
    check([of("one"), of("two", Key("test", "b")), of("one", Key("dev", "a"))])
    with pytest.raises(SpecError, match=r"test/chat and test/b.* both serve one in one namespace"):
        check([of("one"), of("one", Key("test", "b"))])
