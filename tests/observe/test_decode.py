"""
From vectors to samples: what is no number is left out.
"""

from typing import Any

import pytest

from tidegate.observe.decode import pod_samples
from tidegate.observe.queries import Dialect

NOW = 1_000_000.0
RENAMED = Dialect(namespace_label="k8s_ns", pod_label="k8s_pod")


def series(value: object, **labels: str) -> dict[str, Any]:
    return {"metric": {"namespace": "prod", "pod": "a", **labels}, "value": [NOW, str(value)]}


@pytest.mark.parametrize("text", ["NaN", "+Inf", "-Inf", "nonsense", "1e200", "-1e16"])
def test_values_that_are_no_numbers_are_left_out(text: str) -> None:
    found = pod_samples({"now": [series(text, signal="waiting"), series(3, signal="running")]}, Dialect(), time_s=NOW)
    assert found["prod", "a"].values == {"running": 3.0}


@pytest.mark.parametrize("broken", [{}, {"metric": {}}, {"metric": [], "value": 1}, {"metric": {}, "value": [1]}])
def test_malformed_series_are_skipped(broken: dict[str, object]) -> None:
    assert pod_samples({"now": [broken]}, Dialect(), time_s=NOW) == {}


def test_age_is_that_of_the_scrape_not_of_the_query() -> None:
    found = pod_samples({"now": [series(NOW - 42, signal="seen")]}, Dialect(), time_s=NOW)
    assert found["prod", "a"].age_s == 42.0


@pytest.mark.parametrize(
    ("labels", "value", "tokens"),
    [
        pytest.param({"kv_cache_size_tokens": "448000"}, 1, 448_000.0, id="the size as 0.32 states it"),
        pytest.param({"num_gpu_blocks": "100", "block_size": "16"}, 1, 1600.0, id="blocks times their size before"),
        pytest.param({"num_gpu_blocks": "200", "block_size": "16"}, 2, 3200.0, id="the blocks of two engines"),
        pytest.param(
            {"kv_cache_size_tokens": "1600", "num_gpu_blocks": "200", "block_size": "16"},
            2,
            3200.0,
            id="the tokens of each of two engines",
        ),
        pytest.param(
            {"kv_cache_size_tokens": "None", "num_gpu_blocks": "4", "block_size": "16"},
            1,
            64.0,
            id="a label without number",
        ),
        pytest.param({"num_gpu_blocks": "None", "block_size": "16"}, 1, None, id="not known"),
        pytest.param({}, 5000, 5000.0, id="SGLang's value is the number itself"),
        pytest.param({"kv_cache_size_tokens": "+Inf"}, 1, None, id="no cache is infinite"),
        pytest.param({"num_gpu_blocks": "1e15", "block_size": "16"}, 1, None, id="nor beyond all measure"),
    ],
)
def test_kv_capacity(labels: dict[str, str], value: float, tokens: float | None) -> None:
    found = pod_samples({"kv": [series(value, **labels)]}, Dialect(), time_s=NOW)
    assert found["prod", "a"].kv_tokens == tokens


@pytest.mark.parametrize(
    ("dialect", "labels"),
    [
        pytest.param(Dialect(), {"namespace": "prod", "pod": "a"}, id="the exporter's labels are honoured"),
        pytest.param(
            Dialect(),
            {"namespace": "gpu", "pod": "dcgm-7", "exported_namespace": "prod", "exported_pod": "a"},
            id="the scrape's own labels push them aside",
        ),
        pytest.param(
            RENAMED,
            {"k8s_ns": "gpu", "k8s_pod": "dcgm-7", "namespace": "prod", "pod": "a"},
            id="the scrape's own labels have other names",
        ),
        pytest.param(
            Dialect(pod_label="k8s_pod"),
            {"namespace": "gpu", "k8s_pod": "dcgm-7", "exported_namespace": "prod", "pod": "a"},
            id="one of them has another name",
        ),
        pytest.param(
            RENAMED,
            {"k8s_ns": "gpu", "k8s_pod": "dcgm-7", "exported_k8s_ns": "prod", "exported_k8s_pod": "a"},
            id="the exporter uses these names too",
        ),
        pytest.param(
            RENAMED,
            {
                "k8s_ns": "gpu",
                "k8s_pod": "dcgm-7",
                "namespace": "gpu",
                "pod": "dcgm-7",
                "exported_namespace": "prod",
                "exported_pod": "a",
            },
            id="the scrape sets both",
        ),
        pytest.param(RENAMED, {"k8s_ns": "prod", "k8s_pod": "a"}, id="the pod is scraped itself"),
    ],
)
def test_gpu_series_find_their_pod(dialect: Dialect, labels: dict[str, str]) -> None:
    vector = [
        {"metric": {"signal": signal, **labels}, "value": [NOW, text]}
        for signal, text in (("gpu_busy", "83"), ("gpu_power_w", "400"))
    ]
    found = pod_samples({"gpu": vector}, dialect, time_s=NOW)
    assert found["prod", "a"].values == pytest.approx({"gpu_busy": 0.83, "gpu_power_w": 400.0})


@pytest.mark.parametrize("exporters", [("gpu", "evil"), ("evil", "gpu")])
def test_series_of_another_exporter_cannot_make_a_pods_gpus_look_idle(exporters: tuple[str, str]) -> None:
    busy = {"gpu": 95, "evil": 1}
    claim = {"exported_namespace": "prod", "exported_pod": "a", "signal": "gpu_busy"}
    vector = [series(busy[name], **claim | {"namespace": name, "pod": name}) for name in exporters]
    assert pod_samples({"gpu": vector}, Dialect(), time_s=NOW)["prod", "a"].values["gpu_busy"] == pytest.approx(0.95)


def test_an_unknown_name_for_first_tokens_does_not_make_a_server_idle() -> None:
    flow = [series(0, signal=signal) for signal in ("waiting_growth", "finished")]
    now = [series(0, signal="running"), series(0, signal="waiting"), series(NOW, signal="seen")]
    assert "started" not in pod_samples({"now": now, "flow": flow}, Dialect(), time_s=NOW)["prod", "a"].values
