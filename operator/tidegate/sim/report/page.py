"""
Fill the page: the figures as embedded JSON, and a summary in two or three sentences.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from math import isfinite
from typing import Any

from tidegate import __version__
from tidegate.domain.spec import DeploymentSpec
from tidegate.report.currency import DOLLARS, amount
from tidegate.sim.policies.registry import OWN
from tidegate.sim.report.series import demand, edges_of, names_of, series
from tidegate.sim.score import Result, Score

MARK = "/*DATA*/"
# Bounds that nobody could have run: they know the future, or pay for fractional replicas.
UNREAL = ("clairvoyant", "fluid")


def html(results: Mapping[str, Mapping[str, Result]]) -> str:
    """
    The whole page.

    Args:
        results: By scenario name and policy name, as `compare` gives them.
    """
    runs = (result.run for group in results.values() for result in group.values() if result.run is not None)
    code = next((run.scenario.currency for run in runs), DOLLARS)
    data = {
        "version": __version__,
        "currency": code,
        "scenarios": [_scenario(name, group, code) for name, group in results.items()],
    }
    # `<` is escaped, so that a name cannot end the script element.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return files("tidegate.sim.report").joinpath("page.html").read_text(encoding="utf-8").replace(MARK, text)


def _scenario(name: str, group: Mapping[str, Result], code: str) -> dict[str, Any]:
    runs = {policy: r.run for policy, r in group.items() if r.run is not None}
    scores = {policy: r.score for policy, r in group.items()}
    first = next(iter(runs.values()), None)
    if first is None:
        return {"name": name, "summary": summary(scores, code), "policies": [_row(p, s) for p, s in scores.items()]}
    scenario = first.scenario
    names = names_of(service.spec.key for service in scenario.services)
    return {
        "name": name,
        "summary": summary(scores, code),
        "targets": [_target(names[s.spec.key], s.spec) for s in scenario.services],
        "times": [round(float(t)) for t in edges_of(scenario.duration_s, scenario.tick_s)[1:]],
        "demand": demand(first),
        "policies": [_row(p, s) for p, s in scores.items()],
        "series": {policy: series(run) for policy, run in runs.items()},
    }


def _target(name: str, spec: DeploymentSpec) -> dict[str, Any]:
    budget = spec.cost.budget_usd_per_hour
    return {
        "name": name,
        "model": spec.model,
        "ttftMs": round(spec.slo.ttft_s * 1000),
        "itlMs": round(spec.slo.itl_s * 1000),
        "attainment": spec.slo.attainment,
        "budget": budget,
    }


def _row(name: str, score: Score) -> dict[str, Any]:
    return {
        "name": name,
        "policy": score.policy,
        "bound": name in UNREAL,
        "met": score.met if score.attainment is not None else None,
        "attainment": _known(score.attainment),
        "usd": _known(score.usd),
        "usdPerMillion": _known(score.usd_per_million_good_tokens),
        "gpuHours": _known(score.gpu_hours),
        "joules": _known(score.joules_per_good_token),
        "quality": _known(score.quality),
        "actions": score.actions,
    }


def _known(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else round(value, 6)


def summary(scores: Mapping[str, Score], code: str = DOLLARS) -> str:
    """Sentences: Tidegate's result and cost, the cheapest other policy that kept the promise, and the clairvoyant."""

    def bill(score: Score) -> str:
        return amount(f"{score.usd:.2f}", code)

    if OWN not in scores:
        return ""
    own = scores[OWN]
    if own.attainment is None:
        return "No request arrived."
    kept = "kept the promise" if own.met else "missed the promise"
    said = [f"Tidegate {kept}: {own.attainment:.2%} of requests met their targets, for {bill(own)}."]
    others = {n: s for n, s in scores.items() if n != OWN and n not in UNREAL}
    able = {n: s for n, s in others.items() if s.met and s.attainment is not None}
    if able:
        name, best = min(able.items(), key=lambda item: item[1].usd)
        said.append(f"The cheapest other policy that kept it is {name}, for {bill(best)} ({_against(best, own)}).")
    elif others:
        said.append("No other policy kept it.")
    if "clairvoyant" in scores and scores["clairvoyant"].usd > 0:
        said.append(f"A policy that knows the future would have cost {bill(scores['clairvoyant'])}.")
    return " ".join(said)


def _against(other: Score, own: Score) -> str:
    change = other.usd / own.usd - 1 if own.usd > 0 else 0.0
    return f"{abs(change):.0%} {'more' if change >= 0 else 'less'}"
