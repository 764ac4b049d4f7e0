"""
The figures of a run, in total and per deployment.

Every request that arrived during the run counts. One that was dropped, or is not finished when the run is over, missed
its targets. Cost and GPU hours count from when a pod is bound to its accelerators until it is gone.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.key import Key
from tidegate.sim.engine.state import DROPPED, FINISHED, Requests
from tidegate.sim.runner import Run
from tidegate.sim.scenario import Service
from tidegate.sim.world import World
from tidegate.units import MILLION, SECONDS_PER_HOUR

# The planner controls the mean quality of the fleet; which replica serves a request is chance. Tolerance for that.
QUALITY_DUST = 0.001
MONEY_DUST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """
    One deployment of a run. None: there was nothing to divide by.

    Args:
        attainment: Share of arrived requests that met both targets.
        quality: Mean tier quality over finished requests.
        dropped: Requests that were lost with their replica, rejected, or not finished.
        usd_per_hour_peak: Cost of the most expensive fleet that was requested, $/h.
    """

    requests: int
    attainment: float | None
    target: float
    quality: float | None
    quality_target: float
    dropped: int
    ttft_s_p50: float | None
    ttft_s_p95: float | None
    ttft_s_p99: float | None
    itl_s_p50: float | None
    itl_s_p95: float | None
    good_tokens: float
    usd: float
    usd_per_hour_peak: float = 0.0
    budget_usd_per_hour: float | None = None
    priority: int = 0

    @property
    def kept(self) -> bool:
        """Whether attainment, mean quality and budget were all kept."""
        share = self.attainment is None or self.attainment >= self.target
        budget = self.budget_usd_per_hour is None or self.usd_per_hour_peak <= self.budget_usd_per_hour + MONEY_DUST
        return share and self.quality_kept and budget

    @property
    def quality_kept(self) -> bool:
        """Whether the mean quality was kept."""
        return self.quality is None or self.quality >= self.quality_target - QUALITY_DUST


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One run, all deployments together. Figures per good token are None if no token was good."""

    scenario: str
    policy: str
    attainment: float | None
    usd: float
    usd_per_million_good_tokens: float | None
    gpu_hours: float
    joules_per_good_token: float | None
    quality: float | None
    actions: int
    replicas_mean: float
    parts: Mapping[str, Part]
    seed: int = 0

    @property
    def met(self) -> bool:
        """Whether every deployment kept its promises; see `Part.kept`."""
        return all(p.kept for p in self.parts.values())

    def to_json(self) -> dict[str, object]:
        """The score as JSON-serializable values."""
        return asdict(self) | {"met": self.met}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A score and its run; None for the fluid bound, which is not a run, and for scores read from a file."""

    score: Score
    run: Run | None


def badness(one: Score) -> tuple[float, ...]:
    """
    Sort key of runs, best first.

    Runs that kept all promises come first, by cost per good token. The others follow by how far they missed the target
    attainment, highest priority first, then by cost.
    """
    usd = inf if one.usd_per_million_good_tokens is None else one.usd_per_million_good_tokens
    if one.met:
        return 0.0, usd
    parts = sorted(one.parts.values(), key=lambda p: -p.priority)
    return 1.0, *(max(0.0, p.target - p.attainment) for p in parts if p.attainment is not None), usd


def score(run: Run) -> Score:
    """The figures of a run."""
    world, scenario = run.world, run.scenario
    requests = world.fleet.state.requests
    parts: dict[str, Part] = {}
    usd_of = _usd(run)
    for index, service in enumerate(scenario.services):
        parts[str(service.spec.key)] = _part(requests, index, service, run, usd_of[service.spec.key])
    good = sum(p.good_tokens for p in parts.values())
    count = sum(p.requests for p in parts.values())
    met = sum((p.attainment or 0.0) * p.requests for p in parts.values())
    usd = sum(usd_of.values())
    quality = [(p.quality, p.requests - p.dropped) for p in parts.values() if p.quality is not None]
    gpu_s = sum(p.accelerators * max(0.0, min(p.gone_s, world.end_s) - p.placed_s) for p in world.pods)
    held_s = sum(max(0.0, min(p.gone_s, world.end_s) - p.placed_s) for p in world.pods)
    return Score(
        scenario=scenario.name,
        policy=run.policy,
        attainment=met / count if count else None,
        usd=usd,
        usd_per_million_good_tokens=usd / good * MILLION if good else None,
        gpu_hours=gpu_s / SECONDS_PER_HOUR,
        joules_per_good_token=world.joules / good if good else None,
        quality=sum(q * n for q, n in quality) / sum(n for _, n in quality) if quality else None,
        actions=world.actions,
        replicas_mean=held_s / world.end_s,
        parts=parts,
        seed=scenario.seed,
    )


def good(requests: Requests, service: Service, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the selected requests met both targets; shape as `rows`."""
    slo = service.spec.slo
    gaps = (requests.finish_s - requests.first_s) / np.maximum(requests.output - 1, 1)
    inside = (requests.first_s - requests.arrival_s <= slo.ttft_s) & (gaps <= slo.itl_s)
    met: NDArray[np.bool_] = rows & (requests.life == FINISHED) & inside
    return met


def from_json(row: Mapping[str, Any]) -> Score:
    """The inverse of `asdict`; KeyError or TypeError if `row` is not a score."""
    values = {f.name: row[f.name] for f in fields(Score)}
    return Score(**values | {"parts": {k: Part(**v) for k, v in row["parts"].items()}})


def hopeless(best: Score, world: World) -> str:
    """
    Why an unfinished run can no longer beat the best one so far; empty if it still can.

    `dear`: the best run kept all promises, and this one has already spent more per token even if all tokens turn out
    good. `late`: more requests have already missed their targets than the target attainment allows and than missed
    them in the best run.
    """
    requests, now = world.fleet.state.requests, world.time_s
    spent = sum(world.market.bill_usd(pod, start_s=0.0, end_s=now) for pod in world.pods)
    least = spent / max(float(requests.output.sum()), 1.0) * MILLION
    if best.met and best.usd_per_million_good_tokens is not None and least > best.usd_per_million_good_tokens:
        return "dear"
    services = list(enumerate(world.scenario.services))
    # If the best run broke a promise, the attainment of the highest priority decides first.
    for index, service in services if best.met else [max(services, key=lambda s: s[1].spec.priority)]:
        part = best.parts[str(service.spec.key)]
        least_share = min(part.target, 1.0 if part.attainment is None else part.attainment)
        rows = requests.deployment == index
        late = rows & ((requests.life == DROPPED) | ((requests.life == FINISHED) & ~good(requests, service, rows)))
        if late.sum() > (1.0 - least_share) * rows.sum() + 1:
            return "late"
    return ""


def _part(requests: Requests, index: int, service: Service, run: Run, usd: float) -> Part:
    rows = (requests.deployment == index) & (requests.arrival_s < run.world.end_s)
    done = rows & (requests.life == FINISHED)
    met = good(requests, service, rows)
    count = int(rows.sum())
    ttft = (requests.first_s - requests.arrival_s)[done]
    long = done & (requests.output > 1)
    itl = (requests.finish_s - requests.first_s)[long] / (requests.output[long] - 1)
    qualities = np.array([run.scenario.service(k).spec.tier(n).quality for k, n in run.world.tiers])
    return Part(
        requests=count,
        attainment=float(met.sum() / count) if count else None,
        target=service.spec.slo.attainment,
        quality_target=max(service.spec.quality.minimum, service.spec.quality.average_minimum),
        quality=float(qualities[requests.tier[done]].mean()) if done.any() else None,
        dropped=count - int(done.sum()),
        ttft_s_p50=_percentile(ttft, 50),
        ttft_s_p95=_percentile(ttft, 95),
        ttft_s_p99=_percentile(ttft, 99),
        itl_s_p50=_percentile(itl, 50),
        itl_s_p95=_percentile(itl, 95),
        good_tokens=float(requests.output[met].sum()),
        usd=usd,
        usd_per_hour_peak=_peak(run, service),
        budget_usd_per_hour=service.spec.cost.budget_usd_per_hour,
        priority=service.spec.priority,
    )


def _peak(run: Run, service: Service) -> float:
    """Cost of the most expensive fleet of a deployment that the policy requested, $/h, at the prices of that tick."""
    spec, market = service.spec, run.world.market
    return max(
        (
            sum(
                row.wanted[spec.key, t.name] * t.accelerators_per_replica * market.price_usd(t.accelerator, row.time_s)
                for t in spec.tiers
            )
            for row in run.rows
        ),
        default=0.0,
    )


def _percentile(values: NDArray[np.float64], level: float) -> float | None:
    return float(np.percentile(values, level)) if len(values) else None


def _usd(run: Run) -> dict[Key, float]:
    world = run.world
    usd = {s.spec.key: 0.0 for s in run.scenario.services}
    for pod in world.pods:
        usd[world.tiers[pod.tier][0]] += world.market.bill_usd(pod, start_s=0.0, end_s=world.end_s)
    return usd
