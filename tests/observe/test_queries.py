"""
The PromQL of a tick: few queries, no injection, and the metric names of every version.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import data_path
from tidegate.domain.key import Key
from tidegate.observe.activation import JOINTS_MAX
from tidegate.observe.dialects import FLOW, GPU, HISTOGRAMS, KV_INFO, KV_TOKENS, NOW
from tidegate.observe.queries import Dialect, activation_query, is_closed, quoted, selector, tick_queries

CHAT, CODE = Key("prod", "chat"), Key("prod", "code")


def unquoted(text: str) -> str:
    """The value of a double-quoted PromQL literal; fails if the literal ends early."""
    assert text[0] == text[-1] == '"'
    body, out, i = text[1:-1], [], 0
    while i < len(body):
        assert body[i] != '"', "the literal ends early"
        assert body[i] not in "\n\r", "a bare line end"
        if body[i] == "\\":
            out.append({"n": "\n", "r": "\r"}.get(body[i + 1], body[i + 1]))
            i += 1
        else:
            out.append(body[i])
        i += 1
    return "".join(out)


@given(st.text())
def test_a_quoted_value_means_exactly_itself(value: str) -> None:
    assert unquoted(quoted(value)) == value


def test_a_tick_sends_at_most_twelve_queries_for_any_number_of_deployments() -> None:
    assert len(tick_queries(Dialect())) + JOINTS_MAX <= 12


def test_every_series_carries_the_matchers_of_a_shared_server() -> None:
    dialect = Dialect(matchers={"cluster": 'eu"1'})
    names = [m for s in (*NOW, *FLOW, *GPU) for m in s.metrics] + [m for h in HISTOGRAMS.values() for m in h]
    text = " ".join(tick_queries(dialect).values())
    for name in (*names, KV_INFO, KV_TOKENS):
        bare = name.partition("{")[0]
        found = re.findall(re.escape(bare) + r"(?![A-Za-z0-9_])(\{[^}]*\})?", text)
        assert found, bare
        assert all(r'cluster="eu\"1"' in matchers for matchers in found), bare


def test_matchers_join_those_the_signal_has_itself() -> None:
    assert selector('a{b!="c"}', Dialect(matchers={"d": "e"})) == 'a{b!="c",d="e"}'
    assert selector("a", Dialect()) == "a"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("vllm:gpu_cache_usage_perc", id="0.6 to 0.10 call the cache a GPU cache"),
        pytest.param("vllm:kv_cache_usage_perc", id="0.11 on call it KV cache"),
        pytest.param("vllm:time_per_output_token_seconds_bucket", id="0.6 to 0.10 time output tokens"),
        pytest.param("vllm:inter_token_latency_seconds_bucket", id="0.11 on time the gaps between them"),
        pytest.param("vllm:gpu_prefix_cache_hits_total", id="the first V1 engine's prefix cache"),
        pytest.param("vllm:prefix_cache_hits_total", id="the prefix cache of now"),
        pytest.param("sglang:cached_tokens_total", id="SGLang's prefix cache"),
        pytest.param(
            "vllm:request_time_per_output_token_seconds_bucket", id="the mean per request, where it is counted"
        ),
        pytest.param("vllm:admission_rejections_total", id="refused requests, from 0.30 on"),
        pytest.param('sglang:num_queue_reqs{priority=""}', id="SGLang's queue, of all priorities once"),
        pytest.param("DCGM_FI_DEV_POWER_USAGE", id="power from the GPU exporter"),
        pytest.param('DCGM_FI_DEV_GPU_UTIL{GPU_I_ID=""}', id="use of whole boards: of a part it says 0"),
    ],
)
def test_the_metric_names_of_all_versions_are_queried(name: str) -> None:
    assert name in " ".join(tick_queries(Dialect()).values())


def test_a_number_that_several_schedulers_report_counts_once() -> None:
    queries = tick_queries(Dialect(matchers={"cluster": "eu"}))
    waiting = 'sglang:num_queue_reqs{priority="",cluster="eu"}'
    assert f"sum by (namespace,pod) (max by (namespace,pod,dp_rank) ({waiting}))" in queries["now"]
    assert f"sum by (namespace,pod) (max by (namespace,pod,dp_rank) (delta({waiting}[60s])))" in queries["flow"]
    assert 'max by (namespace,pod,dp_rank) (sglang:max_total_num_tokens{cluster="eu"})' in queries["kv"]


@pytest.mark.parametrize("name", ["sglang:prompt_tokens_total", "sglang:generation_tokens_total"])
def test_tokens_that_are_counted_when_a_request_finishes_are_not_those_of_the_moment(name: str) -> None:
    signals = {signal.name for signal in FLOW if name in signal.metrics}
    assert signals
    assert signals.isdisjoint({"prompt_tokens", "output_tokens"})


def test_gauges_that_an_idle_server_updates_late_do_not_tell_who_left() -> None:
    assert "delta(sglang:num_running_reqs" not in tick_queries(Dialect())["flow"]
    assert "rate(sglang:num_aborted_requests_total[60s])" in tick_queries(Dialect())["flow"]


def test_a_running_0_32_has_the_newest_name_of_each_signal() -> None:
    page = data_path("vllm_0.32_metrics.txt").read_text()
    exported = {line.partition("{")[0] for line in page.splitlines() if not line.startswith("#")}
    newest = [s.metrics[0] for s in (*NOW, *FLOW)] + [names[0] for names in HISTOGRAMS.values()] + [KV_INFO]
    assert {name.partition("{")[0] for name in newest} - exported == set()


def test_the_labels_of_pods_can_be_named_otherwise() -> None:
    queries = tick_queries(Dialect(namespace_label="kubernetes_namespace", pod_label="kubernetes_pod_name"))
    gpu = queries.pop("gpu")
    assert all("by (kubernetes_namespace,kubernetes_pod_name" in query for query in queries.values())
    assert ",namespace,kubernetes_namespace,exported_kubernetes_pod_name,exported_pod,pod,kubernetes_pod_name)" in gpu
    assert "by (exported_namespace,namespace,exported_pod,pod) (DCGM" in tick_queries(Dialect())["gpu"]


@pytest.mark.parametrize(
    ("expression", "closed"),
    [
        pytest.param('sum(gateway_queue{route="chat"})', True, id="an ordinary expression"),
        pytest.param('a{b=")"} + c', True, id="brackets inside a string do not count"),
        pytest.param("1) or vector(9) or (1", False, id="reaching out of one's own brackets"),
        pytest.param('a{b="c', False, id="a string that does not end"),
        pytest.param("a # rest", False, id="a comment that would swallow the neighbour"),
        pytest.param("a{b=`x`}", True, id="a raw string"),
        pytest.param("(a]", False, id="brackets that do not match"),
        pytest.param("  ", False, id="nothing"),
        pytest.param('a{b="\\""} ) or (c', False, id="an escaped quote does not end the string"),
        pytest.param(r'a{b="c\d"}', True, id="a backslash in a string"),
        pytest.param(
            r"""a\")) or label_replace(vector(1), "tidegate_owner", "prod/code", "", "") or sum((b{c='"`'} or d\`""",
            False,
            id="a quote that VictoriaMetrics takes for a part of a name",
        ),
    ],
)
def test_an_activation_query_must_be_complete_in_itself(expression: str, closed: bool) -> None:
    assert is_closed(expression) is closed


@pytest.mark.parametrize("text", [r"\"", r"\'", "`'", '"\n', "'\""], ids=repr)
def test_an_activation_query_of_quotes_is_read_once(text: str) -> None:
    """Otherwise this takes many minutes."""
    assert not any(is_closed(mark + text * 200_000) for mark in "\"'`")


def test_one_query_covers_all_deployments_at_zero_and_labels_the_owner() -> None:
    query = activation_query({CODE: "b", CHAT: "a"})
    assert query == (
        'label_replace(sum((a)), "tidegate_owner", "prod/chat", "", "")'
        ' or label_replace(sum((b)), "tidegate_owner", "prod/code", "", "")'
    )
