"""
All metrics of a tick, or one reason why not, within five seconds, whatever the server does.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.observe.fake_prometheus import FAILURES, FakePrometheus, Handler, always, failure, one, serving, vector
from tidegate.domain.key import Key
from tidegate.domain.observation import Missing
from tidegate.errors import SourceError
from tidegate.observe.activation import ALONE_MAX, JOINTS_MAX, Turns, parts
from tidegate.observe.collect import Collector
from tidegate.observe.prometheus import Access, Prometheus
from tidegate.observe.queries import Dialect

NOW = 1_000_000.0
CHAT, CODE = Key("prod", "chat"), Key("prod", "code")


@asynccontextmanager
async def collecting(handler: Handler, *, timeout_s: float = 4.0) -> AsyncIterator[tuple[Collector, FakePrometheus]]:
    async with serving(handler) as server:
        client = Prometheus(Access(url=server.url), timeout_s=timeout_s)
        yield Collector(client, Dialect(), clock=time.monotonic), server
        client.close()


async def healthy(_: web.Request, form: dict[str, str]) -> web.StreamResponse:
    if "num_requests_running" in form["query"] and "rate(" not in form["query"]:
        labels = {"namespace": "prod", "pod": "a"}
        return vector(one(3, signal="running", **labels), one(NOW - 7, signal="seen", **labels))
    return vector()


async def test_all_queries_of_the_first_tick_are_for_the_same_time() -> None:
    async with collecting(healthy) as (collector, server):
        harvest = await collector.collect(NOW, {})
    assert not isinstance(harvest.samples, Missing)
    assert harvest.samples["prod", "a"].age_s == 7.0
    assert {form["time"] for form in server.asked} == {"1000000.000"}
    assert len(server.asked) <= 12


@pytest.mark.parametrize(
    ("ages_s", "late_s"),
    [
        pytest.param([], 0.0, id="nothing is known yet"),
        pytest.param([37.0, 32.0, 42.0, 35.0], 32.0, id="samples come half a minute late"),
        pytest.param([32.0, 37.0, 42.0, 35.0, 33.0], 33.0, id="as late as they lately were"),
        pytest.param([31.0, 46.0, 1.0, 16.0], 1.0, id="a look between two scrapes is not late"),
        pytest.param([2.0, 17.0, 32.0], 2.0, id="scrapes that end are not late"),
    ],
)
async def test_windows_end_where_samples_do(ages_s: list[float], late_s: float) -> None:
    """Otherwise a part of each window is empty, and demand looks smaller by that part."""
    ages = iter([*ages_s, 0.0])

    async def handler(_: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if "timestamp(" not in form["query"]:
            return vector()
        labels = {"namespace": "prod", "pod": "a"}
        return vector(one(3, signal="running", **labels), one(NOW - next(ages), signal="seen", **labels))

    async with collecting(handler) as (collector, server):
        for _ in ages_s:
            await collector.collect(NOW, {})
        server.asked.clear()
        await collector.collect(NOW, {CHAT: "queue"})
    rated = {form["time"] for form in server.asked if "[60s]" in form["query"]}
    assert rated == {f"{NOW - late_s:.3f}"}
    assert {form["time"] for form in server.asked if "[60s]" not in form["query"]} == {f"{NOW:.3f}"}


@pytest.mark.parametrize(("handler", "reason"), FAILURES.values(), ids=FAILURES.keys())
async def test_each_failure_is_missing_with_a_reason(handler: Handler, reason: str) -> None:
    async with collecting(handler, timeout_s=0.4) as (collector, _):
        harvest = await collector.collect(NOW, {CHAT: "queue"})
    assert isinstance(harvest.samples, Missing)
    assert harvest.samples.reason == reason
    assert harvest.activations == {CHAT: harvest.samples}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["no answer at all", "an answer that drips"])
async def test_the_real_limits_end_a_tick_within_five_seconds(name: str) -> None:
    async with collecting(FAILURES[name][0]) as (collector, _):
        began_s = time.monotonic()
        harvest = await collector.collect(NOW, {})
    assert time.monotonic() - began_s < 5.0
    assert isinstance(harvest.samples, Missing)


async def test_gpu_metrics_are_left_out_if_only_their_query_fails() -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        broken = "DCGM" in form["query"]
        return await (failure(500, "no")(request, form) if broken else healthy(request, form))

    async with collecting(handler) as (collector, _):
        harvest = await collector.collect(NOW, {})
    assert not isinstance(harvest.samples, Missing)
    assert harvest.failures == {"gpu": "ServerError"}


async def test_a_failed_query_is_logged_with_the_answer_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        broken = "DCGM" in form["query"]
        return await (failure(500, "out of memory")(request, form) if broken else healthy(request, form))

    with caplog.at_level(logging.DEBUG, logger="tidegate.observe.collect"):
        async with collecting(handler) as (collector, _):
            await collector.collect(NOW, {})
    assert caplog.messages == ["query gpu failed: prometheus: ServerError: HTTP 500: out of memory"]


async def test_a_failed_histogram_query_is_not_an_empty_histogram() -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        broken = form["query"].startswith("sum by (namespace,pod,le) (increase(vllm:time_to")
        return await (failure(500, "no")(request, form) if broken else healthy(request, form))

    async with collecting(handler) as (collector, _):
        harvest = await collector.collect(NOW, {})
    assert isinstance(harvest.samples, Missing)
    assert harvest.failures == {"ttft": "ServerError"}, "it is counted under its own name"


async def test_activations_are_known_even_if_the_histograms_overload_the_server() -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if "tidegate_owner" in form["query"]:
            return vector(one(3, tidegate_owner="prod/chat"))
        broken = "increase(" in form["query"]
        return await (failure(503, "too many samples")(request, form) if broken else healthy(request, form))

    async with collecting(handler) as (collector, _):
        for _ in range(5):
            harvest = await collector.collect(NOW, {CHAT: "queue"})
            assert isinstance(harvest.samples, Missing)
            assert harvest.activations == {CHAT: 3.0}


async def test_a_server_that_is_down_gets_one_small_query_per_tick() -> None:
    down = True

    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        return await (failure(503, "down")(request, form) if down else healthy(request, form))

    async with collecting(handler) as (collector, server):
        for _ in range(3):
            await collector.collect(NOW, {})
        before = len(server.asked)
        harvest = await collector.collect(NOW, {})
        assert isinstance(harvest.samples, Missing)
        assert harvest.failures == {"knock": "ServerError"}
        assert len(server.asked) - before == 1
        down = False
        assert not isinstance((await collector.collect(NOW, {})).samples, Missing)


async def test_activation_values_are_assigned_to_their_deployments() -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if "tidegate_owner" in form["query"]:
            return vector(one(3, tidegate_owner="prod/chat"))
        return await healthy(request, form)

    async with collecting(handler) as (collector, server):
        harvest = await collector.collect(NOW, {CHAT: "a", CODE: "b", Key("x", "evil"): "1) or (1"})
    assert not [form for form in server.asked if "1) or (1" in form["query"]]
    assert harvest.activations[CHAT] == 3.0
    assert harvest.activations[CODE] == 0.0
    wrong = harvest.activations[Key("x", "evil")]
    assert isinstance(wrong, Missing)
    assert wrong.reason == "BadQuery"


async def test_a_wrong_activation_query_does_not_hide_the_others() -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if "sum((typo(" in form["query"]:
            return await FAILURES["400 for bad PromQL"][0](request, form)
        if "tidegate_owner" in form["query"]:
            return vector(one(2, tidegate_owner="prod/chat"))
        return await healthy(request, form)

    async with collecting(handler) as (collector, _):
        harvest = await collector.collect(NOW, {CHAT: "good", CODE: "typo()"})
    assert harvest.activations[CHAT] == 2.0
    assert isinstance(harvest.activations[CODE], Missing)
    assert not isinstance(harvest.samples, Missing), "the fleet's own metrics are not touched"


FAILS_WHEN_RUN = FAILURES["422 for a query that fails when it is run"][0]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param(FAILS_WHEN_RUN, "QueryFailed", id="it fails when it is run"),
        pytest.param(FAILURES["no answer at all"][0], "Timeout", id="it takes too long"),
        pytest.param(
            failure(503, {"errorType": "timeout", "error": "too long"}), "ServerError", id="the server says so"
        ),
        pytest.param(FAILURES["a warning: part of the data is missing"][0], "PartialData", id="it is answered in part"),
    ],
)
async def test_one_users_failing_query_does_not_keep_others_asleep(broken: Handler, reason: str) -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if "evil" in form["query"]:
            return await broken(request, form)
        if "tidegate_owner" in form["query"]:
            return vector(one(2, tidegate_owner="prod/chat"))
        return await healthy(request, form)

    async with collecting(handler, timeout_s=0.2) as (collector, server):
        for _ in range(2):
            found = (await collector.collect(NOW, {CHAT: "good", CODE: "evil"})).activations
            assert found[CHAT] == 2.0
            wrong = found[CODE]
            assert isinstance(wrong, Missing)
            assert wrong.reason == reason
    joint = [form["query"] for form in server.asked if "good" in form["query"] and "evil" in form["query"]]
    assert len(joint) == 1, "what failed alone is not asked with the others again"


async def test_suspect_queries_take_turns_and_few_are_sent_at_once() -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if "evil" in form["query"]:
            return await FAILS_WHEN_RUN(request, form)
        owners = re.findall('"tidegate_owner", "([^"]+)"', form["query"])
        return vector(*(one(1, tidegate_owner=owner) for owner in owners))

    wrong = {Key("a", f"evil{i}"): "evil" for i in range(10)}
    asked = wrong | {Key("prod", f"m{i:02}"): "good" for i in range(30)}
    answered, most = set[Key](), 0
    async with collecting(handler) as (collector, server):
        for _ in range(8):
            before = len(server.asked)
            values = await collector.activations(NOW, asked)
            most = max(most, len(server.asked) - before)
            answered |= {key for key, value in values.items() if not isinstance(value, Missing)}
        assert answered == asked.keys() - wrong.keys()
        assert all(values[key] == 1.0 for key in answered), "and in the end all of them at once"
    assert most <= 2 + 2 * ALONE_MAX


@pytest.mark.parametrize(("waiting", "length"), [(8, 4096), (60, 200), (200, 10)])
async def test_a_server_with_a_short_query_limit_answers_for_all_waiting_deployments(waiting: int, length: int) -> None:
    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if len(form["query"]) > 16 * 2**10:
            return await failure(422, {"errorType": "422", "error": "too long query"})(request, form)
        owners = re.findall('"tidegate_owner", "([^"]+)"', form["query"])
        return vector(*(one(1, tidegate_owner=owner) for owner in owners))

    asked = {Key("n" * 63, f"{'m' * 57}{i:04}"): "q" * length for i in range(waiting)}
    async with collecting(handler) as (collector, server):
        assert await collector.activations(NOW, asked) == dict.fromkeys(asked, 1.0)
    assert len(server.asked) <= 1 + JOINTS_MAX


def test_the_number_of_joint_queries_is_bounded() -> None:
    asked = {Key("prod", f"m{i}"): "q" * 4096 for i in range(1000)}
    found = parts(asked)
    assert len(found) <= JOINTS_MAX
    assert {key: text for part in found for key, text in part.items()} == asked


async def test_a_server_failure_makes_no_query_suspect() -> None:
    down = True

    async def handler(request: web.Request, form: dict[str, str]) -> web.StreamResponse:
        return await failure(503, "down")(request, form) if down else vector(one(2, tidegate_owner="prod/chat"))

    async with collecting(handler) as (collector, server):
        assert isinstance((await collector.activations(NOW, {CHAT: "a", CODE: "b"}))[CHAT], Missing)
        down, before = False, len(server.asked)
        assert await collector.activations(NOW, {CHAT: "a", CODE: "b"}) == {CHAT: 2.0, CODE: 0.0}
        assert len(server.asked) - before == 2


@pytest.mark.parametrize("text", ["NaN", "+Inf", "-Inf", "1e300"])
async def test_an_activation_query_that_gives_no_number_is_not_zero(text: str) -> None:
    async with collecting(always(lambda: vector(one(text, tidegate_owner="prod/chat")))) as (collector, _):
        found = (await collector.activations(NOW, {CHAT: "0/0"}))[CHAT]
    assert found == Missing(reason="NotANumber", detail=f"the activationQuery returned {text}")


async def test_an_activation_query_that_gives_a_native_histogram_is_not_zero() -> None:
    series = {"metric": {"tidegate_owner": "prod/chat"}, "histogram": [0, {"count": "3", "sum": "1"}]}
    async with collecting(always(lambda: vector(series))) as (collector, _):
        found = (await collector.activations(NOW, {CHAT: "rate(waits_seconds[1m])"}))[CHAT]
    assert found == Missing(reason="NotANumber", detail="the activationQuery returned no number")


def test_a_corrected_or_recovered_query_rejoins_the_others() -> None:
    turns, failed = Turns(), SourceError(source="prometheus", reason="QueryFailed", detail="")
    turns.part({CHAT: "a", CODE: "b"})
    turns.settle({CHAT: failed, CODE: failed})
    assert turns.together({CHAT: "a", CODE: "b"}) == {}
    turns.settle({CHAT: []})
    assert turns.together({CHAT: "a", CODE: "b"}) == {CHAT: "a"}
    assert turns.together({CHAT: "a", CODE: "mended"}) == {CHAT: "a", CODE: "mended"}


async def test_a_cancelled_tick_leaves_no_task_behind() -> None:
    async with collecting(FAILURES["no answer at all"][0], timeout_s=0.3) as (collector, _):
        before = asyncio.all_tasks()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await collector.collect(NOW, {})
        await asyncio.sleep(0)
        assert {t for t in asyncio.all_tasks() - before if "_one" in repr(t.get_coro())} == set()
        await asyncio.sleep(0.5)
