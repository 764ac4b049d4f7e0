"""Yesterday's demand, read back by the names of workloads."""

import re

import pytest
from aiohttp import web

from tests.observe.fake_prometheus import serving
from tidegate.domain.key import Key
from tidegate.errors import SourceError
from tidegate.observe.history import _POD, GROUP, groups, history_query, read_history
from tidegate.observe.prometheus import Access, Prometheus
from tidegate.observe.queries import Dialect
from tidegate.units import SECONDS_PER_DAY

CHAT, CODE = Key("prod", "chat"), Key("prod", "code")


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        pytest.param("chat-bf16-7d9f8b6c5d-x2lqp", "chat-bf16", id="a pod of a Deployment"),
        pytest.param("chat-bf16-6b8d4f-x2lqp", "chat-bf16", id="with a short hash"),
        pytest.param("chat-0", "chat", id="a pod of a StatefulSet"),
        pytest.param("chat-0-3", "chat", id="a worker of a LeaderWorkerSet"),
        pytest.param("chat-v2-7d9f8b6c5d-x2lqp", "chat-v2", id="a workload whose name ends in a number"),
    ],
)
def test_a_pod_names_its_workload(pod: str, workload: str) -> None:
    found = re.fullmatch(_POD, pod)
    assert found is not None
    assert found.group(1) == workload


def test_one_query_serves_a_group_of_workloads_and_no_other() -> None:
    query = history_query(Dialect(matchers={"cluster": "eu"}), [("prod", "chat.v2"), ("test", "code")])
    assert query.startswith("sum by (namespace,tidegate_workload) (")
    assert "admission_rejections_total" in query
    assert query.count('cluster="eu"') == query.count("[300s]")
    assert query.count(r'namespace=~"prod|test",pod=~"(chat\\.v2|code)-.+"') == query.count("[300s]")


def test_a_query_for_a_full_group_is_short_enough_for_every_server() -> None:
    names = [("prod", f"llama-3-1-70b-instruct-{n:02d}-bf16") for n in range(GROUP)]
    assert len(history_query(Dialect(), names)) < 16 * 1024


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


def test_deployments_of_the_same_gap_are_read_together() -> None:
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
            {"metric": {"namespace": "prod", "tidegate_workload": w}, "values": [[start, v], [start + 300, "NaN"]]}
            for w, v in (("chat-bf16", "2"), ("chat-fp8", "0.5"), ("stranger", "9"))
        ]
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}})

    owners = {("prod", "chat-bf16"): CHAT, ("prod", "chat-fp8"): CHAT, ("prod", "code-bf16"): CODE}
    async with serving(handler) as server:
        client = Prometheus(Access(url=server.url))
        try:
            curves = await read_history(client, Dialect(), owners, start_s=0.0, end_s=days * SECONDS_PER_DAY)
        finally:
            client.close()
        return curves, len(server.asked)


async def test_tiers_add_up_and_gaps_stay_gaps() -> None:
    curves, asked = await read(2.0)
    assert asked == 2, "one question a day"
    assert curves == {CHAT: [(0.0, 2.5), (SECONDS_PER_DAY, 2.5)]}


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
    assert steps[1][1] < steps[2][0], "no point is read twice"


async def test_half_a_past_is_none() -> None:
    good = web.json_response({"status": "success", "data": {"resultType": "matrix", "result": []}})
    with pytest.raises(SourceError):
        await read(2.0, answer_to=[good, web.Response(status=503)])
