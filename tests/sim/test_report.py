"""The HTML report: its content, and that a real browser shows it without loading anything."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.sim.builders import KEY, poisson, scenario
from tidegate.domain.key import Key
from tidegate.sim.compare import compare
from tidegate.sim.policies.base import Choice, View
from tidegate.sim.report import html
from tidegate.sim.report.page import summary
from tidegate.sim.report.series import DECISIONS_MAX, series
from tidegate.sim.runner import run
from tidegate.sim.score import Part, Result, Score, score

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=5000",
)


@pytest.fixture(scope="module")
def results() -> Mapping[str, Mapping[str, Result]]:
    small = scenario(poisson(4.0, 600.0), initial={"bf16": 1})
    return {"small <script>": compare(small, ["tidegate", "keda-epp@bf16", "static"])}


@pytest.fixture(scope="module")
def page(results: Mapping[str, Mapping[str, Result]]) -> str:
    return html(results)


def data_of(page: str) -> dict[str, object]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    value = json.loads(found[1])
    assert isinstance(value, dict)
    return value


def one(name: str, *, usd: float, attainment: float | None, target: float = 0.99) -> Score:
    part = Part(
        requests=100, attainment=attainment, target=target, quality=1.0, quality_target=0.0, dropped=0,
        ttft_s_p50=0.1, ttft_s_p95=0.2, ttft_s_p99=0.3, itl_s_p50=0.01, itl_s_p95=0.02, good_tokens=1e6, usd=usd,
    )  # fmt: skip
    return Score(
        scenario="s", policy=name, attainment=attainment, usd=usd, usd_per_million_good_tokens=usd, gpu_hours=1.0,
        joules_per_good_token=0.1, quality=1.0, actions=1, replicas_mean=1.0, parts={"prod/chat": part},
    )  # fmt: skip


SUMMARIES = [
    (
        "the cheapest policy that kept the promise is named, and how much more it costs",
        {"tidegate": (10.0, 0.995), "static": (15.0, 1.0), "slo-keda": (9.0, 0.9)},
        "Tidegate kept the promise: 99.50% of requests met their targets, for $10.00. "
        "The cheapest other policy that kept it is static, for $15.00 (50% more).",
    ),
    (
        "a cheaper policy is called cheaper",
        {"tidegate": (10.0, 0.995), "static": (8.0, 1.0)},
        "Tidegate kept the promise: 99.50% of requests met their targets, for $10.00. "
        "The cheapest other policy that kept it is static, for $8.00 (20% less).",
    ),
    (
        "a missed promise is called missed, and bounds are no policies",
        {"tidegate": (10.0, 0.9), "slo-keda": (9.0, 0.9), "clairvoyant": (7.0, 1.0)},
        "Tidegate missed the promise: 90.00% of requests met their targets, for $10.00. No other policy kept it. "
        "A policy that knows the future would have cost $7.00.",
    ),
    ("nothing came", {"tidegate": (1.0, None)}, "No request arrived."),
    ("without our own policy nothing is claimed", {"static": (1.0, 1.0)}, ""),
]


@pytest.mark.parametrize(("case", "scores", "sentence"), SUMMARIES, ids=[row[0] for row in SUMMARIES])
def test_the_summary(case: str, scores: dict[str, tuple[float, float | None]], sentence: str) -> None:
    assert summary({n: one(n, usd=usd, attainment=share) for n, (usd, share) in scores.items()}) == sentence


def test_the_series_fit_the_times(page: str) -> None:
    (scenario,) = data_of(page)["scenarios"]  # type: ignore[misc]
    length = len(scenario["times"])
    assert length > 10
    assert len(scenario["demand"]) == length
    for one_run in scenario["series"].values():
        lists = [one_run["usd"], one_run["usdPerHour"], one_run["attainment"], *one_run["replicas"].values()]
        assert {len(values) for values in lists} == {length}
        assert one_run["usd"] == sorted(one_run["usd"])


def test_the_money_of_the_curve_is_that_of_the_table(page: str) -> None:
    (scenario,) = data_of(page)["scenarios"]  # type: ignore[misc]
    for row in scenario["policies"]:
        if row["name"] in scenario["series"]:
            assert scenario["series"][row["name"]]["usd"][-1] == pytest.approx(row["usd"], abs=0.001)


def test_the_money_of_a_fleet_that_moves_is_its_bill() -> None:
    class Grows:
        name = "grows"

        def decide(self, view: View) -> Choice:
            return Choice(replicas={(KEY, "bf16"): 1 + int(view.time_s / 60.0)})

    moving = run(scenario(poisson(1.0, 600.0)), Grows())
    paid = series(moving)["usd"]
    assert paid[-1] == pytest.approx(score(moving).usd, abs=0.001)
    assert paid[3] == pytest.approx(2.0 / 60, abs=0.001)


def test_a_long_run_has_a_decision_at_each_point_up_to_its_end() -> None:
    class Restless:
        name = "restless"

        def decide(self, view: View) -> Choice:
            count = 1 + int(view.time_s / 15.0) % 2
            return Choice(replicas={(KEY, "bf16"): count}, reasons={KEY: f"Steady: {view.time_s:.0f}"})

    drawn = series(run(scenario(poisson(0.05, 9000.0), duration_s=9000.0), Restless()))["decisions"]
    assert len(drawn) <= DECISIONS_MAX, "of 600 decisions"
    assert drawn[-1] == [9000, KEY.name, "Steady: 9000"]
    assert max(np.diff([time_s for time_s, *_ in drawn])) <= 30


def test_the_page_loads_nothing_and_names_cannot_end_its_script(page: str) -> None:
    assert not re.findall(r"""(?:src|href)=|@import|url\(|fetch\(|XMLHttp""", page)
    assert page.count("</script>") == 2


@pytest.mark.browser
def test_a_browser_draws_it_and_shows_the_time_under_the_pointer(page: str, tmp_path: Path) -> None:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium here")
    pointer = """<script>
      const svg = document.querySelector("svg"), box = svg.getBoundingClientRect();
      svg.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width / 2, clientY: box.top + 20}));
    </script>"""
    file = tmp_path / "report.html"
    file.write_text(page.replace("</body>", pointer + "</body>"))
    command = [program, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=400,900", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=90, check=True)
    shown = done.stdout
    assert shown.count("<svg") == 4
    assert 'aria-label="Ready replicas by tier"' in shown
    assert "small &lt;script&gt;" in shown
    tip = re.search(r'<div class="card tip"[^>]*>(.*?)</section>', shown, re.DOTALL)
    assert tip
    assert "req/s" in tip[1]
    assert "Point at a chart" not in tip[1]


def test_deployments_of_one_name_in_two_namespaces_are_told_apart() -> None:
    first = scenario(poisson(4.0, 120.0), initial={"bf16": 1}, duration_s=120.0)
    service = first.services[0]
    key = Key("dev", service.spec.key.name)
    second = replace(service, spec=replace(service.spec, key=key))
    both = replace(first, services=(service, second))
    results = compare(both, ["static"])
    drawn = series(results["static"].run)
    names = [str(service.spec.key), str(key)]
    assert list(drawn["replicas"]) == [f"{name} bf16" for name in names]
    assert {name for _, name, _ in drawn["decisions"]} <= set(names)
    (shown,) = data_of(html({"both": results}))["scenarios"]  # type: ignore[misc]
    assert [target["name"] for target in shown["targets"]] == names
