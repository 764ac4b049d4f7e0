"""
A run as a few hundred points to draw.

In:    a run.
Out:   plain values: demand, replicas by tier, attainment and cost per interval of time, and the decisions.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.domain.key import Key
from tidegate.report.currency import priced
from tidegate.sim.runner import Run
from tidegate.sim.score import good

# Enough for a chart on a desktop screen: about one point per three pixels.
POINTS_MAX = 320
# If there are more decisions (a day of one deployment has about 260), only the last one of each interval and
# deployment is kept, so that the page stays small and each point of the chart still has its decision.
DECISIONS_MAX = 400


def edges_of(duration_s: float, tick_s: float) -> NDArray[np.float64]:
    """Edges of the intervals, s from the start, each a whole number of ticks; shape (intervals + 1,)."""
    ticks = int(np.ceil(duration_s / tick_s))
    step = max(1, int(np.ceil(ticks / POINTS_MAX)))
    edges = np.arange(0, ticks + step, step, dtype=np.float64) * tick_s
    edges[-1] = min(edges[-1], duration_s)
    return edges


def demand(run: Run) -> list[float]:
    """Arrivals per second in each interval, all deployments together."""
    edges = edges_of(run.scenario.duration_s, run.scenario.tick_s)
    counts = np.histogram(run.world.fleet.state.requests.arrival_s, edges)[0]
    return _rounded(counts / np.diff(edges), 3)


def series(run: Run) -> dict[str, Any]:
    """What the page shows of one policy; lists have one value per interval, None where nothing arrived."""
    scenario = run.scenario
    edges = edges_of(scenario.duration_s, scenario.tick_s)
    last = np.clip(np.searchsorted([r.time_s for r in run.rows], edges[1:], side="right") - 1, 0, None)
    picked = [run.rows[i] for i in last]
    labels = _labels(run.world.tiers)
    return {
        "replicas": {labels[t]: [row.ready[t] for row in picked] for t in run.world.tiers},
        "usdPerHour": _rounded([row.usd_per_hour for row in picked], 2),
        "usd": _rounded(_paid(run, edges[1:]), 3),
        "attainment": _attainment(run, edges),
        "decisions": _decisions(run, edges),
    }


def _labels(tiers: Iterable[tuple[Key, str]]) -> dict[tuple[Key, str], str]:
    """Label of each tier: with its deployment if there are several, and the namespace if two share a name."""
    names = names_of({key for key, _ in tiers})
    return {(key, tier): tier if len(names) == 1 else f"{names[key]} {tier}" for key, tier in tiers}


def names_of(keys: Iterable[Key]) -> dict[Key, str]:
    """Label of each deployment: its name; NAMESPACE/NAME for all of them if two share a name."""
    keys = list(keys)
    shared = len({key.name for key in keys}) < len(keys)
    return {key: str(key) if shared else key.name for key in keys}


def _paid(run: Run, times: Iterable[float]) -> list[float]:
    """Total cost up to each time, $."""
    world = run.world
    return [sum(world.market.bill_usd(pod, start_s=0.0, end_s=time_s) for pod in world.pods) for time_s in times]


def _attainment(run: Run, edges: NDArray[np.float64]) -> list[float | None]:
    """Of the requests that arrived in each interval, the share that met both targets; all deployments together."""
    requests = run.world.fleet.state.requests
    met = np.zeros(len(requests.arrival_s), dtype=bool)
    for index, service in enumerate(run.scenario.services):
        met |= good(requests, service, requests.deployment == index)
    came = np.histogram(requests.arrival_s, edges)[0]
    kept = np.histogram(requests.arrival_s[met], edges)[0]
    return [round(float(k / c), 4) if c else None for k, c in zip(kept, came, strict=True)]


def _decisions(run: Run, edges: NDArray[np.float64]) -> list[list[Any]]:
    """[time s, deployment, sentence] of each decision whose reason or replicas differ from the previous one."""
    found: list[list[Any]] = []
    names, code = names_of(service.spec.key for service in run.scenario.services), run.scenario.currency
    before: dict[Key, tuple[str, tuple[int, ...]]] = {}
    for row in run.rows:
        for key, sentence in row.reasons.items():
            fleet = tuple(n for t, n in row.wanted.items() if t[0] == key)
            now = (sentence.partition(":")[0], fleet)
            if before.get(key) != now:
                found.append([round(row.time_s), names[key], priced(sentence, code)])
                before[key] = now
    if len(found) <= DECISIONS_MAX:
        return found
    return sorted({(int(np.searchsorted(edges, each[0])), each[1]): each for each in found}.values())


def _rounded(values: Any, digits: int) -> list[float]:
    return [round(float(v), digits) for v in values]
