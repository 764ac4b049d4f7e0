"""The emulated server over HTTP: what clients and Prometheus see, and how it shuts down."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.data import data_path
from tests.sandbox.hosts import host
from tidegate.domain.law import PerformanceLaw
from tidegate.errors import SpecError
from tidegate.sandbox.emulator.args import parse
from tidegate.sandbox.emulator.faults import Fault
from tidegate.sandbox.emulator.server import EmulatedServer, ServerSpec

# Fast enough for a test, slow enough to act while a request runs.
LAW = PerformanceLaw(a_s=0.004, b_s=1e-5, c_s=1e-8, p0_s=0.002, p1_s=1e-6, kv_cache_tokens=20_000, running_max=64)
PORT = 8000

Running = Callable[..., Awaitable[tuple[EmulatedServer, aiohttp.ClientSession]]]


@asynccontextmanager
async def serving(
    *words: str, fault: str = "", env: dict[str, str] | None = None, law: PerformanceLaw = LAW
) -> AsyncIterator[tuple[EmulatedServer, aiohttp.ClientSession]]:
    address = host()
    options = parse(["serve", "m", "--max-model-len", "4096", *words], env)
    server = EmulatedServer(ServerSpec(options=options, law=law, address=address, fault=Fault.parse(fault)))
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://{address}:{PORT}") as client:
            yield server, client
    finally:
        await server.kill()


def body(prompt: int = 50, output: int = 5, **more: object) -> dict[str, object]:
    return {"model": "m", "prompt": list(range(prompt)), "max_tokens": output, "ignore_eos": True} | more


async def events(response: aiohttp.ClientResponse) -> list[dict[str, object]]:
    lines = (await response.text()).split("\n\n")
    assert lines[-2] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


async def values(client: aiohttp.ClientSession) -> dict[str, float]:
    async with client.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        found: dict[str, float] = {}
        for family in families:
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found


async def test_a_completion_says_how_many_tokens_it_took() -> None:
    async with serving() as (_, client), client.post("/v1/completions", json=body()) as response:
        answer = await response.json()
    assert response.status == 200
    assert answer["usage"] == {"prompt_tokens": 50, "completion_tokens": 5, "total_tokens": 55}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["text"].split()) == 5


async def test_a_stream_carries_every_token_then_the_usage() -> None:
    ask = body(output=7, stream=True, stream_options={"include_usage": True})
    async with serving() as (_, client), client.post("/v1/completions", json=ask) as response:
        parts = await events(response)
    text = "".join(part["choices"][0]["text"] for part in parts if part["choices"])  # type: ignore[index]
    assert len(text.split()) == 7
    assert parts[-1]["usage"] == {"prompt_tokens": 50, "completion_tokens": 7, "total_tokens": 57}
    assert parts[-2]["choices"][0]["finish_reason"] == "length"  # type: ignore[index]


async def test_a_chat_streams_deltas() -> None:
    ask = {"model": "m", "messages": [{"role": "user", "content": "x" * 40}], "max_tokens": 4, "stream": True}
    async with (
        serving() as (_, client),
        client.post("/v1/chat/completions", json={**ask, "ignore_eos": True}) as response,
    ):
        parts = await events(response)
    assert parts[0]["object"] == "chat.completion.chunk"
    deltas = [part["choices"][0]["delta"] for part in parts]  # type: ignore[index]
    assert deltas[0]["role"] == "assistant"
    assert len("".join(d.get("content", "") for d in deltas).split()) == 4


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        pytest.param(body(model="other"), 404, id="a model that is not served"),
        pytest.param(body(prompt=5000), 400, id="a prompt longer than the context"),
        pytest.param(body(output=0), 400, id="no token asked for"),
        pytest.param(body(n=2), 400, id="two answers at once"),
        pytest.param({"model": "m"}, 400, id="no prompt"),
    ],
)
async def test_what_cannot_be_answered_is_refused(ask: dict[str, object], status: int) -> None:
    async with serving() as (_, client), client.post("/v1/completions", json=ask) as response:
        assert response.status == status


async def test_metrics_have_the_names_types_labels_and_buckets_of_vllm() -> None:
    truth = data_path("vllm_0.32_metrics.txt").read_text()
    async with serving("--max-model-len", "1024") as (_, client):
        await client.post("/v1/completions", json=body())
        await client.post("/v1/completions", data=b"no JSON")
        async with client.get("/metrics") as response:
            ours = await response.text()
    assert shape(ours) == shape(truth)


def shape(text: str) -> dict[str, tuple[str, frozenset[tuple[str, ...]], frozenset[str]]]:
    """By family: type, label names of its samples, bucket edges."""
    return {
        family.name: (
            family.type,
            frozenset(tuple(sorted(s.labels)) for s in family.samples),
            frozenset(s.labels["le"] for s in family.samples if "le" in s.labels),
        )
        for family in text_string_to_metric_families(text)
    }


async def test_own_bucket_edges_replace_those_of_a_family() -> None:
    edges = '{"time_to_first_token": [0.2, 1.5], "inter_token_latency": [0.04]}'
    async with serving("--custom-histogram-buckets", edges) as (_, client), client.get("/metrics") as response:
        found = shape(await response.text())
    assert found["vllm:time_to_first_token_seconds"][2] == {"0.2", "1.5", "+Inf"}
    assert found["vllm:request_time_per_output_token_seconds"][2] == {"0.04", "+Inf"}


async def test_counters_add_up_to_what_was_served() -> None:
    async with serving() as (_, client):
        for _ in range(3):
            await client.post("/v1/completions", json=body(prompt=64, output=6))
        found = await values(client)
    assert found["vllm:request_success_total"] == 3
    assert found["vllm:generation_tokens_total"] == 18
    assert found["vllm:prompt_tokens_total"] == 192
    assert found["vllm:prefix_cache_hits_total"] == 2 * 48
    assert found["vllm:inter_token_latency_seconds_count"] == 15
    assert found["vllm:time_to_first_token_seconds_count"] == 3


@pytest.mark.parametrize("stream", [True, False], ids=["in the middle of a stream", "while it waits for all of it"])
async def test_a_client_that_leaves_is_seen_in_no_finished_request(stream: bool) -> None:
    async with serving() as (server, client):
        asking = asyncio.create_task(client.post("/v1/completions", json=body(output=2000, stream=stream)))
        while (await values(client))["vllm:time_to_first_token_seconds_count"] == 0:
            await asyncio.sleep(0.01)
        if stream:
            (await asking).close()
        asking.cancel()
        while server.engine.unfinished:
            await asyncio.sleep(0.01)
        found = await values(client)
    assert found["vllm:time_to_first_token_seconds_count"] == 1
    assert found["vllm:request_success_total"] == 0
    assert found["vllm:e2e_request_latency_seconds_count"] == 0


async def test_the_queue_limit_counts_running_requests_and_a_refused_stream_is_http_200() -> None:
    async with serving("--max-num-queued-reqs", "1") as (_, client):
        async with client.post("/v1/completions", json=body(output=300, stream=True)) as first:
            await first.content.readany()
            async with client.post("/v1/completions", json=body()) as whole:
                assert whole.status == 503
            async with client.post("/v1/completions", json=body(stream=True)) as stream:
                assert stream.status == 200
                assert (await events(stream))[0]["error"]["code"] == 503  # type: ignore[index]
        found = await values(client)
    assert found["vllm:admission_rejections_total"] == 2


async def test_a_draining_server_is_healthy_finishes_its_streams_and_answers_500_to_new_requests() -> None:
    async with serving("--shutdown-timeout", "30") as (server, client):
        async with client.post("/v1/completions", json=body(output=60, stream=True)) as running:
            await running.content.readany()
            await server.terminate()
            assert (await client.get("/health")).status == 200
            assert (await client.post("/v1/completions", json=body())).status == 500
            assert (await running.text()).endswith("data: [DONE]\n\n")
        assert await asyncio.wait_for(server.exited, 5) == 0


async def test_without_a_shutdown_timeout_open_streams_hang_until_the_kill() -> None:
    async with serving() as (server, client):
        async with client.post("/v1/completions", json=body(output=2000, stream=True)) as running:
            await running.content.readany()
            await server.terminate()
            await asyncio.sleep(0.05)
            while not running.content.at_eof():
                try:
                    await asyncio.wait_for(running.content.readany(), 0.3)
                except TimeoutError:
                    break
            assert not running.content.at_eof()
            assert not server.exited.done()
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.get("/health", headers={"Connection": "close"})
            await server.kill()
            with pytest.raises(aiohttp.ClientError):
                await running.content.readany()
        assert server.exited.result() == 137


async def test_a_sleeping_server_takes_requests_in_and_shows_none() -> None:
    async with serving(env={"VLLM_SERVER_DEV_MODE": "1"}) as (_, client):
        await client.post("/sleep?level=1")
        waiting = asyncio.create_task(client.post("/v1/completions", json=body()))
        await asyncio.sleep(0.05)
        found = await values(client)
        assert (await client.get("/health")).status == 200
        assert found["vllm:num_requests_waiting"] == 0
        assert (await (await client.get("/is_sleeping")).json())["is_sleeping"] is True
        await client.post("/wake_up")
        assert (await waiting).status == 200


async def test_the_sleep_endpoints_are_closed_outside_dev_mode() -> None:
    async with serving() as (_, client):
        assert (await client.post("/sleep")).status == 404


async def test_ready_but_dead_at_the_first_request() -> None:
    async with serving(fault="dead-at-first-request") as (server, client):
        assert (await client.get("/health")).status == 200
        with pytest.raises(aiohttp.ClientError):
            await client.post("/v1/completions", json=body())
        assert (await client.get("/health")).status == 503
        assert await asyncio.wait_for(server.exited, 5) == 132


async def test_a_crash_under_load_cuts_what_runs() -> None:
    async with serving(fault="crash-under-load:2") as (server, client):
        asks = [client.post("/v1/completions", json=body(output=400)) for _ in range(4)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(outcome, aiohttp.ClientError) for outcome in outcomes)
        assert await asyncio.wait_for(server.exited, 5) == 137


async def test_a_server_that_never_gets_ready_never_opens_its_port() -> None:
    async with serving(fault="never-ready") as (_, client):
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get("/health")


async def test_slow_means_every_step_takes_longer() -> None:
    async with serving(fault="slow:5") as (server, client):
        await client.post("/v1/completions", json=body(output=10))
        assert server.engine.busy_s == pytest.approx(5 * 10 * LAW.a_s, rel=0.05)


async def test_a_context_longer_than_the_kv_cache_does_not_start() -> None:
    with pytest.raises(SpecError, match="max-model-len"):
        async with serving("--max-model-len", "30000"):
            pass


async def test_an_api_key_is_required_if_one_is_set() -> None:
    async with serving("--api-key", "secret") as (_, client):
        assert (await client.get("/v1/models")).status == 401
        answer = await client.get("/v1/models", headers={"Authorization": "Bearer secret"})
        assert (await answer.json())["data"][0]["max_model_len"] == 4096
