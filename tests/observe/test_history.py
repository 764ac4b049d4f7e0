"""
Past demand, read back by workload names.
"""

import re
from itertools import pairwise

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tests.observe.fake_prometheus import serving
from tidegate.domain.key import Key
from tidegate.errors import SourceError
from tidegate.observe.history import CUT, GROUP, groups, history_query, pod_pattern, read_history
from tidegate.observe.prometheus import Access, Prometheus
from tidegate.observe.queries import Dialect
from tidegate.units import SECONDS_PER_DAY

CHAT, CODE = Key("prod", "chat"), Key("prod", "code")


# 46 and 47 characters: between them the API server begins to cut what it puts before the five letters.
FITS, LONG = "llama-3-3-70b-instruct-prod-eu-west-fp8-h100-a", "llama-3-3-70b-instruct-prod-eu-west-h100-fp8-tp"
LONGER = f"{LONG}2-blue-gree"  # 58 characters
NAMES = ("chat", "chat-bf16", "chat-v2", "chat-1", "phi", "phi-4", "glm-4-5", "a.b", FITS, LONG, LONGER, f"{LONGER}n-2")


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        pytest.param("chat-bf16-7d9f8b6c5d-x2lqp", "chat-bf16", id="a pod of a Deployment"),
        pytest.param("chat-bf16-6b8d4f-x2lqp", "chat-bf16", id="with a short hash"),
        pytest.param("chat-0", "chat", id="a pod of a StatefulSet"),
        pytest.param("chat-0-3", "chat", id="a worker of a LeaderWorkerSet"),
        pytest.param("chat-v2-7d9f8b6c5d-x2lqp", "chat-v2", id="a workload whose name ends in a number"),
        pytest.param("phi-4-0", "phi-4", id="a StatefulSet whose name ends in a number"),
        pytest.param("glm-4-5-2", "glm-4-5", id="one whose name ends in two"),
        pytest.param("chat-1-0", "chat-1", id="one whose name is a pod's of another"),
        pytest.param("a.b-0", "a.b", id="a dot is a dot"),
        pytest.param("aXb-0", None, id="and nothing else"),
        pytest.param("chat-x2lqp", None, id="no hash, and a name that nothing is cut from"),
        pytest.param("chat-canary-7d9f8b6c5d-x2lqp", None, id="a workload that nobody asked for"),
        pytest.param(f"{FITS}-7d9f8b6c5d-x2lqp", FITS, id="the longest name that leaves the hash whole"),
        pytest.param(f"{LONG}-7d9f8b6c5dx2lqp", LONG, id="a name that takes the dash away"),
        pytest.param(f"{LONG}-7d9f8b6c5-x2lqp", LONG, id="and leaves it behind a shorter hash"),
        pytest.param(f"{LONG}-0", LONG, id="a StatefulSet of a long name"),
        pytest.param(f"{LONGER}x2lqp", LONGER, id="a name that takes the hash and both dashes away"),
    ],
)
def test_a_pod_names_its_workload(pod: str, workload: str | None) -> None:
    found = re.fullmatch(pod_pattern(NAMES), pod)
    assert (None if found is None else "".join(filter(None, found.groups()))) == workload


@given(names=st.sets(st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True), min_size=1, max_size=8))
def test_every_pod_that_the_api_server_names_finds_its_workload(names: set[str]) -> None:
    for name in names:
        found = re.fullmatch(pod_pattern(names), f"{name}-7d9f8b6c5d-"[:58] + "x2lqp")
        assert found is not None
        assert name[:CUT] in found.groups()


def test_one_query_serves_a_group_of_workloads_and_no_other() -> None:
    query = history_query(Dialect(matchers={"cluster": "eu"}), [("prod", "chat.v2"), ("test", "code")])
    assert query.startswith("sum by (namespace,tidegate_workload) (")
    assert "admission_rejections_total" in query
    assert query.count('cluster="eu"') == query.count("[300s]")
    assert query.count(r'namespace=~"prod|test",pod=~"(chat\\.v2-|code-).+"') == query.count("[300s]")


@pytest.mark.parametrize(
    ("window_s", "step_s", "span"),
    [
        pytest.param(60.0, 60.0, "[120s]", id="two scrapes a minute apart"),
        pytest.param(60.0, 300.0, "[300s]", id="each request is in one point"),
        pytest.param(300.0, 60.0, "[300s]", id="scrapes are further apart, and the window is longer"),
    ],
)
def test_a_rate_in_the_history_covers_two_scrapes(window_s: float, step_s: float, span: str) -> None:
    query = history_query(Dialect(window_s=window_s), [("prod", "chat")], step_s)
    assert query.count(span) == query.count("rate(")


@pytest.mark.parametrize("length", [30, 46, 47, 63, 253])
def test_a_query_for_a_full_group_is_short_enough_for_every_server(length: int) -> None:
    names = [(f"team-{n:02d}-production", f"model-{n:02d}-".ljust(length, "x")) for n in range(GROUP)]
    dialect = Dialect(namespace_label="kubernetes_namespace", pod_label="kubernetes_pod_name")
    assert len(history_query(dialect, names)) < 16 * 1024


@pytest.mark.parametrize(
    ("workloads", "sizes"),
    [
        pytest.param({}, [], id="nothing to read"),
        pytest.param({"a": 30, "b": 20}, [50], id="a full group"),
        pytest.param({"a": 30, "b": 21}, [30, 21], id="a deployment is never parted"),
        pytest.param({"a": 60, "b": 1}, [60, 1], id="nor one that has more than a group's"),
    ],
)
def test_groups_of_workloads(workloads: dict[str, int], sizes: list[int]) -> None:
    owners = {("prod", f"{name}-{n}"): Key("prod", name) for name, count in workloads.items() for n in range(count)}
    found = list(groups(owners, dict.fromkeys(owners.values(), 0.0)))
    assert [len(group) for group in found] == sizes
    assert {name: key for group in found for name, key in group.items()} == owners


def test_deployments_with_the_same_gap_are_read_together() -> None:
    keys = [Key("prod", f"m{n}") for n in range(4)]
    since_s = dict(zip(keys, (9.0, 1.0, 9.0, 1.0), strict=True))
    owners = {("prod", f"{key.name}-{n}"): key for key in keys for n in range(25)}
    assert [set(group.values()) for group in groups(owners, since_s)] == [{keys[1], keys[3]}, {keys[0], keys[2]}]


async def read(
    days: float, *, answer_to: list[web.Response] | None = None
) -> tuple[dict[Key, list[tuple[float, float]]], int]:
    async def handler(_: web.Request, form: dict[str, str]) -> web.StreamResponse:
        if answer_to:
            return answer_to.pop(0)
        start = float(form["start"])
        result = [
            {
                "metric": {"namespace": "prod", "tidegate_workload": w},
                "values": [[start, v], [start + 300, "NaN"], [start + 600, "+Inf"], [start + 900, "1e200"]],
            }
            for w, v in (("chat-bf16", "2"), ("chat-fp8", "0.5"), (LONGER, "0.25"), ("stranger", "9"))
        ]
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}})

    tiers = ("chat-bf16", "chat-fp8", f"{LONGER}n-2")
    owners = {("prod", name): CHAT for name in tiers} | {("prod", "code-bf16"): CODE}
    async with serving(handler) as server:
        client = Prometheus(Access(url=server.url))
        try:
            curves = await read_history(client, Dialect(), owners, start_s=0.0, end_s=days * SECONDS_PER_DAY)
        finally:
            client.close()
        return curves, len(server.asked)


async def test_tiers_add_up_and_impossible_values_are_gaps() -> None:
    curves, asked = await read(2.0)
    assert asked == 2, "one question a day"
    assert curves == {CHAT: [(0.0, 2.75), (SECONDS_PER_DAY, 2.75)]}


async def test_the_last_day_is_read_minute_by_minute_and_the_days_before_in_coarse_steps() -> None:
    steps: list[tuple[float, float, str]] = []

    async def handler(_: web.Request, form: dict[str, str]) -> web.StreamResponse:
        steps.append((float(form["start"]), float(form["end"]), form["step"]))
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": []}})

    async with serving(handler) as server:
        client = Prometheus(Access(url=server.url))
        try:
            await read_history(client, Dialect(), {("prod", "chat"): CHAT}, start_s=0.0, end_s=3 * SECONDS_PER_DAY)
        finally:
            client.close()
    assert [step for *_, step in steps] == ["300s", "300s", "60s"]
    assert steps[-1][:2] == (2 * SECONDS_PER_DAY, 3 * SECONDS_PER_DAY)
    assert all(before[1] < after[0] for before, after in pairwise(steps)), "no point is read twice"


async def test_an_incomplete_history_is_an_error() -> None:
    good = web.json_response({"status": "success", "data": {"resultType": "matrix", "result": []}})
    with pytest.raises(SourceError):
        await read(2.0, answer_to=[good, web.Response(status=503)])
