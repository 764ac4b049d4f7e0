"""The demo's figures: cost, view, and the table and remarks at the end."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from tidegate.api import manifests
from tidegate.errors import SpecError
from tidegate.sandbox import prometheus
from tidegate.sandbox.control_plane import Account
from tidegate.sandbox.demo import MANIFEST, Options, Scenario
from tidegate.sandbox.demo.ledger import Ledger
from tidegate.sandbox.demo.rights import rights
from tidegate.sandbox.demo.scenario import machines_for, scenario
from tidegate.sandbox.demo.scene import Scene, holds_accelerators, state_of
from tidegate.sandbox.demo.verdict import remarks, rows, table
from tidegate.sandbox.demo.view import graph, line, picture
from tidegate.sandbox.discovery import finds_pods_itself, node_targets, pod_targets
from tidegate.sandbox.exporter import GpuReading, exposition
from tidegate.sandbox.traffic import Outcome

Object = dict[str, Any]
PRICES = {"bf16": 6.0, "fp8": 3.0, "int4": 1.6}
GPUS = {"bf16": 2, "fp8": 1, "int4": 1}


def shown(**options: Any) -> Scenario:
    parsed = manifests.load(MANIFEST, offline=False)
    return scenario(
        Options(**options),
        documents=[],
        definitions=[],
        deployments=parsed.deployments,
        accelerators=parsed.accelerators,
    )


def ledger() -> Ledger:
    return Ledger(PRICES.__getitem__, GPUS.__getitem__)


def scene(**options: Any) -> Scene:
    found = shown(**options)
    return Scene(found, Ledger(found.price_usd_per_hour, found.gpus))


def good(tokens: int = 100, **fields: Any) -> Outcome:
    values = {"arrival_s": 0.0, "late_s": 0.0, "ttft_s": 0.1, "itl_s": 0.01, "ended_s": 1.0, "error": ""}
    return Outcome(**{**values, "output_tokens": tokens, **fields})


def test_a_replica_costs_from_the_moment_it_is_bound_until_it_is_gone() -> None:
    books = ledger()
    books.open(0.0)
    books.bound("a", "fp8", 600.0)
    books.bound("b", "bf16", 1200.0)
    books.gone("a", 2400.0)
    books.pass_time(3600.0)
    assert books.usd == pytest.approx(0.5 * 3.0 + 2 / 3 * 6.0)
    assert books.gpu_hours == pytest.approx(0.5 * 1 + 2 / 3 * 2)
    assert books.usd_per_hour == 6.0


def test_pods_bound_before_the_start_are_counted_from_the_start() -> None:
    books = ledger()
    books.bound("a", "int4", 0.0)
    books.open(3600.0)
    books.pass_time(7200.0)
    assert books.usd == pytest.approx(1.6)
    assert books.peak == Counter(int4=1)


def test_the_peak_is_the_most_expensive_fleet_not_the_largest() -> None:
    books = ledger()
    books.open(0.0)
    for index in range(3):
        books.bound(f"i{index}", "int4", 1.0)
    for index in range(3):
        books.gone(f"i{index}", 2.0)
    books.bound("b", "bf16", 3.0)
    assert books.peak == Counter(bf16=1)


def test_changes_after_the_replay_are_not_billed() -> None:
    books = ledger()
    books.open(0.0, until_s=3600.0)
    books.bound("a", "fp8", 0.0)
    books.bound("b", "bf16", 4000.0)
    books.gone("a", 7200.0)
    assert (books.usd, books.gpu_hours) == (pytest.approx(3.0), pytest.approx(1.0))
    assert books.peak == Counter(fp8=1)


def test_a_pod_that_is_reported_twice_is_paid_once() -> None:
    books = ledger()
    books.open(0.0)
    books.bound("a", "fp8", 0.0)
    books.bound("a", "fp8", 1.0)
    assert books.usd_per_hour == 3.0


def test_the_shipped_manifest_is_valid_and_its_nodes_hold_what_its_classes_offer() -> None:
    found = shown()
    offered: Counter[str] = Counter()
    for machine in machines_for(found.accelerators):
        assert machine.gpus <= 8
        offered[machine.labels["nvidia.com/gpu.product"]] += machine.gpus
    assert offered == {a.node_selector["nvidia.com/gpu.product"]: a.capacity for a in found.accelerators.values()}
    numbers = [machine.number for machine in machines_for(found.accelerators)]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("options", "speed", "pace"),
    [
        pytest.param({}, 288.0, 12.0, id="a day fills the five minutes, start-ups are capped"),
        pytest.param({"duration_s": 60.0}, 1440.0, 12.0, id="a shorter run, a faster day"),
        pytest.param({"speed": 4.0}, 4.0, 4.0, id="slow traffic, start-ups as slow"),
    ],
)
def test_how_fast_time_passes(options: Object, speed: float, pace: float) -> None:
    found = shown(**options)
    assert (found.speed, found.pace) == (speed, pace)
    assert all(arrival.time_s < found.duration_s for arrival in found.arrivals)


def test_a_trace_runs_as_it_was_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n0,10,10\n20,10,10\n400,10,10\n")
    found = shown(trace=path, duration_s=60.0)
    assert (found.speed, found.pace, [a.time_s for a in found.arrivals]) == (1.0, 1.0, [0.0, 20.0])


def test_manifests_without_the_accelerator_class_of_a_tier_are_refused() -> None:
    parsed = manifests.load(MANIFEST, offline=False)
    with pytest.raises(SpecError, match="nvidia-h100"):
        scenario(Options(), documents=[], definitions=[], deployments=parsed.deployments, accelerators={})


def test_manifests_without_a_deployment_are_refused() -> None:
    with pytest.raises(SpecError, match="InferenceDeployment"):
        scenario(Options(), documents=[], definitions=[], deployments={}, accelerators={})


def pod(*, node: str = "n", ready: bool = False, leaving: bool = False) -> Object:
    metadata = {"uid": f"{node}{ready}{leaving}", "labels": {"tidegate.io/tier": "fp8"}}
    if leaving:
        metadata["deletionTimestamp"] = "now"
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {"metadata": metadata, "spec": {"nodeName": node} if node else {}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        pytest.param(pod(node=""), "pending", id="no room"),
        pytest.param(pod(), "starting", id="bound"),
        pytest.param(pod(ready=True), "ready", id="ready"),
        pytest.param(pod(ready=True, leaving=True), "leaving", id="ready and on its way out"),
    ],
)
def test_a_pod_is_in_one_state(found: Object, state: str) -> None:
    assert state_of(found) == state


def test_a_pod_holds_its_accelerators_until_it_has_ended_not_until_its_object_goes() -> None:
    ended = pod(leaving=True)
    ended["status"]["phase"] = "Succeeded"
    assert not holds_accelerators(pod(node=""))
    assert holds_accelerators(pod())
    assert holds_accelerators(pod(ready=True, leaving=True))
    assert not holds_accelerators(ended)


def test_a_request_nobody_answered_is_a_miss() -> None:
    seen = scene(duration_s=20.0)
    seen.outcomes = [good()]
    seen.close(30.0)
    whole = seen.whole()
    assert whole.requests == len(seen.scenario.arrivals)
    assert whole.attainment == pytest.approx(1 / whole.requests)


def test_the_operators_claims_are_weighed_by_what_ended_in_their_windows() -> None:
    seen = scene(duration_s=60.0)
    seen.outcomes = [good(ended_s=20.0), good(ended_s=21.0), good(ended_s=50.0, ttft_s=9.0)]
    assert seen.compared() is None
    seen.claims = [(5.0, 0.0), (22.0, 0.9), (51.0, 0.3)]
    claimed, clients = seen.compared() or (0.0, 0.0)
    assert claimed == pytest.approx((2 * 0.9 + 0.3) / 3)
    assert clients == pytest.approx(2 / 3)


def test_static_fleets_are_assumed_to_serve_everything() -> None:
    seen = scene(duration_s=3600.0, speed=24.0)
    seen.ledger.open(0.0)
    seen.ledger.bound("a", "fp8", 0.0)
    seen.ledger.bound("b", "int4", 0.0)
    seen.ledger.gone("b", 1800.0)
    seen.ledger.pass_time(3600.0)
    seen.outcomes = [good(), good(ttft_s=99.0)]
    seen.status = {"tiers": [{"name": "bf16", "capacityPerReplica": "3"}]}
    ours, peak, alone = rows(seen)
    asked = sum(arrival.output_tokens for arrival in seen.scenario.arrivals)
    assert (ours.usd, ours.good_tokens, ours.attainment) == (pytest.approx(3.8), 100, 0.5)
    assert (peak.usd, peak.good_tokens, peak.attainment) == (pytest.approx(4.6), asked, None)
    assert alone.usd % 6.0 == pytest.approx(0.0)
    assert alone.usd >= 6.0


def test_without_a_learned_capacity_there_is_no_sized_rival() -> None:
    assert [row.name.splitlines()[0] for row in rows(scene(duration_s=20.0))] == ["Tidegate", "its peak fleet, fixed"]


@pytest.mark.parametrize(
    ("late", "said"),
    [pytest.param(1, "kept up", id="one step in a hundred"), pytest.param(20, "LAGGED", id="one step in five")],
)
def test_a_run_that_lagged_says_so(late: int, said: str) -> None:
    seen = scene(duration_s=20.0)
    seen.lag = {"steps": 100, "steps_late": late, "lag_total_s": 0.1, "lag_worst_s": 0.02}
    assert said in remarks(seen)[-1]


@pytest.mark.parametrize(
    ("duration_s", "said"),
    [pytest.param(40.0, True, id="a day in 40 s"), pytest.param(300.0, False, id="a day in five minutes")],
)
def test_a_day_that_nobody_could_follow_says_so(duration_s: float, said: bool) -> None:
    found = remarks(scene(duration_s=duration_s))
    assert any("longer --duration" in remark for remark in found) is said


def test_a_run_whose_lag_is_not_known_says_so() -> None:
    assert "not known" in remarks(scene(duration_s=20.0))[-1]


def test_every_view_can_be_drawn_before_anything_is_known_and_after() -> None:
    console = Console(width=120, record=True, force_terminal=True)
    empty, full = scene(duration_s=20.0), scene(duration_s=20.0)
    full.started_s = 0.0
    full.outcomes = [good()]
    full.pods = {"a": pod(ready=True)}
    full.ledger.bound("a", "fp8", 0.0)
    full.status = {"tiers": [{"name": "fp8", "desired": 3, "capacityPerReplica": "6.1"}]}
    full.decisions.append((5.0, "DemandRising", "needs 3 x fp8"))
    for seen in (empty, full):
        console.print(picture(seen, 10.0))
        console.print(line(seen, 10.0))
        console.print(table(seen))
    text = console.export_text()
    assert "needs 3 x fp8" in text
    assert "6.1" in text


def test_a_demo_of_classes_priced_in_euros_counts_euros() -> None:
    seen = scene(duration_s=20.0)
    seen.started_s = 0.0
    classes = {name: replace(each, currency="EUR") for name, each in seen.scenario.accelerators.items()}
    seen.scenario = replace(seen.scenario, accelerators=classes)
    console = Console(width=120, record=True, force_terminal=True)
    for part in (picture(seen, 10.0), line(seen, 10.0), table(seen)):
        console.print(part)
    text = console.export_text()
    assert "EUR/h" in text
    assert "EUR/M good tok" in text
    assert "$" not in text


def test_the_graph_reaches_its_full_height_at_the_highest_value() -> None:
    assert graph([0.0, 1.0, 2.0]) == " ▄█"
    assert graph([0.0, 0.0]) == "  "


def test_the_operator_may_do_what_the_chart_lets_it_do() -> None:
    chart = yaml.safe_load(Path("charts/tidegate/files/rbac.yaml").read_text())
    roles = {d["kind"]: d["rules"] for d in rights("ns", "op") if "rules" in d}
    assert roles == {"ClusterRole": chart["cluster"] + chart["namespaced"], "Role": chart["own"]}


def sources(*, own: bool) -> prometheus.Sources:
    account = Account(url="https://127.0.0.1:1", ca_file=Path("/ca"), token="secret")
    return prometheus.Sources(account=account, token_file=Path("/token"), front_port=9, own_discovery=own)


@pytest.mark.parametrize(
    ("own", "key"),
    [
        pytest.param(True, "kubernetes_sd_configs", id="a Prometheus that asks the API server"),
        pytest.param(False, "http_sd_configs", id="one that asks us"),
    ],
)
def test_prometheus_finds_pods_and_nodes(own: bool, key: str) -> None:
    text = prometheus.configuration(sources(own=own), interval_s=1.5)
    found = yaml.safe_load(text)
    assert found["global"]["scrape_interval"] == "1500ms"
    assert [key in job for job in found["scrape_configs"]] == [True, True, False]
    assert "secret" not in text


def test_our_discovery_names_what_the_rules_use() -> None:
    text = prometheus.configuration(sources(own=False), interval_s=1)
    jobs = yaml.safe_load(text)["scrape_configs"]
    used = {
        label
        for job in jobs
        for rule in job.get("relabel_configs", [])
        for label in rule["source_labels"]
        if label.startswith("__meta")
    }
    running = {
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "vllm", "ports": [{"name": "http", "containerPort": 8000}]}],
        },
        "status": {"podIP": "10.244.1.2", "phase": "Running"},
    }
    node = {"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.244.1.1"}]}}
    (target,), (kubelet,) = list(pod_targets(running)), list(node_targets(node))
    assert used <= set(target["labels"]) | set(kubelet["labels"])
    assert (target["targets"], kubelet["targets"]) == (["10.244.1.2:8000"], ["10.244.1.1:10250"])
    assert list(pod_targets({**running, "status": {}})) == []


def test_a_binary_tells_whether_it_can_discover(tmp_path: Path) -> None:
    program = tmp_path / "prometheus"
    program.write_bytes(b"x" * ((1 << 20) - 5) + b"github.com/prometheus/prometheus/discovery/kubernetes" + b"y")
    assert finds_pods_itself(program)
    program.write_bytes(b"discovery/http")
    assert not finds_pods_itself(program)


def reading(**fields: Any) -> GpuReading:
    values: Object = {
        "node": "n",
        "index": 0,
        "product": "NVIDIA-H100-80GB-HBM3",
        "holder": ("vllm", "ns", "p"),
        "utilization": 0.5,
        "power_w": 300.0,
        "memory_mib": (75000.0, 5000.0),
    }
    return GpuReading(**{**values, **fields})


def test_gpus_are_reported_as_dcgm_exporter_reports_them() -> None:
    families = {f.name: f for f in text_string_to_metric_families(exposition(lambda: [reading()]).decode())}
    sample = families["DCGM_FI_DEV_GPU_UTIL"].samples[0]
    assert sample.value == 50
    assert (sample.labels["pod"], sample.labels["namespace"], sample.labels["modelName"]) == (
        "p",
        "ns",
        "NVIDIA H100 80GB HBM3",
    )
    assert families["DCGM_FI_DEV_POWER_USAGE"].samples[0].value == 300


def test_an_unknown_power_draw_has_no_series() -> None:
    families = {f.name: f for f in text_string_to_metric_families(exposition(lambda: [reading(power_w=None)]).decode())}
    assert families["DCGM_FI_DEV_POWER_USAGE"].samples == []
