"""The small parts of the process: fence, token bucket, inventory, keeper, settings, logs."""

import asyncio
import io
import json
import logging
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click.testing
import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from tests.kube_fakes import Clock, ScriptedApi, not_found
from tests.observe.fake_prometheus import serving
from tidegate.cli.run import command
from tidegate.domain.key import Key
from tidegate.domain.spec import Accelerator, DeploymentSpec, Slo, TierSpec
from tidegate.errors import SpecError
from tidegate.memory import DeploymentMemory, FleetMemory
from tidegate.plan.memory import PlanMemory
from tidegate.ports import AcceleratorResource, ApiError, Call, DeploymentResource
from tidegate.report.metrics import Metrics
from tidegate.runtime import elector, keeper, logs, parts
from tidegate.runtime.fenced import Bucket, FencedApi
from tidegate.runtime.inventory import FleetInventory
from tidegate.runtime.kube import HttpKubeApi
from tidegate.settings import Settings

CHAT = Key("prod", "chat")
URL = "http://127.0.0.1:9090"
CHART = Path(__file__).parents[2] / "charts" / "tidegate"


class Fence:
    epoch = 1

    def __init__(self, held: bool = True) -> None:
        self.held = held

    def holds(self) -> bool:
        return self.held


def spec(key: Key = CHAT, **changes: Any) -> DeploymentSpec:
    tier = TierSpec(
        name="bf16", quality=1.0, accelerator="h100", accelerators_per_replica=1, replicas_min=0, replicas_max=4
    )
    base = DeploymentSpec(key=key, model="m", slo=Slo(ttft_s=0.5, itl_s=0.04), tiers=(tier,), replicas_max=4)
    return replace(base, **changes)


def resource(key: Key = CHAT, *, uid: str = "u1", generation: int = 1, **changes: Any) -> DeploymentResource:
    return replace(DeploymentResource(key=key, uid=uid, generation=generation, spec=spec(key)), **changes)


def accelerator(name: str = "h100", *, uid: str = "a1", generation: int = 1) -> AcceleratorResource:
    return AcceleratorResource(
        name=name, uid=uid, generation=generation, accelerator=Accelerator(name=name, price_usd_per_hour=3.0)
    )


# --- the connection ----------------------------------------------------------------------------------------------


async def test_the_largest_object_that_etcd_takes_does_not_end_a_watch() -> None:
    text = r"\u003c" * (1536 * 1024)  # as Go writes `<`

    async def handler(_: web.Request, __: dict[str, str]) -> web.StreamResponse:
        large, small = (f'{{"type": "ADDED", "object": {{"text": "{each}"}}}}\n' for each in (text, ""))
        return web.Response(text=large + small)

    configuration = Configuration()
    async with serving(handler) as server:
        configuration.host = server.url
        async with HttpKubeApi(configuration) as api:
            events = [event async for event in api.watch(Call(method="GET", path="/api/v1/pods"))]
    assert [len(event["object"]["text"]) for event in events] == [1536 * 1024, 0]


@pytest.mark.parametrize(
    ("status", "answered"),
    [
        pytest.param(200, True, id="an answer"),
        pytest.param(403, True, id="a refusal"),
        pytest.param(429, False, id="an overloaded server"),
        pytest.param(502, False, id="a proxy without a server"),
        pytest.param(503, False, id="a server that starts or ends"),
    ],
)
async def test_a_server_that_says_it_is_away_has_not_answered(status: int, answered: bool) -> None:
    async def handler(_: web.Request, __: dict[str, str]) -> web.StreamResponse:
        return web.json_response({}, status=status)

    configuration = Configuration()
    async with serving(handler) as server:
        configuration.host = server.url
        async with HttpKubeApi(configuration) as api:
            with suppress(ApiError):
                await api.send(Call(method="GET", path="/api/v1/pods"))
            assert api.answered_within(60.0) is answered


# --- the fence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_is_written_without_leadership(method: str) -> None:
    api = ScriptedApi()
    fenced = FencedApi(api, Fence(held=False), Bucket(10, clock=Clock()))
    with pytest.raises(ApiError) as caught:
        await fenced.send(Call(method=method, path="/x"))
    assert caught.value.reason == "NotLeader"
    assert api.calls == []


async def test_a_write_that_waited_through_a_change_of_leadership_is_dropped() -> None:
    fence, api = Fence(), ScriptedApi()

    class Slow(Bucket):
        def wait_s(self) -> float:
            fence.epoch += 2
            return 0.0

    with pytest.raises(ApiError) as caught:
        await FencedApi(api, fence, Slow(10, clock=Clock())).send(Call(method="PATCH", path="/x"))
    assert (caught.value.reason, api.calls) == ("NotLeader", [])


async def test_a_write_ends_before_anybody_else_can_lead() -> None:
    api = ScriptedApi()
    api.answers["PATCH", "/x"] = {}
    await FencedApi(api, Fence(), Bucket(10, clock=Clock())).send(Call(method="PATCH", path="/x", timeout_s=30.0))
    last_start_s = elector.RENEW_DEADLINE_S - elector.WRITE_S
    assert last_start_s + api.calls[0].timeout_s < elector.LEASE_S


async def test_reads_need_no_leadership() -> None:
    api = ScriptedApi()
    api.answers["GET", "/x"] = {"a": 1}
    assert await FencedApi(api, Fence(held=False), Bucket(10, clock=Clock())).send(Call(method="GET", path="/x")) == {
        "a": 1
    }


async def test_leadership_lost_while_waiting_for_a_turn_stops_the_write() -> None:
    api, fence = ScriptedApi(), Fence()
    started = asyncio.Event()

    async def slow(_: Call) -> dict[str, Any]:
        started.set()
        await asyncio.sleep(0)
        fence.held = False
        return {}

    api.answers["PATCH", "/slow"] = slow
    fenced = FencedApi(api, fence, Bucket(1000, clock=Clock()), in_flight_max=1)
    first = asyncio.create_task(fenced.send(Call(method="PATCH", path="/slow")))
    await started.wait()
    with pytest.raises(ApiError):
        await fenced.send(Call(method="PATCH", path="/later"))
    await first
    assert [call.path for call in api.calls] == ["/slow"]


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    clock = Clock()
    bucket = Bucket(10, clock=clock)
    assert [bucket.wait_s() for _ in range(20)] == [0.0] * 20
    assert bucket.wait_s() == pytest.approx(0.1)
    assert bucket.wait_s() == pytest.approx(0.2)
    clock.now_s += 100
    assert bucket.wait_s() == 0.0


def test_a_full_bucket_holds_one_burst() -> None:
    clock = Clock()
    bucket = Bucket(10, clock=clock)
    clock.now_s += 3600
    assert [bucket.wait_s() for _ in range(20)] == [0.0] * 20
    assert bucket.wait_s() == pytest.approx(0.1)


# --- the inventory -----------------------------------------------------------------------------------------------


def inventory() -> tuple[FleetInventory, list[int]]:
    woken: list[int] = []
    return FleetInventory(changed=lambda: woken.append(1)), woken


def test_our_own_status_writes_do_not_wake_the_planner() -> None:
    stock, woken = inventory()
    stock.put_deployment(resource())
    stock.put_deployment(resource(status={"replicas": 3}))
    assert len(woken) == 1
    assert stock.deployments[CHAT].status == {"replicas": 3}


@pytest.mark.parametrize("change", [{"generation": 2}, {"annotations": {"tidegate.io/paused": "true"}}, {"uid": "u2"}])
def test_a_change_by_a_user_wakes_the_planner(change: dict[str, Any]) -> None:
    stock, woken = inventory()
    stock.put_deployment(resource())
    stock.put_deployment(replace(resource(), **change))
    assert len(woken) == 2


@pytest.mark.parametrize(
    ("change", "wakes"),
    [({"generation": 2}, 2), ({"uid": "a2"}, 2), ({}, 1)],
    ids=["an edited class", "another one of its name", "its status"],
)
def test_a_changed_class_wakes_the_planner(change: dict[str, Any], wakes: int) -> None:
    stock, woken = inventory()
    stock.put_accelerator(accelerator())
    stock.put_accelerator(accelerator(**change))
    assert len(woken) == wakes


def test_a_class_that_is_gone_wakes_the_planner_unless_another_one_has_its_name() -> None:
    stock, woken = inventory()
    stock.put_accelerator(accelerator(uid="a2"))
    stock.drop_accelerator("h100", "a1")
    assert (set(stock.accelerators), len(woken)) == ({"h100"}, 1)
    stock.drop_accelerator("h100", "a2")
    assert (set(stock.accelerators), len(woken)) == (set(), 2)


def test_an_invalid_change_keeps_the_last_valid_spec_but_is_not_planned() -> None:
    stock, _ = inventory()
    stock.put_deployment(resource())
    wrong = SpecError(field="spec.slo", value=0, allowed="more")
    stock.put_deployment(resource(generation=2, spec=wrong))
    assert stock.specs() == {CHAT: spec()}
    assert stock.planned({"h100"}) == {}


def test_a_namesake_does_not_inherit_the_spec() -> None:
    stock, _ = inventory()
    stock.put_deployment(resource())
    stock.put_deployment(resource(uid="u2", spec=SpecError(field="spec", value=0, allowed="more")))
    assert stock.specs() == {}


def test_a_deployment_whose_class_does_not_exist_is_not_planned() -> None:
    stock, _ = inventory()
    stock.put_deployment(resource())
    assert stock.planned({"a10"}) == {}
    assert stock.planned({"h100"}) == {CHAT: spec()}


def test_the_late_deletion_of_a_namesake_does_not_drop_the_new_one() -> None:
    stock, _ = inventory()
    stock.put_deployment(resource(uid="u2"))
    stock.drop_deployment(CHAT, "u1")
    assert CHAT in stock.deployments


def test_a_sweep_drops_deleted_objects_and_keeps_new_ones() -> None:
    stock, _ = inventory()
    stock.put_deployment(resource())
    stock.put_accelerator(accelerator())
    stock.put_accelerator(accelerator("a10", uid="a9"))
    before = stock.uids()
    young = Key("prod", "young")
    stock.put_deployment(resource(young, uid="u9"))
    assert stock.sweep({}, {("", "h100"): ("a1", 1)}, before=before) == 2
    assert set(stock.deployments) == {young}
    assert set(stock.accelerators) == {"h100"}


def test_a_class_that_arrives_during_the_list_is_kept() -> None:
    stock, _ = inventory()
    before = stock.uids()
    stock.put_accelerator(accelerator())
    assert stock.sweep({}, {}, before=before) == 0
    assert set(stock.accelerators) == {"h100"}


def test_the_inventory_is_complete_when_everything_listed_has_arrived() -> None:
    stock, _ = inventory()
    other = Key("prod", "other-shard")
    stock.sweep(
        {("prod", "chat"): ("u1", 3), ("prod", "gone"): ("u2", 1), ("prod", "other-shard"): ("u3", 1)}, {}, before=set()
    )
    assert stock.behind() == 3
    stock.drop_deployment(other, "u3")
    stock.drop_deployment(Key("prod", "gone"), "u2")
    stock.put_deployment(resource(generation=2))
    assert stock.behind() == 1, "an older generation than listed is not what was listed"
    stock.put_deployment(resource(generation=3))
    assert stock.behind() == 0


def test_what_is_dropped_during_a_list_is_not_missed_at_the_next_one() -> None:
    """A deployment of another shard, which is created after the first page was read."""
    stock, _ = inventory()
    before = stock.met()
    stock.drop_deployment(Key("prod", "other-shard"), "u3")
    stock.sweep({}, {}, before=before)
    listed = {("prod", "other-shard"): ("u3", 1)}
    stock.sweep(listed, {}, before=stock.met())
    assert stock.behind() == 0
    stock.sweep({}, {}, before=stock.met())
    assert stock.met() == set(), "nothing is kept of what was deleted"


# --- memory ------------------------------------------------------------------------------------------------------


def memory(*keys: Key) -> FleetMemory:
    return FleetMemory(deployments={key: DeploymentMemory(plan=PlanMemory()) for key in keys})


def uids(*keys: Key) -> dict[Key, str]:
    return {key: f"uid of {key}" for key in keys}


class ConfigMaps(ScriptedApi):
    """Stores what is applied."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, dict[str, Any]] = {}

    async def send(self, call: Call) -> dict[str, Any]:
        self.calls.append(call)
        if call.method == "PATCH":
            assert isinstance(call.body, dict)
            self.kept[call.path] = dict(call.body)
        if call.path not in self.kept:
            raise not_found(call.path)
        return self.kept[call.path]


async def test_a_restart_loses_nothing() -> None:
    api, keys = ConfigMaps(), [Key("prod", f"d{i}") for i in range(50)]
    await keeper.Keeper(api, "ns").save(memory(*keys), uids(*keys))
    assert await keeper.Keeper(api, "ns").load() == {
        key: keeper.Saved(memory=part, uid=f"uid of {key}") for key, part in memory(*keys).deployments.items()
    }


async def test_unchanged_memory_is_not_written_again() -> None:
    api, keys = ConfigMaps(), [Key("prod", f"d{i}") for i in range(5)]
    first = keeper.Keeper(api, "ns")
    await first.save(memory(*keys), uids(*keys))
    wrote = len(api.written())
    await first.save(memory(*keys), uids(*keys))
    after_restart = keeper.Keeper(api, "ns")
    await after_restart.load()
    await after_restart.save(memory(*keys), uids(*keys))
    assert len(api.written()) == wrote


async def test_an_empty_fleet_writes_nothing() -> None:
    api = ConfigMaps()
    await keeper.Keeper(api, "ns").save(FleetMemory(), {})
    assert api.calls == []


async def test_a_slow_server_does_not_lose_the_last_shards_at_a_stop() -> None:
    """Each write takes half of the time that all of them have."""
    api, keys, limit_s = ConfigMaps(), [Key("prod", f"d{i}") for i in range(200)], 0.5
    send = api.send

    async def slow(call: Call) -> dict[str, Any]:
        await asyncio.sleep(limit_s / 2)
        return await send(call)

    api.send = slow  # type: ignore[method-assign]
    async with asyncio.timeout(limit_s):
        await keeper.Keeper(api, "ns").save(memory(*keys), uids(*keys))
    assert len(api.kept) == keeper.SHARDS


async def test_deployments_that_are_gone_are_forgotten() -> None:
    api = ConfigMaps()
    kept = keeper.Keeper(api, "ns")
    await kept.save(memory(CHAT), uids(CHAT))
    await kept.save(memory(CHAT), {})
    assert await keeper.Keeper(api, "ns").load() == {}


async def test_a_server_that_does_not_answer_is_not_an_empty_memory() -> None:
    api = ConfigMaps()
    await keeper.Keeper(api, "ns").save(memory(CHAT), uids(CHAT))

    async def refuses(call: Call) -> dict[str, Any]:
        raise ApiError(status=500, reason="InternalError", detail="etcd is away")

    api.send = refuses  # type: ignore[method-assign]
    with pytest.raises(ApiError):
        await keeper.Keeper(api, "ns").load()


@pytest.mark.parametrize("damage", ["", "bm90IHpsaWI=", "!!!"])
async def test_only_damaged_memory_is_lost(damage: str) -> None:
    api = ConfigMaps()
    other = next(k for i in range(99) if keeper.shard_of(k := Key("prod", f"d{i}")) != keeper.shard_of(CHAT))
    await keeper.Keeper(api, "ns").save(memory(CHAT, other), uids(CHAT, other))
    path = f"/api/v1/namespaces/ns/configmaps/tidegate-memory-{keeper.shard_of(CHAT):02d}"
    api.kept[path]["binaryData"] = {"memory": damage}
    assert set(await keeper.Keeper(api, "ns").load()) == {other}


async def test_a_shard_that_cannot_be_stored_does_not_block_the_others() -> None:
    api = ScriptedApi()
    keys = [Key("prod", f"d{i}") for i in range(200)]
    for shard in range(keeper.SHARDS):
        api.answers["PATCH", f"/api/v1/namespaces/ns/configmaps/tidegate-memory-{shard:02d}"] = {}
    refused = "/api/v1/namespaces/ns/configmaps/tidegate-memory-03"
    api.answers["PATCH", refused] = ApiError(status=422, reason="Invalid", detail="it is immutable")
    kept = keeper.Keeper(api, "ns")
    for wrote in (keeper.SHARDS, keeper.SHARDS + 1):
        with pytest.raises(ApiError, match="immutable"):
            await kept.save(memory(*keys), uids(*keys))
        assert len(api.written()) == wrote, "only what is not stored is tried again"


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param({"prometheus_url": ""}, "--prometheus-url (TIDEGATE_PROMETHEUS_URL)", id="no Prometheus"),
        pytest.param({"prometheus_url": "prometheus:9090"}, "--prometheus-url", id="a URL without scheme"),
        pytest.param({"prometheus_url": "http://me:pw@host"}, "--prometheus-url", id="credentials in the URL"),
        pytest.param({"prometheus_url": "http://host/?a=b"}, "--prometheus-url", id="a query in the URL"),
        pytest.param({"prometheus_url": "http://[::1"}, "--prometheus-url", id="a bracket that is not closed"),
        pytest.param({"prometheus_url": "http://host:99999"}, "--prometheus-url", id="a URL with a port that is none"),
        pytest.param({"prometheus_url": "http://host:90x/a"}, "--prometheus-url", id="a port of letters"),
        pytest.param({"prometheus_user": "me"}, "--prometheus-user", id="a user without a password"),
        pytest.param({"prometheus_headers": "X-A: a\nX-B: b"}, "--prometheus-headers", id="a header of two lines"),
        pytest.param({"prometheus_matchers": 'cluster="eu"'}, "--prometheus-matchers", id="a value in quotation marks"),
        pytest.param({"listen": "0.0.0.0:\u00b2"}, "--listen", id="a digit that is no number"),
        pytest.param({"operator_namespace": ""}, "--operator-namespace", id="no namespace for the Lease"),
        pytest.param({"operator_namespace": "a b"}, "--operator-namespace", id="a namespace with a space"),
        pytest.param({"tick": 1.0}, "--tick (TIDEGATE_TICK)", id="a tick below five seconds"),
        pytest.param({"window": 5.0}, "--window", id="a window below two scrapes"),
        pytest.param({"prometheus_token_file": "/nowhere"}, "--prometheus-token-file", id="a file that is not there"),
        pytest.param({"prometheus_headers": "X-Scope"}, "--prometheus-headers", id="a header without value"),
        pytest.param({"prometheus_matchers": 'a"=b'}, "--prometheus-matchers", id="a label name that is none"),
        pytest.param({"pod_monitor_labels": "release"}, "--pod-monitor-labels", id="a label without a value"),
        pytest.param({"pod_monitor_labels": "re lease=x"}, "--pod-monitor-labels", id="no name of a label"),
        pytest.param({"prometheus_pod_label": "pod name"}, "--prometheus-pod-label", id="a pod label that is none"),
        pytest.param({"listen": "8080"}, "--listen", id="a port without address"),
        pytest.param({"listen": "0.0.0.0:99999"}, "--listen", id="a port that is none"),
        pytest.param({"shard": "Team_A"}, "--shard (TIDEGATE_SHARD)", id="a shard that no Lease can be named after"),
        pytest.param({"shard": "a.b"}, "--shard", id="a shard with a dot"),
        pytest.param({"shard": "a" * 64}, "--shard", id="a shard that is too long"),
        pytest.param({"namespace": "Prod"}, "--namespace (TIDEGATE_NAMESPACE)", id="a namespace that is none"),
        pytest.param({"namespace": "prod-"}, "--namespace", id="a namespace that ends in a dash"),
        pytest.param({"log_format": "xml"}, "--log-format", id="a format we do not have"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SpecError) as caught:
        Settings(**({"prometheus_url": URL} | given))
    assert str(caught.value).startswith(named)


def test_no_two_installations_share_lease_and_memory() -> None:
    served = [
        ("", ""),
        ("a", ""),
        ("", "a"),
        ("a", "b"),
        ("a-b", ""),
        ("", "a-b"),
        ("b", "a"),
        ("a-b", "c"),
        ("a", "b-c"),
    ]
    made = [Settings(prometheus_url=URL, shard=shard, namespace=namespace) for shard, namespace in served]
    for name in ("tidegate", "tidegate-memory"):
        names = [parts.named(name, each) for each in made]
        assert len(set(names)) == len(names)
        assert names[:2] == [name, f"{name}-a"], "those of before: an upgrade keeps what was learned"


@pytest.mark.parametrize("value", ["blue", "team-7", "7", "", "Team_A", "a.b", "-a", "a-", "é"])
@pytest.mark.parametrize(("field", "setting"), [("shard", "shard"), ("watchNamespace", "namespace")])
def test_the_chart_grants_what_the_operator_does(field: str, setting: str, value: str) -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"][field]
    try:
        Settings(prometheus_url=URL, **{setting: value})
    except SpecError:
        allowed = False
    else:
        allowed = True
    assert (re.search(schema["pattern"], value) is not None) == allowed


def test_token_and_user_exclude_each_other(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    with pytest.raises(SpecError):
        Settings(prometheus_url=URL, prometheus_token_file=str(token), prometheus_user="me")


def test_lists_are_parsed() -> None:
    found = Settings(
        prometheus_url=URL,
        prometheus_headers="X-A: 1, X-B: a:b",
        prometheus_matchers="cluster=eu-1",
        listen="[::]:80",
        pod_monitor_labels="release=stack, example.com/team=a",
    )
    assert found.headers == {"X-A": "1", "X-B": "a:b"}
    assert found.matchers == {"cluster": "eu-1"}
    assert found.address == ("::", 80)
    assert found.monitor_labels == {"release": "stack", "example.com/team": "a"}


def test_a_header_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(SpecError) as told:
        Settings(prometheus_url=URL, prometheus_headers="Authorization Bearer hush")
    assert "hush" not in str(told.value)
    assert "25 characters without :" in str(told.value)


@pytest.mark.parametrize(
    "url", ["http://me:hush@host", "http://me:hush#1@host", "http://me:hu?hush@host/a", "me:hush@host"]
)
def test_a_password_in_the_url_is_not_repeated(url: str) -> None:
    with pytest.raises(SpecError) as told:
        Settings(prometheus_url=url)
    assert "hush" not in str(told.value)
    assert "@host" in str(told.value)
    assert "must not contain credentials" in str(told.value)


def test_help_names_every_setting_and_its_variable() -> None:
    text = " ".join(click.testing.CliRunner().invoke(command, ["--help"]).output.split())
    for name in Settings.__dataclass_fields__:
        assert f"TIDEGATE_{name.upper()}" in text
        assert f"--{name.replace('_', '-')}" in text


def test_environment_variables_and_flags_are_equivalent() -> None:
    result = click.testing.CliRunner().invoke(command, [], env={"TIDEGATE_PROMETHEUS_URL": URL, "TIDEGATE_TICK": "2"})
    assert result.exit_code == 2
    assert "--tick (TIDEGATE_TICK): invalid value 2.0: must be from 5 to 60" in " ".join(result.output.split())


# --- logs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["json", "text"])
def test_a_line_is_one_line_and_carries_its_fields(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.set_up(style=style, level="info")
        logging.getLogger("tidegate.x").info("refused:\n- no image", extra={"deployment": "prod/chat"})
        logging.getLogger("kopf.objects").info("Handler 'x' succeeded.")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    (line,) = stream.getvalue().splitlines()
    if style == "json":
        wanted = {"level": "info", "message": "refused:\n- no image", "deployment": "prod/chat"}
        assert wanted.items() <= json.loads(line).items()
    else:
        assert line.endswith(r"INFO    refused:\n- no image deployment=prod/chat")


async def test_each_setting_reaches_its_part() -> None:
    settings = Settings(
        prometheus_url=URL,
        prometheus_headers="X-Scope-OrgID: team",
        prometheus_insecure=True,
        prometheus_matchers="cluster=eu",
        namespace="prod",
        window=120.0,
        stale=45.0,
        history_days=2.0,
        tick=7.0,
        memory_interval=60.0,
        writes_per_second=5.0,
        pod_monitor_labels="release=stack",
    )
    made: Any = parts.assemble(settings, ScriptedApi(), Metrics("1"))  # type: ignore[arg-type]
    try:
        assert (made.planner.period_s, made.saver.period_s, made.recovery.days) == (7.0, 60.0, 2.0)
        roster = made.cluster._roster
        assert (roster.window_s, roster.stale_s) == (120.0, 45.0)
        for dialect in (made.planner.parts.collector._dialect, made.recovery.dialect):
            assert (dialect.window_s, dialect.matchers) == (120.0, {"cluster": "eu"})
        assert made.hands._actuator._monitor_labels == {"release": "stack"}
        assert made.hands._api._bucket._rate == 5.0
        assert (made.sweeper.namespace, made.cluster._namespace) == ("prod", "prod")
        assert made.hands._reporting.accelerator_status.keywords == {"serves_all": False}
        for client in made.clients:
            assert client._access.headers == {"X-Scope-OrgID": "team"}
            assert client._access.verify is False
        for wakes in (made.inventory.changed, made.elector.changed):
            made.planner.woken.clear()
            wakes()
            assert made.planner.woken.is_set()
    finally:
        for client in made.clients:
            client.close()
