"""The chart's alerts in a real Prometheus, on the operator's real metrics page: they fire only on real problems."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.chart.rendering import by_kind, render
from tests.report.test_metrics import CHAT, tick
from tidegate.domain.decision import Condition, Decision, Reason, Status
from tidegate.domain.observation import DeploymentObservation, Histogram, Missing, TierReading
from tidegate.domain.spec import Accelerator
from tidegate.errors import SourceError
from tidegate.report.metrics import Metrics, Tick
from tidegate.sandbox.binaries import Effort, provide
from tidegate.sandbox.control_plane.real import free_ports

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts" / "tidegate" / "files" / "rules.yaml"
DASHBOARD = ROOT / "charts" / "tidegate" / "files" / "dashboards" / "tidegate.json"
PAGE = ROOT / "docs" / "operations.md"
METRICS_PAGE = ROOT / "docs" / "reference" / "metrics.md"
INF = float("inf")
# Four requests an hour, all of them late.
NIGHT = {"ttft": Histogram((0.5, INF), (0.0, 1.0)), "arrival_rps": 4 / 3600, "completion_rps": 4 / 3600}
FAILED = Decision(key=CHAT, tiers={}, reason=Reason.PLANNER_FAULT, message="m", error="E")


def well() -> Tick:
    """Three of three replicas serve inside the targets, for little money."""
    shown = tick()
    (state,) = shown.observations[CHAT].tiers.values()
    assert isinstance(state.reading, TierReading)
    reading = replace(
        state.reading,
        ttft=Histogram((0.5, INF), (100.0, 100.0)),
        request_itl=Histogram((0.02, 0.04, INF), (50.0, 100.0, 100.0)),
        output_tokens_per_s=5000.0,
    )
    seen = DeploymentObservation(tiers={"bf16": replace(state, ready=3, starting=0, reading=reading)})
    return replace(shown, observations={CHAT: seen})


def unwell(**change: Any) -> Tick:
    """The same with one thing changed; `reading` changes fields of the reading."""
    shown = well()
    (state,) = shown.observations[CHAT].tiers.values()
    reading = change.pop("reading", {})
    if isinstance(reading, dict):
        assert isinstance(state.reading, TierReading)
        reading = replace(state.reading, **reading)
    changed = replace(state, **change, reading=reading)
    return replace(shown, observations={CHAT: DeploymentObservation(tiers={"bf16": changed})})


def stuck() -> Tick:
    """All is well but for a tier that is not tried again for a while: nothing of it starts, nothing is decided."""
    finding = Condition(type="CapacityAvailable", status=Status.FALSE, reason="ReplicasStuck", message="m")
    return replace(well(), decisions={CHAT: replace(well().decisions[CHAT], conditions=(finding,))})


class Pages:
    """Two operators, a leader that shows the fleet and a standby; and the leader of a shard."""

    def __init__(self) -> None:
        self.leader, self.standby, self.blue = Metrics("1"), Metrics("1"), Metrics("1")
        self.up = {"leader", "standby", "blue"}
        self.plans = True
        self.show(well())
        self.blue.leader.set(1.0)

    def show(self, shown: Tick, *, leads: bool = True) -> None:
        self.leader.show(shown)
        self.leader.leader.set(float(leads))

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["who"]
        which = {"leader": self.leader, "standby": self.standby, "blue": self.blue}[name]
        if self.plans or name == "blue":
            which.tick_s.observe(0.1)
        return web.Response(body=which.page() if name in self.up else b"", content_type="text/plain")


def impatient() -> str:
    """The chart's rules, with nothing to wait for and short memories."""
    (rule,) = by_kind(render("--set", "prometheusRule.enabled=true"), "PrometheusRule")
    text = str(yaml.safe_dump({"groups": rule["spec"]["groups"]}, width=1000))
    soon = re.sub(r"\[(5m|15m|30m|1h|6h)\]", "[4s]", re.sub(r"for: \w+", "for: 0s", text))
    return soon.replace("[10m]", "[8s]")


@asynccontextmanager
async def prometheus(pages: Pages, folder: Path) -> AsyncIterator[str]:
    """A real Prometheus with the rules, scraping both pages; where its API answers."""
    try:
        program = provide(("prometheus",), effort=Effort.LOOK)["prometheus"].path
    except SourceError as error:
        pytest.skip(f"no Prometheus here (`make binaries` gets it): {error}")
    app = web.Application()
    app.router.add_get("/{who}", pages.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (port,) = free_ports(1)
    (folder / "rules.yml").write_text(impatient())
    (folder / "prometheus.yml").write_text(_configuration(f"127.0.0.1:{runner.addresses[0][1]}"))
    command = [str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address=127.0.0.1:{port}", "--query.lookback-delta=5s"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(10)
        await runner.cleanup()


def _configuration(target: str) -> str:
    def pod(who: str) -> dict[str, Any]:
        labels = {"namespace": "tidegate-system", "pod": who, "__metrics_path__": f"/{who}"}
        return {"targets": [target], "labels": labels}

    # As a ServiceMonitor does it: an installation is a job of its namespace.
    jobs = [
        {"job_name": job, "honor_labels": True, "static_configs": [pod(who) for who in pods]}
        for job, pods in {"tidegate": ("leader", "standby"), "tidegate-blue": ("blue",)}.items()
    ]
    times = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    return str(yaml.safe_dump({"global": times, "rule_files": ["rules.yml"], "scrape_configs": jobs}))


async def until_firing(url: str, expected: set[str]) -> None:
    """Waits for exactly these alerts; fails with those that fire, and at once with a rule that cannot be evaluated."""
    names: set[str] = set()
    async with aiohttp.ClientSession() as session:
        for _ in range(80):
            await asyncio.sleep(0.5)
            try:
                async with session.get(f"{url}/rules") as answer:
                    groups = (await answer.json())["data"]["groups"]
            except aiohttp.ClientError:
                continue
            rules = [rule for group in groups for rule in group["rules"]]
            assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []
            names = {rule["name"] for rule in rules if rule.get("state") == "firing"}
            if names == expected and rules and all(rule["health"] == "ok" for rule in rules):
                return
    raise AssertionError(f"firing: {sorted(names)}, expected {sorted(expected)}")


async def stays_silent(url: str, wait_s: float) -> None:
    """Fails with an alert that fires within this time."""
    async with aiohttp.ClientSession() as session:
        for _ in range(round(2 * wait_s)):
            await asyncio.sleep(0.5)
            async with session.get(f"{url}/alerts") as answer:
                found = (await answer.json())["data"]["alerts"]
            assert [alert["labels"]["alertname"] for alert in found] == []


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts as the chart has them, with what Helm fills in left open."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules if "alert" in rule}


@pytest.mark.parametrize(("words", "wait"), [("half an hour", "30m"), ("five minutes", "5m")])
def test_an_alert_waits_as_long_as_it_says(words: str, wait: str) -> None:
    """It uses `for`, because a range covers only the samples that exist, and a new series has few."""
    said = [alert for alert in alerts().values() if words in alert["annotations"]["summary"]]
    assert {alert["for"] for alert in said} == {wait}


def test_the_documentation_lists_every_alert_and_no_other() -> None:
    listed = re.findall(r"^\| `(Tidegate\w+)` \| (\w+)", PAGE.read_text(), re.MULTILINE)
    assert listed == [(name, alert["labels"]["severity"]) for name, alert in alerts().items()]


def test_no_alert_averages_the_series_of_each_pod_over_hours() -> None:
    """The last values of a former leader would count for the length of the range."""
    texts = " ".join(alert["expr"] for alert in alerts().values())
    averaged = re.findall(r"_over_time\(([\w:]+)[^)]*?\[\d+h\]", texts)
    assert [name for name in averaged if ":" not in name] == []


@pytest.mark.parametrize("file", [RULES, DASHBOARD, METRICS_PAGE], ids=lambda file: file.name)
def test_no_sum_of_the_fleet_counts_a_former_leader_beside_the_current_one(file: Path) -> None:
    summed = re.findall(r"sum(?: by \([^)]*\))? ?\((tidegate_\w+)", file.read_text())
    assert set(summed) <= {"tidegate_leader"}


@pytest.mark.cluster
async def test_what_only_looks_bad_alerts_nobody(tmp_path: Path) -> None:
    pages = Pages()
    coarse = Histogram((0.01, 0.025, 0.05, INF), (0.0, 0.0, 100.0, 100.0))
    left = {"abort_rps": 2.0}
    async with prometheus(pages, tmp_path) as url:
        await until_firing(url, set())
        for reading in ({"request_itl": coarse}, left, NIGHT):
            pages.show(unwell(reading=reading))
            await stays_silent(url, 6.0)
        # A minute that served a thousandth of the tokens is a thousandth of what the tokens of hours cost.
        pages.show(unwell(reading={"output_tokens_per_s": 5.0}))
        await asyncio.sleep(1.0)
        pages.show(well())
        await stays_silent(url, 6.0)


@pytest.mark.cluster
async def test_a_handover_counts_nothing_twice_and_makes_no_second_alert(tmp_path: Path) -> None:
    """The former leader's last numbers stay for a scrape beside those of the current one."""
    pages = Pages()
    crashing, dear = unwell(ready=1, starting=2, failing=2), unwell(terminating=4)
    off = unwell(reading={"request_itl": Histogram((0.08, 0.09, INF), (0.0, 100.0, 100.0))})
    async with prometheus(pages, tmp_path) as url, aiohttp.ClientSession() as session:
        for shown, expected in (
            (crashing, {"TidegateReplicasFailing"}),
            (dear, {"TidegateBudgetNear"}),
            (off, {"TidegateSLOBurn", "TidegatePredictionOff"}),
        ):
            pages.show(shown)
            pages.standby.show(shown)
            await until_firing(url, expected)
            async with session.get(f"{url}/alerts") as answer:
                found = (await answer.json())["data"]["alerts"]
            assert sorted(each["labels"]["alertname"] for each in found) == sorted(expected)
            pages.show(well())
            pages.standby.show(well())
            await until_firing(url, set())
        recorded = "tidegate:cost_dollars_per_hour:sum == 18 or tidegate:replicas_missing:sum"
        async with session.get(f"{url}/query", params={"query": recorded}) as answer:
            found = (await answer.json())["data"]["result"]
        assert [float(each["value"][1]) for each in found] == [18.0]


@pytest.mark.cluster
async def test_tokens_of_accelerators_without_a_price_count_too(tmp_path: Path) -> None:
    pages = Pages()
    pages.show(replace(well(), accelerators={"h100": Accelerator(name="h100", price_usd_per_hour=0.0)}))
    async with prometheus(pages, tmp_path) as url, aiohttp.ClientSession() as session:
        await until_firing(url, set())
        for _ in range(20):
            async with session.get(
                f"{url}/query", params={"query": "tidegate:million_output_tokens_per_hour:max"}
            ) as got:
                found = (await got.json())["data"]["result"]
            if found:
                break
            await asyncio.sleep(0.5)
    assert [float(each["value"][1]) for each in found] == [18.0]


@pytest.mark.cluster
async def test_the_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    pages = Pages()
    misses = {"ttft": Histogram((0.5, INF), (20.0, 100.0))}
    off = {"request_itl": Histogram((0.08, 0.09, INF), (0.0, 100.0, 100.0))}
    cases: list[tuple[Tick, set[str]]] = [
        (unwell(reading=misses), {"TidegateSLOBurn"}),
        (unwell(reading=off), {"TidegateSLOBurn", "TidegatePredictionOff"}),
        (stuck(), {"TidegateTierStuck"}),
        (unwell(starting=2, ready=1, failing=2), {"TidegateReplicasFailing"}),
        (unwell(terminating=4), {"TidegateBudgetNear"}),
        (unwell(reading={"output_tokens_per_s": 500.0}), {"TidegateTokensDear"}),
        (unwell(reading=Missing(reason="Timeout")), {"TidegateNoMetrics"}),
    ]
    async with prometheus(pages, tmp_path) as url:
        await until_firing(url, set())
        for shown, expected in cases:
            pages.show(shown)
            await until_firing(url, expected)
            pages.show(well())
            await until_firing(url, set())
        pages.leader.faulted()
        await until_firing(url, {"TidegatePlannerFault"})
        await until_firing(url, set())
        # Counted once; the alert lasts as long as the fault, far beyond the counter's window.
        pages.leader.decided(FAILED)
        pages.show(replace(well(), decisions={CHAT: FAILED}))
        await asyncio.sleep(10.0)
        await until_firing(url, {"TidegatePlannerFault"})
        pages.show(well())
        await until_firing(url, set())
        pages.plans = False
        await until_firing(url, {"TidegateLoopStalled"})
        # As between two starts of an operator that always ends before its first plan.
        pages.up = {"blue"}
        await until_firing(url, {"TidegateDown", "TidegateLoopStalled"})
        pages.up = {"leader", "standby", "blue"}
        await until_firing(url, {"TidegateLoopStalled"})
        pages.plans = True
        pages.show(Tick(), leads=False)
        await until_firing(url, {"TidegateNoLeader"})
        pages.show(well())
        await until_firing(url, set())
        pages.blue.leader.set(0.0)
        await until_firing(url, {"TidegateNoLeader"})
        pages.blue.leader.set(1.0)
        await until_firing(url, set())
        pages.up = {"leader", "standby"}
        await until_firing(url, {"TidegateDown"})
        pages.up = set()
        await until_firing(url, {"TidegateDown"})
