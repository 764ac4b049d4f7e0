"""
Our PromQL against a real Prometheus: pages in the format of vLLM 0.32, of vLLM 0.6, and of a GPU exporter. The pages
are written here, with counters that grow; their names are compared with the page of a running 0.32.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from tests.data import data_path
from tests.estimate.build import deployment
from tidegate.cli.plan import live
from tidegate.domain.key import Key
from tidegate.domain.observation import TierReading
from tidegate.errors import SourceError
from tidegate.observe.decode import Samples, pod_samples
from tidegate.observe.history import history_query
from tidegate.observe.prometheus import Access, Prometheus
from tidegate.observe.queries import Dialect, activation_query, tick_queries
from tidegate.observe.readings import TierPods, tier_reading
from tidegate.observe.threads import in_thread
from tidegate.sandbox.binaries import Effort, provide
from tidegate.sandbox.control_plane.real import free_ports
from tidegate.sim import recorded as past

pytestmark = pytest.mark.cluster

DIALECT = Dialect(window_s=10.0)
PODS = {"new": "/new", "old": "/old", "sglang": "/sglang"}
RENAMED = {
    "kv_cache_usage_perc": "gpu_cache_usage_perc",
    "inter_token_latency": "time_per_output_token",
    "prefix_cache_hits": "gpu_prefix_cache_hits",
    "prefix_cache_queries": "gpu_prefix_cache_queries",
}


def histogram(name: str, grown: float, *edges: float) -> str:
    """A quarter of the observations at each of four edges."""
    lines = [f'{name}_bucket{{le="{edge}"}} {grown * (i + 1) / len(edges)}' for i, edge in enumerate(edges)]
    return "\n".join(
        [*lines, f'{name}_bucket{{le="+Inf"}} {grown}', f"{name}_sum {grown * edges[0]}", f"{name}_count {grown}"]
    )


def vllm(grown: float) -> str:
    """The relevant part of vLLM's page after `grown` requests of 100 prompt and 20 output tokens each."""
    return "\n".join(
        [
            'vllm:num_requests_running{engine="0"} 3',
            'vllm:num_requests_waiting{engine="0"} 2',
            'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 2',
            "vllm:kv_cache_usage_perc 0.5",
            'vllm:engine_sleep_state{sleep_state="awake"} 1',
            'vllm:engine_sleep_state{sleep_state="discard_all"} 0',
            'vllm:cache_config_info{engine="0",num_gpu_blocks="100",block_size="16"} 1',
            'vllm:cache_config_info{engine="1",num_gpu_blocks="100",block_size="16"} 1',
            f"vllm:prompt_tokens_total {grown * 100}",
            f"vllm:generation_tokens_total {grown * 20}",
            f'vllm:request_success_total{{finished_reason="stop"}} {grown}',
            f'vllm:admission_rejections_total{{reason="max_num_queued_reqs"}} {grown}',
            f"vllm:prefix_cache_queries_total {grown * 100}",
            f"vllm:prefix_cache_hits_total {grown * 25}",
            histogram("vllm:time_to_first_token_seconds", grown, 0.1, 0.25, 0.5, 1.0),
            histogram("vllm:inter_token_latency_seconds", grown * 20, 0.01, 0.025, 0.05, 0.1),
            histogram("vllm:request_time_per_output_token_seconds", grown, 0.01, 0.025, 0.05, 0.1),
            histogram("vllm:e2e_request_latency_seconds", grown, 1.0, 2.0, 4.0, 8.0),
            histogram("vllm:request_prompt_tokens", grown, 100.0, 200.0, 500.0, 1000.0),
            histogram("vllm:request_generation_tokens", grown, 20.0, 50.0, 100.0, 200.0),
        ]
    )


def sglang(grown: float) -> str:
    """Two engines of two ranks each, all of which report, as `--enable-metrics-for-all-schedulers` asks."""
    ranks = [(f'tp_rank="{rank}",pp_rank="0",dp_rank="{rank // 2}"', rank // 2) for rank in range(4)]
    return "\n".join(
        [
            *(
                f'sglang:num_running_reqs{{{of},priority="{p}"}} {2 - engine}'
                for of, engine in ranks
                for p in ("", "1")
            ),
            *(f'sglang:num_queue_reqs{{{of},priority="{p}"}} {engine * 2}' for of, engine in ranks for p in ("", "1")),
            *(f'sglang:token_usage{{{of},priority=""}} {0.25 + engine / 2}' for of, engine in ranks),
            *(f'sglang:max_total_num_tokens{{{of},priority=""}} 2500' for of, _ in ranks),
            f"sglang:num_requests_total {grown}",
            f"sglang:prompt_tokens_total {grown * 100}",
            f"sglang:generation_tokens_total {grown * 20}",
            histogram("sglang:time_to_first_token_seconds", grown, 0.1, 0.25, 0.5, 1.0),
            histogram("sglang:inter_token_latency_seconds", grown * 20, 0.01, 0.025, 0.05, 0.1),
            histogram("sglang:e2e_request_latency_seconds", grown, 1.0, 2.0, 4.0, 8.0),
        ]
    )


def old(page: str) -> str:
    for name, before in RENAMED.items():
        page = page.replace(name, before)
    lines = page.splitlines()
    return "\n".join(
        x for x in lines if "request_time_per_output" not in x and "admission" not in x and "sleep" not in x
    )


# A server that nobody has asked anything: SGLang makes a counter when it first counts.
UNUSED = "sglang:num_running_reqs 0\nsglang:num_queue_reqs 0"

GPUS = "\n".join(
    f'DCGM_FI_DEV_{name}{{gpu="{gpu}",exported_namespace="prod",exported_pod="new"}} {value}'
    for gpu in (0, 1)
    for name, value in (("GPU_UTIL", 80 - 20 * gpu), ("POWER_USAGE", 300))
)
# Two parts of one board, as the exporter tells of them while both are busy.
GPUS += "".join(
    f'\nDCGM_FI_DEV_{name}{{gpu="2",GPU_I_PROFILE="3g.40gb",GPU_I_ID="{i}",exported_namespace="prod",exported_pod="{pod}"}}'
    f" {value}"
    for i, pod in ((1, "old"), (2, "sglang"))
    for name, value in (("GPU_UTIL", 0), ("POWER_USAGE", 500))
)


async def page(request: web.Request) -> web.Response:
    grown = (time.monotonic() - request.app[BEGAN]) * 4.0
    made = {"new": vllm, "old": lambda g: old(vllm(g)), "sglang": sglang}
    made |= {"gpu": lambda _: GPUS, "unused": lambda _: UNUSED}
    return web.Response(text=made[request.match_info["name"]](grown) + "\n", content_type="text/plain")


BEGAN: web.AppKey[float] = web.AppKey("began", float)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    try:
        program = provide(("prometheus",), effort=Effort.LOOK)["prometheus"].path
    except SourceError as error:
        pytest.skip(f"no Prometheus here (`make binaries` gets it): {error}")
    folder = tmp_path_factory.mktemp("prometheus")
    app = web.Application()
    app[BEGAN] = time.monotonic()
    app.router.add_get("/{name}", page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (port,) = free_ports(1)
    (folder / "prometheus.yml").write_text(_configuration(f"127.0.0.1:{runner.addresses[0][1]}"))
    process = subprocess.Popen(
        [
            str(program),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    )
    client = Prometheus(Access(url=f"http://127.0.0.1:{port}"))
    try:
        await _until_scraped(client)
        yield client
    finally:
        process.terminate()
        process.wait(10)
        client.close()
        await runner.cleanup()


def _configuration(target: str) -> str:
    def job(name: str, path: str, **labels: str) -> dict[str, object]:
        return {"job_name": name, "metrics_path": path, "static_configs": [{"targets": [target], "labels": labels}]}

    jobs = [job(pod, path, namespace="prod", pod=pod, model_name="mixed") for pod, path in PODS.items()]
    jobs.append(job("alone", "/sglang", namespace="prod", pod="alone", model_name="alone"))
    jobs.append(job("unused", "/unused", namespace="prod", pod="unused", model_name="unused"))
    jobs.append(job("gpu", "/gpu", namespace="gpu-operator", pod="dcgm-exporter-x"))
    return str(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))


async def _until_scraped(client: Prometheus) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                found = await in_thread(lambda: client.custom_query("count_over_time(up[10s]) >= 9"))
            except SourceError:
                found = []
            if len(found) == len(PODS) + 3:
                return
            await asyncio.sleep(0.5)


async def read(client: Prometheus) -> Samples:
    now_s = time.time()
    answers = {
        name: await in_thread(lambda q=query: client.custom_query(q, params={"time": now_s}))  # type: ignore[misc]
        for name, query in tick_queries(DIALECT).items()
    }
    return pod_samples(answers, DIALECT, time_s=now_s)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("pod", PODS)
async def test_every_server_and_version_reads_the_same(prometheus: Prometheus, pod: str) -> None:
    samples = await read(prometheus)
    found = tier_reading(TierPods(ready=(("prod", pod),)), samples, window_s=10.0, stale_s=60.0)
    assert isinstance(found, TierReading), found
    near = {
        "arrival_rps": 4.0,
        "completion_rps": 4.0,
        "running": 3.0,
        "waiting": 2.0,
        "kv_cache_usage": 0.5,
        "prompt_tokens_mean": 100.0,
        "output_tokens_mean": 20.0,
        "ttft_mean_s": 0.1,
        "itl_mean_s": 0.01,
        "output_tokens_per_s": 80.0,
        "kv_cache_tokens_per_replica": 5000.0 if pod == "sglang" else 1600.0,
    }
    assert {name: getattr(found, name) for name in near} == pytest.approx(near, rel=0.15)
    assert found.age_s < 3.0
    assert found.ttft is not None
    assert found.itl is not None
    assert found.ttft.quantile(0.5) == pytest.approx(0.25, rel=0.05)
    assert found.itl.total == pytest.approx(found.ttft.total * 20, rel=0.1)
    assert (found.rejection_rps is None) == (pod != "new")
    assert (found.request_itl is None) == (pod != "new")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_server_without_requests_has_zero_arrivals(prometheus: Prometheus) -> None:
    found = tier_reading(TierPods(ready=(("prod", "unused"),)), await read(prometheus), window_s=10.0, stale_s=60.0)
    assert isinstance(found, TierReading)
    assert (found.arrival_rps, found.completion_rps, found.running) == (0.0, 0.0, 0.0)


@pytest.mark.asyncio(loop_scope="module")
async def test_gpus_are_those_of_the_pod_not_of_the_exporter(prometheus: Prometheus) -> None:
    samples = await read(prometheus)
    found = tier_reading(TierPods(ready=(("prod", "new"),)), samples, window_s=10.0, stale_s=60.0)
    assert isinstance(found, TierReading)
    assert (found.gpu_utilization, found.power_w) == (pytest.approx(0.7), 600.0)
    assert ("gpu-operator", "dcgm-exporter-x") not in samples


@pytest.mark.asyncio(loop_scope="module")
async def test_utilization_and_power_of_a_mig_partition_are_unknown(prometheus: Prometheus) -> None:
    samples = await read(prometheus)
    found = tier_reading(TierPods(ready=(("prod", "old"), ("prod", "sglang"))), samples, window_s=10.0, stale_s=60.0)
    assert isinstance(found, TierReading)
    assert (found.gpu_utilization, found.power_w) == (None, None)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_fleet_of_mixed_versions_adds_up(prometheus: Prometheus) -> None:
    pods = TierPods(ready=tuple(("prod", pod) for pod in PODS))
    found = tier_reading(pods, await read(prometheus), window_s=10.0, stale_s=60.0)
    assert isinstance(found, TierReading)
    assert found.running == 9.0
    assert found.arrival_rps == pytest.approx(12.0, rel=0.15)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("model", "rate"), [("mixed", 4.0 * len(PODS) + 4.0), ("alone", 4.0)])
async def test_plan_reads_the_load_of_every_server(prometheus: Prometheus, model: str, rate: float) -> None:
    load = await in_thread(lambda: live.measured(prometheus, Key("prod", "chat"), model, DIALECT, time_s=time.time()))
    assert load.rate_rps == pytest.approx(rate, rel=0.15), "4 requests/s each, and one of them rejects 4 more"
    assert (load.prompt_tokens, load.output_tokens) == (pytest.approx(100, rel=0.1), pytest.approx(20, rel=0.1))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_backtest_reads_the_load_of_every_server(prometheus: Prometheus) -> None:
    now_s = time.time()
    mixed = replace(deployment(model="mixed"), key=Key("prod", "chat"))
    trace = await in_thread(
        lambda: past.recorded(prometheus, mixed, DIALECT, start_s=now_s - 60.0, end_s=now_s, seed=1)
    )
    assert len(trace) / 60.0 == pytest.approx(4.0 * len(PODS) + 4.0, rel=0.2), "one of them rejects 4 more"


@pytest.mark.asyncio(loop_scope="module")
async def test_history_and_activation_are_promql_too(prometheus: Prometheus) -> None:
    now_s = time.time()
    query = history_query(DIALECT, [("prod", "chat.v2"), ("prod", "code")])
    await in_thread(lambda: prometheus.custom_query_range(query, now_s - 60, now_s, "15s"))
    joint = activation_query({Key("prod", "a"): 'up{job="new"}', Key("prod", 'q"uote'): "vector(0)"})
    found = await in_thread(lambda: prometheus.custom_query(joint))
    assert {s["metric"]["tidegate_owner"]: s["value"][1] for s in found} == {"prod/a": "1", 'prod/q"uote': "0"}  # type: ignore[index]


@pytest.mark.asyncio(loop_scope="module")
async def test_invalid_promql_is_reported_as_such(prometheus: Prometheus) -> None:
    with pytest.raises(SourceError) as caught:
        await in_thread(lambda: prometheus.custom_query("sum("))
    assert caught.value.reason == "BadQuery"


def test_the_page_written_here_has_only_names_of_a_running_0_32() -> None:
    text = data_path("vllm_0.32_metrics.txt").read_text()
    real = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines()}
    ours = {line.partition("{")[0].partition(" ")[0] for line in vllm(1.0).splitlines()}
    assert ours - real == set()
