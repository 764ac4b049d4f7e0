"""Many runs: stored runs are not repeated, and the ranking is computed as documented."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest

from tests.interrupts import hears_ctrl_c
from tests.sim.builders import KEY, poisson, scenario
from tidegate.errors import SourceError, SpecError
from tidegate.sim import tournament
from tidegate.sim.compare import all_names, compare
from tidegate.sim.policies.registry import FLEETS, RIVALS
from tidegate.sim.policies.static import Static
from tidegate.sim.runner import run
from tidegate.sim.scenario import Scenario
from tidegate.sim.score import Result, Score, hopeless, score
from tidegate.sim.standings import standings
from tidegate.sim.table import markdown, rows, summary, table
from tidegate.sim.tournament import Plan, play, read, write

BF16 = (KEY, "bf16")


def one(attainment: float = 1.0, usd_per_million: float | None = 2.0, policy: str = "static") -> Score:
    """A real score with figures set."""
    base = score(run(scenario(poisson(1.0, 60.0), duration_s=60.0), Static({BF16: 1})))
    parts = {k: replace(p, attainment=attainment) for k, p in base.parts.items()}
    return replace(base, attainment=attainment, usd_per_million_good_tokens=usd_per_million, parts=parts, policy=policy)


class Played:
    """`compare`, which remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, list[str]]] = []

    def __call__(self, of: Scenario, policies: Sequence[str], *, known: Mapping[str, Score]) -> dict[str, Result]:
        self.asked.append((of.name, of.seed, list(policies)))
        return {p: Result(score=replace(one(policy=p), scenario=of.name, seed=of.seed), run=None) for p in policies}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    fake = Played()
    monkeypatch.setattr(tournament, "compare", fake)
    return fake


def test_stored_runs_are_not_repeated(played: Played, tmp_path: Path) -> None:
    plan = Plan(scenarios=["ramp", "tight-itl"], seeds=[1, 2], policies=["static", "fluid"], rows=tmp_path / "rows")
    done: list[tuple[int, int, str]] = []
    first = play(plan, lambda *report: done.append(report))
    assert done[-1] == (4, 4, "tight-itl 2")
    played.asked.clear()
    again = play(plan, lambda *_: None)
    assert played.asked == []
    assert again == first
    play(replace(plan, seeds=[2, 3], policies=["static", "hpa-gpu"]), lambda *_: None)
    assert played.asked == [
        ("ramp", 2, ["hpa-gpu"]), ("ramp", 3, ["static", "hpa-gpu"]),
        ("tight-itl", 2, ["hpa-gpu"]), ("tight-itl", 3, ["static", "hpa-gpu"]),
    ]  # fmt: skip


def test_seeds_stand_in_the_order_asked_for(played: Played) -> None:
    found = play(Plan(scenarios=["ramp"], seeds=[3, 1], policies=["static"]), lambda *_: None)
    assert [s.seed for s in found["ramp"]["static"]] == [3, 1]


def test_a_score_survives_the_file(tmp_path: Path) -> None:
    kept = {("test", 5, "static"): one(), ("test", 5, "none good"): one(attainment=0.0, usd_per_million=None)}
    write(tmp_path / "rows", kept)
    assert read(tmp_path / "rows") == kept
    assert read(None) == read(tmp_path / "absent") == {}


def test_an_invalid_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    write(path, {("test", 5, "static"): one()})
    path.write_text(path.read_text() + '{"scenario": "ramp"}\n')
    with pytest.raises(SpecError, match="rows:2"):
        read(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
def test_rows_that_cannot_be_written_are_reported() -> None:
    with pytest.raises(SourceError, match="/dev/full: NotWritten: No space left"):
        write(Path("/dev/full"), {("test", 5, "static"): one()})


@pytest.mark.slow
def test_two_processes_give_the_same_result_as_one() -> None:
    plan = Plan(scenarios=["tight-itl"], seeds=[1, 2], policies=["static", "keda-waiting@int4"])
    assert play(plan, lambda *_: None) == play(replace(plan, jobs=2), lambda *_: None)


@pytest.mark.slow
def test_a_killed_process_is_reported() -> None:
    def kill(*_: object) -> None:
        for process in active_children():
            process.kill()

    plan = Plan(scenarios=["tight-itl"], seeds=list(range(20)), policies=["static"], jobs=2)
    with pytest.raises(SourceError, match="a process of --jobs 2 was killed"):
        play(plan, kill)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_at_once(tmp_path: Path) -> None:
    rows, seeds = tmp_path / "rows", ",".join(map(str, range(1, 101)))
    arguments = ("--scenario", "tight-itl", "--policy", "static", "--seeds", seeds, "--jobs", "2", "--rows", str(rows))
    command = [sys.executable, "-m", "tidegate", "backtest", "--suite", *arguments]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,  # noqa: PLW1509 (no threads here)
    ) as process:
        for _ in range(600):
            if rows.exists():
                break
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        try:
            _, said = process.communicate(timeout=20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1
    assert said.split() == ["Aborted!"]


def test_the_ranking_counts_promises_and_money() -> None:
    results = {
        "a": {
            "tidegate": [one(0.995, 2.0), one(0.90, 2.0)],
            "clairvoyant": [one(1.0, 1.0), one(1.0, 1.0)],
            "rival": [one(1.0, 1.5), one(1.0, 8.0)],
            "poor": [one(0.5, 0.5), one(0.9, 2.0)],
        }
    }
    ranked = {s.policy: s for s in standings(results)}
    assert list(ranked) == ["tidegate", "clairvoyant", "rival", "poor"]
    assert (ranked["tidegate"].kept, ranked["tidegate"].runs) == (1, 2)
    assert ranked["rival"].cost == pytest.approx((1.5 * 8.0) ** 0.5)
    # Cheaper once with both inside; once tidegate broke a promise and it did not.
    assert (ranked["rival"].cheaper, ranked["rival"].kept_alone) == (1, 1)
    assert (ranked["poor"].kept, ranked["poor"].cheaper) == (0, 0)
    assert ranked["poor"].shortfall == pytest.approx((0.49 + 0.09) / 2)
    assert ranked["rival"].shortfall is None


def test_means_over_seeds_are_marked_where_one_missed() -> None:
    results = {"a": {"static": [one(1.0, 2.0), one(0.9, 4.0)], "clairvoyant": [one(1.0, 1.0), one(1.0, 1.0)]}}
    text = markdown(results, standings(results))
    assert "| a | static | 0.9500 ! | 3.000 |" in text
    assert "| static | 1 of 2 | 9.0 % | 2.83 | 0 | 0 |" in text
    assert len(rows(results)) == 4
    assert [r["cost_vs_clairvoyant"] for r in rows(results)] == [2.0, 4.0, 1.0, 1.0]
    assert table(results).row_count == 2
    assert summary(standings(results)).row_count == 2


def test_rivals_stands_for_all_rivals() -> None:
    names = all_names("tidegate,rivals, rivals*")
    assert names[0] == "tidegate"
    assert {n for n in names if not n.endswith("*")} == {"tidegate", *RIVALS, *FLEETS}
    assert len(names) == 1 + 2 * len([*RIVALS, *FLEETS])


def test_hindsight_is_never_worse_than_the_settings_as_shipped() -> None:
    of = scenario(poisson(20.0, 300.0), duration_s=300.0)
    found = {n: r.score for n, r in compare(of, ["hpa-gpu", "hpa-gpu*", "static", "static*"]).items()}
    for name in ("hpa-gpu", "static"):
        plain, tuned = found[name], found[f"{name}*"]
        assert tuned.met >= plain.met
        assert not plain.met or (tuned.usd_per_million_good_tokens or 0) <= (plain.usd_per_million_good_tokens or 0)


def test_a_run_is_cut_once_it_cannot_win_and_never_before() -> None:
    of = scenario(poisson(3.0, 1200.0), duration_s=1200.0, capacity=16)
    best = score(run(of, Static({BF16: 1})))
    assert best.met
    dear = run(of, Static({BF16: 9}), hopeless=lambda world: hopeless(best, world))
    assert dear.cut == "dear"
    late = run(scenario(poisson(60.0, 1200.0), duration_s=1200.0), Static({BF16: 1}),
               hopeless=lambda world: hopeless(replace(best, usd_per_million_good_tokens=1e9), world))  # fmt: skip
    assert late.cut == "late"
    again = run(of, Static({BF16: 1}), hopeless=lambda world: hopeless(best, world))
    assert again.cut == ""
    missed = replace(best, parts={k: replace(p, attainment=0.2) for k, p in best.parts.items()})
    assert not missed.met
    assert run(of, Static({BF16: 9}), hopeless=lambda world: hopeless(missed, world)).cut == ""
